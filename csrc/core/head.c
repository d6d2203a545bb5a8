/* head.c - see head.h. */
#include "head.h"

#include <string.h>

#define HEAD_KEEP 4096  /* bytes of memory kept between answers */
#define HEAD_FIRST 1024 /* room for a usual block in one allocation */

enum {
  HEAD_IDLE,  /* no block yet: a status line is due */
  HEAD_FINAL, /* inside a block that is kept */
  HEAD_INTERIM, /* inside a 1xx block */
  HEAD_DONE   /* after a final block: trailers, or a new status line */
};

void lc_head_init(lc_head *h, size_t max)
{
  memset(h, 0, sizeof(*h));
  lc_buf_init(&h->block, max);
  h->content_length = -1;
}

/* Forgets the block, keeps its memory and the state. */
static void clear(lc_head *h)
{
  lc_buf_reset(&h->block, SIZE_MAX);
  h->content_length = -1;
  h->status = 0;
  h->version = 0;
  h->complete = 0;
  h->has_encoding = 0;
  h->has_location = 0;
  h->has_set_cookie = 0;
  h->switching = 0;
  h->length_seen = 0;
  h->length_bad = 0;
  h->line_at = 0;
}

void lc_head_reset(lc_head *h)
{
  clear(h);
  lc_buf_reset(&h->block, HEAD_KEEP);
  h->state = HEAD_IDLE;
  h->total = 0;
}

void lc_head_free(lc_head *h)
{
  size_t max = h->block.max;
  lc_buf_free(&h->block);
  lc_head_init(h, max);
}

static int is_digit(char c)
{
  return c >= '0' && c <= '9';
}

static int is_blank(char c)
{
  return c == ' ' || c == '\t';
}

/* Whether `text` is `lower` (which is in lower case) in any case. */
static int same_name(const char *text, const char *lower, size_t len)
{
  size_t i;
  for(i = 0; i < len; i++) {
    char c = text[i];
    if(c >= 'A' && c <= 'Z')
      c = (char)(c + 32);
    if(c != lower[i])
      return 0;
  }
  return 1;
}

/* "HTTP/1.1 200 OK", "HTTP/2 200". Zero when it is none. */
static int status_line(const char *line, size_t len, int *version, int *status)
{
  size_t i = 5;
  int major, minor = 0;

  if(len < 10 || memcmp(line, "HTTP/", 5) || !is_digit(line[i]))
    return 0;
  major = line[i++] - '0';
  if(line[i] == '.') {
    if(!is_digit(line[i + 1]))
      return 0;
    minor = line[i + 1] - '0';
    i += 2;
  }
  if(!is_blank(line[i]))
    return 0;
  while(i < len && is_blank(line[i]))
    i++;
  if(len - i < 3 || line[i] < '1' || line[i] > '9' || !is_digit(line[i + 1]) ||
     !is_digit(line[i + 2]) || (len - i > 3 && !is_blank(line[i + 3])))
    return 0;
  *version = major * 10 + minor;
  *status = (line[i] - '0') * 100 + (line[i + 1] - '0') * 10 +
            (line[i + 2] - '0');
  return 1;
}

static void content_length(lc_head *h, const char *value, size_t len)
{
  int64_t n = 0;
  size_t i;

  if(!len || len > 18)
    n = -1;
  for(i = 0; n >= 0 && i < len; i++)
    n = is_digit(value[i]) ? n * 10 + (value[i] - '0') : -1;
  if(n < 0 || (h->length_seen && n != h->content_length))
    h->length_bad = 1;
  h->length_seen = 1;
  h->content_length = h->length_bad ? -1 : n;
}

