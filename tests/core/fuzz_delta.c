/* fuzz_delta.c - text deltas against a tree: a second, slower reading of the
 * same JSON must find the very text, and nothing else for the user. Built as
 * fuzz.h says. The first byte is the kind of server. */
#include "delta.h"
#include "fuzz.h"
#include "json_scan.h"

#include <ctype.h>

/* A value: its type is its first character ('0' for numbers). Members and
 * elements hang in a list. */
struct node {
  char type;
  const char *raw; /* string: between the quotes; else from its first byte on */
  size_t len;
  const char *key;
  size_t key_len;
  struct node *first, *next;
};

static struct node nodes[4096];
static size_t used;

static void blanks(const char **at, const char *end)
{
  while(*at < end && memchr(" \t\r\n", **at, 4))
    ++*at;
}

static int quoted(const char **at, const char *end, const char **raw, size_t *len)
{
  const char *p = *at;
  if(p == end || *p != '"')
    return 0;
  *raw = ++p;
  for(; p < end && *p != '"'; p++) {
    int i;
    if((unsigned char)*p < 0x20)
      return 0;
    if(*p != '\\')
      continue;
    if(++p == end || !memchr("\"\\/bfnrtu", *p, 9))
      return 0;
    for(i = 0; *p == 'u' && i < 4; i++)
      if(p + 1 + i >= end || !isxdigit((unsigned char)p[1 + i]))
        return 0;
  }
  if(p == end)
    return 0;
  *len = (size_t)(p - *raw);
  *at = p + 1;
  return 1;
}

static size_t run_of_digits(const char *p, const char *end)
{
  size_t n = 0;
  while(p + n < end && isdigit((unsigned char)p[n]))
    n++;
  return n;
}

static int number(const char **at, const char *end)
{
  const char *p = *at;
  size_t n;
  if(p < end && *p == '-')
    p++;
  n = run_of_digits(p, end);
  if(!n || (n > 1 && *p == '0'))
    return 0;
  p += n;
  if(p < end && *p == '.') {
    n = run_of_digits(++p, end);
    if(!n)
      return 0;
    p += n;
  }
  if(p < end && (*p == 'e' || *p == 'E')) {
    p++;
    if(p < end && (*p == '+' || *p == '-'))
      p++;
    n = run_of_digits(p, end);
    if(!n)
      return 0;
    p += n;
  }
  *at = p;
  return 1;
}

static struct node *parse(const char **at, const char *end, int depth)
{
  struct node *v, **tail;
  char close;

  blanks(at, end);
  if(*at == end || depth > 200 || used == sizeof(nodes) / sizeof(nodes[0]))
    return NULL;
  v = &nodes[used++];
  memset(v, 0, sizeof(*v));
  v->raw = *at;
  v->type = **at;
  if(v->type == '"')
    return quoted(at, end, &v->raw, &v->len) ? v : NULL;
  if(v->type != '{' && v->type != '[') {
    static const char *const words[] = {"true", "false", "null"};
    size_t i;
    for(i = 0; i < 3; i++)
      if((size_t)(end - *at) >= strlen(words[i]) &&
         !strncmp(*at, words[i], strlen(words[i]))) {
        v->len = strlen(words[i]);
        *at += v->len;
        return v;
      }
    v->type = '0';
    if(!number(at, end))
      return NULL;
    v->len = (size_t)(*at - v->raw);
    return v;
  }
  close = v->type == '{' ? '}' : ']';
  tail = &v->first;
  ++*at;
  blanks(at, end);
  if(*at < end && **at == close) {
    ++*at;
    return v;
  }
  for(;;) {
    const char *key = NULL;
    size_t key_len = 0;
    blanks(at, end);
    if(v->type == '{') {
      if(!quoted(at, end, &key, &key_len))
        return NULL;
      blanks(at, end);
      if(*at == end || *(*at)++ != ':')
        return NULL;
    }
    *tail = parse(at, end, depth + 1);
    if(!*tail)
      return NULL;
    (*tail)->key = key;
    (*tail)->key_len = key_len;
    tail = &(*tail)->next;
    blanks(at, end);
    if(*at == end)
      return NULL;
    if(**at == close) {
      ++*at;
      return v;
    }
    if(*(*at)++ != ',')
      return NULL;
  }
}

static int text_is(const struct node *v, const char *want)
{
  return v->type == '"' && v->len == strlen(want) &&
         !memcmp(v->raw, want, v->len);
}

/* The one member `key` of an object; NULL if there is none. */
static struct node *get(const struct node *v, const char *key)
{
  struct node *m, *found = NULL;
  MUST(v && v->type == '{');
  for(m = v->first; m; m = m->next) {
    MUST(!memchr(m->key, '\\', m->key_len));
    if(m->key_len == strlen(key) && !memcmp(m->key, key, m->key_len)) {
      MUST(!found);
      found = m;
    }
  }
  return found;
}

static struct node *only(const struct node *v)
{
  MUST(v && v->type == '[' && v->first && !v->first->next);
  return v->first;
}

/* Of the members of `v` only those in `names` (each with a blank behind it) may
 * be other than null, "", [], {}. */
static void nothing_but(const struct node *v, const char *names)
{
  struct node *m;
  for(m = v->first; m; m = m->next) {
    char name[100];
    if(m->type == 'n' || ((m->type == '[' || m->type == '{') && !m->first) ||
       (m->type == '"' && !m->len))
      continue;
    MUST(m->key_len < 90);
    snprintf(name, sizeof(name), "%.*s ", (int)m->key_len, m->key);
    MUST(strstr(names, name) != NULL);
  }
}

