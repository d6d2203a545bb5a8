/* tls.c - see tls.h. */
#include "tls.h"

#include "lc_alloc.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#if LC_HAVE_OPENSSL
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

struct lc_tls {
  X509_STORE *store; /* owned; each SSL_CTX takes its own reference */
  _Atomic int refs; /* pools of several threads may share it */
};

static pthread_once_t compared = PTHREAD_ONCE_INIT;
static int usable;

/* Once: curl_version_info writes all its strings anew for every question. */
static void compare_versions(void)
{
  char mine[32];
  const char *theirs = curl_version_info(CURLVERSION_NOW)->ssl_version;
  const char *version = OpenSSL_version(OPENSSL_VERSION); /* "OpenSSL 3.0.19 ..." */
  size_t len;

  if(!theirs || strncmp(version, "OpenSSL ", 8))
    return;
  len = strcspn(version + 8, " ");
  if(len + 9 > sizeof(mine))
    return;
  snprintf(mine, sizeof(mine), "OpenSSL/%.*s", (int)len, version + 8);
  /* MultiSSL builds list several backends, those not in use in parentheses */
  usable = strncmp(theirs, mine, strlen(mine)) == 0;
}

int lc_tls_usable(void)
{
  pthread_once(&compared, compare_versions);
  return usable;
}

void lc_tls_defaults(const char **file, const char **dir)
{
  *file = X509_get_default_cert_file();
  *dir = X509_get_default_cert_dir();
}

static lc_rc load_pem(X509_STORE *store, const char *pem, size_t len)
{
  BIO *bio = BIO_new_mem_buf(pem, (int)len);
  X509 *cert;
  int count = 0, ok = 1;

  if(!bio)
    return LC_ERR_NOMEM;
  while(ok && (cert = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
    ok = X509_STORE_add_cert(store, cert) == 1; /* one that is there already is fine */
    X509_free(cert);
    count++;
  }
  BIO_free(bio);
  ERR_clear_error();
  return !ok ? LC_ERR_NOMEM : count ? LC_OK : LC_ERR_PARSE;
}

lc_tls *lc_tls_new(const char *const *files, const char *const *dirs,
                   const char *pem, size_t pem_len, int system_default,
                   char *err, size_t errlen)
{
  lc_tls *tls = lc_calloc(1, sizeof(*tls));
  const char *const *path;

  snprintf(err, errlen, "out of memory");
  if(!tls)
    return NULL;
  tls->refs = 1;
  tls->store = X509_STORE_new();
  if(!tls->store)
    goto error;
  if(system_default && X509_STORE_set_default_paths(tls->store) != 1) {
    snprintf(err, errlen, "OpenSSL cannot use its default certificate paths");
    goto error;
  }
  for(path = files; path && *path; path++) {
    if(X509_STORE_load_locations(tls->store, *path, NULL) != 1) {
      snprintf(err, errlen, "no PEM certificates could be read from the file %s", *path);
      goto error;
    }
  }
  for(path = dirs; path && *path; path++) {
    if(X509_STORE_load_locations(tls->store, NULL, *path) != 1) {
      snprintf(err, errlen, "the certificate directory %s cannot be used", *path);
      goto error;
    }
  }
  if(pem) {
    lc_rc rc = load_pem(tls->store, pem, pem_len);
    if(rc == LC_ERR_PARSE)
      snprintf(err, errlen, "the certificate data holds no PEM certificate");
    if(rc)
      goto error;
  }
  /* as libcurl does: a chain may end at any trusted certificate */
  X509_STORE_set_flags(tls->store, X509_V_FLAG_TRUSTED_FIRST | X509_V_FLAG_PARTIAL_CHAIN);
  ERR_clear_error();
  return tls;
error:
  ERR_clear_error();
  lc_tls_unref(tls);
  return NULL;
}

lc_tls *lc_tls_ref(lc_tls *tls)
{
  tls->refs++;
  return tls;
}

void lc_tls_unref(lc_tls *tls)
{
  if(tls && --tls->refs == 0) {
    X509_STORE_free(tls->store);
    lc_free(tls);
  }
}

int lc_tls_ctx_callback(void *easy, void *ssl_ctx, void *userp)
{
  const lc_tls_rules *rules = userp;
  (void)easy;
  if(rules->store)
    SSL_CTX_set1_cert_store(ssl_ctx, rules->store->store);
  if(rules->options)
    SSL_CTX_set_options(ssl_ctx, rules->options);
  if(rules->verify_flags && X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(ssl_ctx), rules->verify_flags) != 1)
    return CURLE_SSL_CERTPROBLEM;
  /* libcurl >= 8.15 reads ahead: the last records of a burst then sit inside
     the SSL object while the socket shows nothing, and nobody comes for them.
     Where that pays, with HTTP/2, it is switched on again and looked after. */
  SSL_CTX_set_read_ahead(ssl_ctx, 0);
#ifdef SSL_OP_IGNORE_UNEXPECTED_EOF
  /* A close without close_notify ends a body that has no other end, as in
     httpx and aiohttp; libcurl 8 would call it an error. One that was promised
     (Content-Length, chunks, HTTP/2 frames) is still found to be cut short. */
  SSL_CTX_set_options(ssl_ctx, SSL_OP_IGNORE_UNEXPECTED_EOF);
#endif
  return CURLE_OK;
}

