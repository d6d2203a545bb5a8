/* floor_tls.c - one certificate store for all connections.
 *
 * Job: load a PEM file once, hand it to every SSL_CTX; read-ahead, with which
 * libcurl >= 8.15 in event mode can leave answers inside OpenSSL.
 * Not its job: any other TLS option. Used by: floor.c. Threads: one.
 */
#include "floor_tls.h"

#include <openssl/ssl.h>
#include <stdio.h>
#include <string.h>

static X509_STORE *store; /* owned; shared by reference with each SSL_CTX */

int floor_tls_init(const char *ca_file)
{
  const curl_version_info_data *v = curl_version_info(CURLVERSION_NOW);
  if(!v->ssl_version || !strstr(v->ssl_version, "OpenSSL/")) {
    fprintf(stderr, "floor: libcurl uses %s, not OpenSSL\n",
            v->ssl_version ? v->ssl_version : "no TLS");
    return -1;
  }
  store = X509_STORE_new();
  if(!store || X509_STORE_load_locations(store, ca_file, NULL) != 1) {
    fprintf(stderr, "floor: cannot load %s\n", ca_file);
    return -1;
  }
  return 0;
}

static CURLcode on_ssl_ctx(CURL *easy, void *ctx, void *user)
{
  (void)easy;
  SSL_CTX_set1_cert_store(ctx, store);
  if(!user)
    SSL_CTX_set_read_ahead((SSL_CTX *)ctx, 0);
  return CURLE_OK;
}

int floor_tls_unread(CURL *easy)
{
  struct curl_tlssessioninfo *info = NULL;
  if(curl_easy_getinfo(easy, CURLINFO_TLS_SSL_PTR, &info) || !info || !info->internals)
    return -1;
  return SSL_has_pending(info->internals);
}

void floor_tls_apply(CURL *easy, const char *ca_file, int ahead)
{
  static char yes;
  curl_easy_setopt(easy, CURLOPT_CAINFO, ca_file);
  curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
  curl_easy_setopt(easy, CURLOPT_SSL_CTX_FUNCTION, on_ssl_ctx);
  curl_easy_setopt(easy, CURLOPT_SSL_CTX_DATA, ahead ? &yes : NULL);
}

void floor_tls_free(void)
{
  X509_STORE_free(store);
  store = NULL;
}
