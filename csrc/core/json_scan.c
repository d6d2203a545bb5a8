/* json_scan.c - see json_scan.h. */
#include "json_scan.h"

#include <string.h>

static int is_digit(char c)
{
  return c >= '0' && c <= '9';
}

static int hex4(const char *at, unsigned *value)
{
  unsigned v = 0, i;

  for(i = 0; i < 4; i++) {
    char c = at[i];
    v <<= 4;
    if(is_digit(c))
      v |= (unsigned)(c - '0');
    else if(c >= 'a' && c <= 'f')
      v |= (unsigned)(c - 'a' + 10);
    else if(c >= 'A' && c <= 'F')
      v |= (unsigned)(c - 'A' + 10);
    else
      return 0;
  }
  *value = v;
  return 1;
}

/* Steps over bytes that are neither quote, backslash nor control, as far as
 * whole words of eight bytes reach. */
static inline const char *plain_words(const char *at, const char *end,
                                      unsigned *traits)
{
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  const uint64_t ones = UINT64_C(0x0101010101010101);
  const uint64_t tops = ones << 7;
  uint64_t high = 0;

  while(end - at >= 8) {
    uint64_t w, quote, slash, stop;
    memcpy(&w, at, 8);
    quote = w ^ (ones * '"');
    slash = w ^ (ones * '\\');
    /* the lowest top bit set is at the first such byte; above it there may be
       false ones */
    stop = (((quote - ones) & ~quote) | ((slash - ones) & ~slash) |
            ((w - ones * 0x20) & ~w)) & tops;
    if(stop) {
      unsigned n = (unsigned)__builtin_ctzll(stop) >> 3;
      if(n)
        high |= w << (64 - 8 * n);
      at += n;
      break;
    }
    high |= w;
    at += 8;
  }
  if(high & tops)
    *traits |= LC_JSON_HIGH;
#else
  (void)end;
  (void)traits;
#endif
  return at;
}

int lc_json_string(lc_json *j, unsigned *traits)
{
  const char *at = j->at, *end = j->end;

  *traits = 0;
  for(;;) {
    unsigned char c;
    unsigned code;

    at = plain_words(at, end, traits);
    if(at == end)
      return 0;
    c = (unsigned char)*at++;
    if(c == '"') {
      j->at = at;
      return 1;
    }
    if(c < 0x20)
      return 0;
    if(c >= 0x80)
      *traits |= LC_JSON_HIGH;
    if(c != '\\')
      continue;
    *traits |= LC_JSON_ESCAPES;
    if(at == end)
      return 0;
    switch(*at++) {
    case '"': case '\\': case '/': case 'b': case 'f': case 'n': case 'r':
    case 't':
      break;
    case 'u':
      if(end - at < 4 || !hex4(at, &code))
        return 0;
      at += 4;
      break;
    default:
      return 0;
    }
  }
}

int lc_json_literal(lc_json *j, const char *word, size_t len)
{
  if((size_t)(j->end - j->at) < len || memcmp(j->at, word, len))
    return 0;
  j->at += len;
  return 1;
}

int lc_json_digits(lc_json *j)
{
  const char *first = j->at;

  while(j->at < j->end && is_digit(*j->at))
    j->at++;
  return j->at > first;
}

static int number(lc_json *j)
{
  (void)lc_json_eat(j, '-');
  if(!lc_json_eat(j, '0') && !lc_json_digits(j))
    return 0;
  if(lc_json_eat(j, '.') && !lc_json_digits(j))
    return 0;
  if(lc_json_eat(j, 'e') || lc_json_eat(j, 'E')) {
    if(!lc_json_eat(j, '+'))
      (void)lc_json_eat(j, '-');
    return lc_json_digits(j);
  }
  return 1;
}

int lc_json_scalar(lc_json *j)
{
  unsigned traits;

  switch(lc_json_peek(j)) {
  case '"':
    j->at++;
    return lc_json_string(j, &traits);
  case 't': return lc_json_literal(j, "true", 4);
  case 'f': return lc_json_literal(j, "false", 5);
  case 'n': return lc_json_literal(j, "null", 4);
  default: return number(j);
  }
}

/* Steps over a key, its colon and the space around. */
static int skip_key(lc_json *j)
{
  unsigned traits;

  if(!lc_json_eat(j, '"') || !lc_json_string(j, &traits))
    return 0;
  lc_json_space(j);
  if(!lc_json_eat(j, ':'))
    return 0;
  lc_json_space(j);
  return 1;
}

