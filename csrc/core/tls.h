/* tls.h - one certificate store per TLS identity, put into every connection.
 *
 * Job: load the trusted certificates once (libcurl alone would parse the whole
 * bundle for each connection: 20 ms and 0.8 MB) and hand them to OpenSSL from
 * CURLOPT_SSL_CTX_FUNCTION. Works only when this library and libcurl use the
 * very same OpenSSL; lc_tls_usable tells. Not its job: client certificates
 * (libcurl's own options). Used by: pool. Threads: the reactor's.
 */
#ifndef LC_TLS_H
#define LC_TLS_H

#include "lc_common.h"

typedef struct lc_tls lc_tls;

/* What is put into each connection's SSL_CTX. */
typedef struct lc_tls_rules {
  lc_tls *store; /* NULL = as libcurl has it */
  uint64_t options; /* SSL_OP_*, added */
  unsigned long verify_flags; /* X509_V_FLAG_*, added */
} lc_tls_rules;

/* 1 when libcurl runs on the OpenSSL that this library was linked with. */
int lc_tls_usable(void);
/* The paths compiled into OpenSSL, whether or not anything is there. Static. */
void lc_tls_defaults(const char **file, const char **dir);
/* Loads PEM certificates. `files` and `dirs` are NULL-terminated lists of
 * paths, `pem` (may be NULL) holds further certificates in memory;
 * `system_default` adds the paths compiled into OpenSSL. On failure returns
 * NULL and writes one line into `err`. Returns an owned reference. */
lc_tls *lc_tls_new(const char *const *files, const char *const *dirs,
                   const char *pem, size_t pem_len, int system_default,
                   char *err, size_t errlen);
lc_tls *lc_tls_ref(lc_tls *tls);
void lc_tls_unref(lc_tls *tls);
/* A CURLOPT_SSL_CTX_FUNCTION; userp is an lc_tls_rules. Does nothing unless lc_tls_usable. */
int lc_tls_ctx_callback(void *easy, void *ssl_ctx, void *userp);
/* 1 when the handshake on the CURL handle's connection ended with anything but
 * "h2" chosen; 0 also when that cannot be told. Reads only, so it may be called
 * from a callback. */
int lc_tls_refused_h2(void *easy);
/* Lets OpenSSL take from the connection's socket more than the record it needs. From then on bytes may
 * wait inside it while the socket is silent: lc_tls_unread tells. */
void lc_tls_read_ahead(void *easy);
/* 1 when bytes of the handle's connection wait inside OpenSSL, perhaps too few to be a record; 0 when there
 * are none, -1 when the handle has no connection. */
int lc_tls_unread(void *easy);
/* OpenSSL's names of the version and the cipher of the handle's connection; "" when not
 * known. From a callback of a transfer that has one. */
void lc_tls_describe(void *easy, char *version, size_t version_len, char *cipher, size_t cipher_len);

#endif
