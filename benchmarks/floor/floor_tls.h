/* floor_tls.h - one certificate store for all connections.
 *
 * Job: load a PEM file once, hand it to every SSL_CTX; read-ahead, and what it hides.
 * Not its job: any other TLS option. Used by: floor.c. Threads: one.
 */
#ifndef FLOOR_TLS_H
#define FLOOR_TLS_H

#include <curl/curl.h>

/* Loads the PEM file. 0, or -1 after a message on stderr (also when libcurl
 * does not run on OpenSSL). */
int floor_tls_init(const char *ca_file);
/* Sets the TLS options of one easy handle. `ahead`: leave read-ahead as libcurl has it. */
void floor_tls_apply(CURL *easy, const char *ca_file, int ahead);
/* 1: bytes of its connection wait inside OpenSSL; 0: none do; -1: it has no connection. */
int floor_tls_unread(CURL *easy);
void floor_tls_free(void);

#endif