/* Where the text of a chunk is; NULL if it has none. Checks all around. */
static struct node *locate(lc_delta_kind kind, const struct node *root, int empty,
                           int *usage)
{
  struct node *v, *m;

  *usage = 0;
  switch(kind) {
  case LC_DELTA_OPENAI:
    nothing_but(root, "id provider object created model service_tier "
                      "system_fingerprint choices obfuscation ");
    v = only(get(root, "choices"));
    nothing_but(v, "index delta ");
    m = get(v, "index");
    MUST(!m || (m->len == 1 && *m->raw == '0'));
    m = get(v, "finish_reason");
    MUST(!m || m->type == 'n');
    v = get(v, "delta");
    MUST(v && v->type == '{');
    nothing_but(v, "role content ");
    m = get(v, "role");
    MUST(!m || m->type == 'n' || (!empty && text_is(m, "assistant")));
    return get(v, "content");
  case LC_DELTA_ANTHROPIC:
    nothing_but(root, "type index delta ");
    MUST(text_is(get(root, "type"), "content_block_delta"));
    v = get(root, "delta");
    nothing_but(v, "type text ");
    MUST(text_is(get(v, "type"), "text_delta"));
    return get(v, "text");
  case LC_DELTA_GEMINI:
    nothing_but(root, "candidates usageMetadata modelVersion createTime responseId ");
    *usage = get(root, "usageMetadata") != NULL;
    v = only(get(root, "candidates"));
    nothing_but(v, "content index ");
    m = get(v, "finishReason");
    MUST(!m || m->type == 'n');
    m = get(v, "index");
    MUST(!m || (m->len == 1 && *m->raw == '0'));
    v = get(v, "content");
    nothing_but(v, "parts role ");
    v = only(get(v, "parts"));
    nothing_but(v, "text ");
    return get(v, "text");
  default:
    nothing_but(root, "model remote_model remote_host created_at message done ");
    m = get(root, "done");
    MUST(m && m->type == 'f');
    v = get(root, "message");
    nothing_but(v, "role content ");
    return get(v, "content");
  }
}

/* The text of a string without its escapes, by the byte. */
static size_t plain(const struct node *v, char *to)
{
  char *start = to;
  size_t i;

  for(i = 0; i < v->len; i++) {
    static const char from[] = "bfnrt", code[] = "\b\f\n\r\t";
    const char *short_form;
    unsigned long unit, low;
    char hex[5] = "";
    if(v->raw[i] != '\\') {
      *to++ = v->raw[i];
      continue;
    }
    i++;
    if(v->raw[i] != 'u') {
      short_form = strchr(from, v->raw[i]);
      *to++ = short_form ? code[short_form - from] : v->raw[i];
      continue;
    }
    memcpy(hex, v->raw + i + 1, 4);
    unit = strtoul(hex, NULL, 16);
    i += 4;
    if(unit >= 0xD800 && unit < 0xE000) {
      MUST(unit < 0xDC00 && i + 6 < v->len && v->raw[i + 1] == '\\');
      memcpy(hex, v->raw + i + 3, 4);
      low = strtoul(hex, NULL, 16);
      MUST(low >= 0xDC00 && low < 0xE000);
      i += 6;
      unit = 0x10000 + (unit - 0xD800) * 0x400 + (low - 0xDC00);
    }
    if(unit < 0x80)
      *to++ = (char)unit;
    else {
      int more = unit < 0x800 ? 1 : unit < 0x10000 ? 2 : 3;
      *to++ = (char)((unit >> (6 * more)) | (0xFF00u >> (more + 1)));
      while(more--)
        *to++ = (char)(0x80 | ((unit >> (6 * more)) & 0x3F));
    }
  }
  return (size_t)(to - start);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static char want[8192];
  const char *json, *at, *end;
  struct node *root, *text;
  lc_delta_kind kind;
  lc_delta_rc rc;
  lc_buf scratch;
  lc_delta d;
  int usage;
  size_t n, len;

  if(size < 1 || size > 4096)
    return 0;
  kind = (lc_delta_kind)(data[0] & 3);
  json = at = (const char *)data + 1;
  len = size - 1;
  end = json + len;
  lc_buf_init(&scratch, data[0] & 4 ? data[0] >> 3 : 8192);
  rc = lc_delta_scan(kind, json, len, &scratch, &d);
  if(rc == LC_DELTA_OTHER) {
    lc_buf_free(&scratch);
    return 0;
  }
  used = 0;
  root = parse(&at, end, 0);
  MUST(root && root->type == '{');
  blanks(&at, end);
  MUST(at == end);
  text = locate(kind, root, rc == LC_DELTA_EMPTY, &usage);
  if(rc == LC_DELTA_EMPTY)
    MUST(!usage && (!text || text->type == 'n' || text_is(text, "")));
  else {
    MUST(text && text->type == '"' && d.len);
    n = plain(text, want);
    MUST(n == d.len && !memcmp(want, d.text, n));
    MUST(lc_utf8_valid(d.text, d.len));
    MUST(d.has_usage == (unsigned)usage);
    while(n && !(want[n - 1] & 0x80))
      n--;
    MUST(d.ascii == !n);
  }
  /* cut short it is not sure */
  while(len && json[len - 1] != '}')
    len--;
  n = (size_t)data[size / 2] * 16 % len;
  at = fuzz_copy(json, n);
  MUST(lc_delta_scan(kind, at, n, &scratch, &d) == LC_DELTA_OTHER);
  free((void *)(uintptr_t)at);
  lc_buf_free(&scratch);
  return 0;
}