/* The handle's connection, NULL = it has none, or none of this OpenSSL. */
static SSL *ssl_of(void *easy)
{
  struct curl_tlssessioninfo *info = NULL;
  if(!lc_tls_usable() || curl_easy_getinfo((CURL *)easy, CURLINFO_TLS_SSL_PTR, &info) || !info)
    return NULL;
  return info->internals;
}

int lc_tls_refused_h2(void *easy)
{
  const SSL *ssl = ssl_of(easy);
  const unsigned char *name = NULL;
  unsigned len = 0;
  if(!ssl)
    return 0;
  SSL_get0_alpn_selected(ssl, &name, &len);
  return len != 2 || memcmp(name, "h2", 2) != 0;
}

void lc_tls_read_ahead(void *easy)
{
  SSL *ssl = ssl_of(easy);
  if(ssl)
    SSL_set_read_ahead(ssl, 1);
}

int lc_tls_unread(void *easy)
{
  const SSL *ssl = ssl_of(easy);
  return ssl ? SSL_has_pending(ssl) : -1;
}

void lc_tls_describe(void *easy, char *version, size_t version_len, char *cipher, size_t cipher_len)
{
  const SSL *ssl = ssl_of(easy);
  version[0] = cipher[0] = '\0';
  if(!ssl)
    return;
  snprintf(version, version_len, "%s", SSL_get_version(ssl));
  snprintf(cipher, cipher_len, "%s", SSL_get_cipher_name(ssl));
}

#else

void lc_tls_read_ahead(void *easy)
{
  (void)easy;
}

int lc_tls_unread(void *easy)
{
  (void)easy;
  return -1;
}

int lc_tls_refused_h2(void *easy)
{
  (void)easy;
  return 0;
}

int lc_tls_usable(void)
{
  return 0;
}

void lc_tls_defaults(const char **file, const char **dir)
{
  *file = *dir = "";
}

lc_tls *lc_tls_new(const char *const *files, const char *const *dirs,
                   const char *pem, size_t pem_len, int system_default,
                   char *err, size_t errlen)
{
  (void)files;
  (void)dirs;
  (void)pem;
  (void)pem_len;
  (void)system_default;
  snprintf(err, errlen, "built without OpenSSL");
  return NULL;
}

lc_tls *lc_tls_ref(lc_tls *tls)
{
  return tls;
}

void lc_tls_unref(lc_tls *tls)
{
  (void)tls;
}

int lc_tls_ctx_callback(void *easy, void *ssl_ctx, void *userp)
{
  (void)easy;
  (void)ssl_ctx;
  (void)userp;
  return CURLE_OK;
}

void lc_tls_describe(void *easy, char *version, size_t version_len, char *cipher, size_t cipher_len)
{
  (void)easy;
  (void)version_len;
  (void)cipher_len;
  version[0] = cipher[0] = '\0';
}

#endif