/* Looks at the line `line`, which has no line end, for the fields of lc_head. */
static void note_field(lc_head *h, const char *line, size_t len)
{
  static const struct {
    const char *name;
    size_t len;
  } known[] = {{"content-encoding", 16},
               {"content-length", 14},
               {"location", 8},
               {"set-cookie", 10}};
  size_t first, last, i;

  switch(len ? line[0] | 0x20 : 0) {
  case 'c': first = 0, last = 1; break;
  case 'l': first = last = 2; break;
  case 's': first = last = 3; break;
  default: return;
  }
  for(; first <= last; first++) {
    i = known[first].len;
    if(len <= i || (line[i] != ':' && !is_blank(line[i])) ||
       !same_name(line, known[first].name, i))
      continue;
    while(i < len && is_blank(line[i]))
      i++;
    if(i == len || line[i] != ':')
      return;
    i++;
    while(i < len && is_blank(line[i]))
      i++;
    while(len > i && is_blank(line[len - 1]))
      len--;
    line += i;
    len -= i;
    if(first == 0)
      h->has_encoding |= len && (len != 8 || !same_name(line, "identity", 8));
    else if(first == 1)
      content_length(h, line, len);
    else if(first == 2)
      h->has_location = 1;
    else
      h->has_set_cookie = 1;
    return;
  }
}

/* Puts the line and CRLF at the end of the block. */
static lc_rc keep_line(lc_head *h, const char *line, size_t len)
{
  lc_buf *b = &h->block;
  lc_rc rc;

  if(len > SIZE_MAX - 2)
    return LC_ERR_LIMIT;
  rc = lc_buf_reserve(b, len + 2);
  if(rc)
    return rc;
  h->line_at = lc_buf_len(b);
  memcpy(b->data + b->end, line, len);
  memcpy(b->data + b->end + len, "\r\n", 2);
  b->end += len + 2;
  return LC_OK;
}

/* Hangs a folded line on the line before, behind one space. */
static lc_rc unfold(lc_head *h, const char *line, size_t len)
{
  lc_buf *b = &h->block;
  lc_rc rc;

  while(len && is_blank(line[0])) {
    line++;
    len--;
  }
  if(!len || !h->line_at) /* nothing to add, or nothing but a status line */
    return LC_OK;
  rc = lc_buf_reserve(b, len + 1);
  if(rc)
    return rc;
  b->end -= 2;
  b->data[b->end++] = ' ';
  memcpy(b->data + b->end, line, len);
  memcpy(b->data + b->end + len, "\r\n", 2);
  b->end += len + 2;
  line = lc_buf_data(b) + h->line_at;
  len = lc_buf_len(b) - h->line_at - 2;
  note_field(h, line, len);
  return LC_OK;
}

static lc_rc open_block(lc_head *h, const char *line, size_t len, int version,
                        int status)
{
  clear(h);
  if(status == 101) {
    h->switching = 1;
    return LC_ERR_PARSE;
  }
  if(status < 200) {
    h->state = HEAD_INTERIM;
    return LC_OK;
  }
  h->state = HEAD_FINAL;
  h->version = version;
  h->status = status;
  if(!h->block.data && len < HEAD_FIRST) {
    size_t max = h->block.max;
    lc_rc rc = lc_buf_reserve(&h->block, max < HEAD_FIRST ? max : HEAD_FIRST);
    if(rc)
      return rc;
  }
  return keep_line(h, line, len);
}

lc_rc lc_head_line(lc_head *h, const char *line, size_t len)
{
  int version, status;
  lc_rc rc;

  if(len && line[len - 1] == '\n')
    len--;
  if(len && line[len - 1] == '\r')
    len--;
  if(len) {
    if(len > SIZE_MAX - 2 || len + 2 > h->block.max - h->total)
      return LC_ERR_LIMIT;
    h->total += len + 2;
  }
  if(len && line[0] == 'H' && status_line(line, len, &version, &status))
    return open_block(h, line, len, version, status);
  switch(h->state) {
  case HEAD_IDLE:
    return LC_ERR_PARSE;
  case HEAD_INTERIM:
    if(!len)
      h->state = HEAD_IDLE;
    return LC_OK;
  case HEAD_DONE:
    return LC_OK;
  default:
    break;
  }
  if(!len) {
    h->state = HEAD_DONE;
    h->complete = 1;
    return LC_EOF;
  }
  if(is_blank(line[0]))
    return unfold(h, line, len);
  rc = keep_line(h, line, len);
  if(!rc)
    note_field(h, line, len);
  return rc;
}