int lc_json_skip(lc_json *j)
{
  uint64_t objects = 0; /* one bit per level, the innermost lowest */
  unsigned depth = 0;

  for(;;) {
    int open = lc_json_peek(j);
    if(open == '{' || open == '[') {
      if(++depth > LC_JSON_NESTING)
        return 0;
      objects = objects << 1 | (open == '{');
      j->at++;
      lc_json_space(j);
      if(lc_json_peek(j) != (open == '{' ? '}' : ']')) {
        if(open == '{' && !skip_key(j))
          return 0;
        continue;
      }
    }
    else if(!lc_json_scalar(j))
      return 0;
    else if(depth)
      lc_json_space(j);
    /* after a value, or at the end of an empty array or object */
    while(depth) {
      if(lc_json_eat(j, ',')) {
        lc_json_space(j);
        if((objects & 1) && !skip_key(j))
          return 0;
        break;
      }
      if(!lc_json_eat(j, (objects & 1) ? '}' : ']'))
        return 0;
      objects >>= 1;
      if(--depth)
        lc_json_space(j);
    }
    if(!depth)
      return 1;
  }
}

static char *put_utf8(char *to, unsigned code)
{
  if(code < 0x80)
    *to++ = (char)code;
  else if(code < 0x800) {
    *to++ = (char)(0xC0 | code >> 6);
    *to++ = (char)(0x80 | (code & 0x3F));
  }
  else if(code < 0x10000) {
    *to++ = (char)(0xE0 | code >> 12);
    *to++ = (char)(0x80 | (code >> 6 & 0x3F));
    *to++ = (char)(0x80 | (code & 0x3F));
  }
  else {
    *to++ = (char)(0xF0 | code >> 18);
    *to++ = (char)(0x80 | (code >> 12 & 0x3F));
    *to++ = (char)(0x80 | (code >> 6 & 0x3F));
    *to++ = (char)(0x80 | (code & 0x3F));
  }
  return to;
}

lc_rc lc_json_unescape(const char *at, size_t len, lc_buf *out,
                       unsigned *traits)
{
  const char *end = at + len;
  char *to;
  lc_rc rc;

  lc_buf_reset(out, SIZE_MAX);
  rc = lc_buf_reserve(out, len); /* an escape is longer than what it stands for */
  if(rc || !len)
    return rc;
  to = out->data;
  while(at < end) {
    const char *slash = memchr(at, '\\', (size_t)(end - at));
    size_t n = (size_t)((slash ? slash : end) - at);
    unsigned code, low;

    memcpy(to, at, n);
    to += n;
    if(!slash)
      break;
    at = slash + 2;
    switch(slash[1]) {
    case 'b': *to++ = '\b'; break;
    case 'f': *to++ = '\f'; break;
    case 'n': *to++ = '\n'; break;
    case 'r': *to++ = '\r'; break;
    case 't': *to++ = '\t'; break;
    case 'u':
      if(end - at < 4 || !hex4(at, &code))
        return LC_ERR_PARSE;
      at += 4;
      if(code >= 0xD800 && code <= 0xDFFF) {
        if(code > 0xDBFF || end - at < 6 || at[0] != '\\' || at[1] != 'u' ||
           !hex4(at + 2, &low) || low < 0xDC00 || low > 0xDFFF)
          return LC_ERR_PARSE;
        at += 6;
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
      }
      if(code >= 0x80)
        *traits |= LC_JSON_HIGH;
      to = put_utf8(to, code);
      break;
    default: *to++ = slash[1]; break; /* the character itself */
    }
  }
  out->end = (size_t)(to - out->data);
  return LC_OK;
}

int lc_utf8_valid(const char *text, size_t len)
{
  const unsigned char *at = (const unsigned char *)text, *end = at + len;

  while(at < end) {
    unsigned more, low = 0x80, high = 0xBF, c = *at++;
    if(c < 0x80)
      continue;
    if(c < 0xC2 || c > 0xF4)
      return 0;
    more = c < 0xE0 ? 1 : c < 0xF0 ? 2 : 3;
    if((size_t)(end - at) < more)
      return 0;
    if(c == 0xE0)
      low = 0xA0;
    else if(c == 0xED)
      high = 0x9F;
    else if(c == 0xF0)
      low = 0x90;
    else if(c == 0xF4)
      high = 0x8F;
    if(*at < low || *at > high)
      return 0;
    for(at++, more--; more; at++, more--) {
      if((*at & 0xC0) != 0x80)
        return 0;
    }
  }
  return 1;
}
