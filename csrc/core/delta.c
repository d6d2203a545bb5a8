/* delta.c - see delta.h.
 *
 * Each object on the way to the text has a table of the keys that may be in it
 * and what their values may be. A key that is not in the table may only be
 * null; anything else ends the scan with LC_DELTA_OTHER. The grammar of JSON is
 * checked to the end of the chunk, since a chunk that is cut short or followed
 * by more is not understood either.
 */
#include "delta.h"

#include "json_scan.h"

#include <string.h>

enum rule_kind {
  R_NULL,   /* null only */
  R_SCALAR, /* string, number, true, false, null */
  R_ANY,    /* anything */
  R_VOID,   /* null, "", [], {} */
  R_FALSE,
  R_WORD,   /* the string `word` */
  R_WORD0,  /* the string `word`, or null */
  R_TEXT,   /* the text */
  R_TEXT0,  /* the text, or null */
  R_INDEX,  /* a small whole number */
  R_ZERO,   /* 0 */
  R_OBJECT, /* an object with the keys of `sub` */
  R_ONE     /* an array of exactly one such object */
};

/* What was met (not as null). */
#define F_TEXT 1u
#define F_ROLE 2u
#define F_TYPE 4u
#define F_SUBTYPE 8u
#define F_DELTA 16u
#define F_DONE 32u
#define F_USAGE 64u

struct level;

struct rule {
  const char *name;
  unsigned char len;
  unsigned char kind;
  unsigned char flag;
  const char *word;
  const struct level *sub;
};

struct level {
  const struct rule *rules;
  unsigned count; /* at most 32 */
};

#define KEY(s) s, sizeof(s) - 1
#define LEVEL(rules) {rules, LC_ARRAY_LEN(rules)}

/* In the order in which servers send them: the next one is tried first. */
static const struct rule openai_delta[] = {
  {KEY("role"), R_WORD0, F_ROLE, "assistant", NULL},
  {KEY("content"), R_TEXT0, F_TEXT, NULL, NULL},
  {KEY("refusal"), R_VOID, 0, NULL, NULL},
  {KEY("reasoning_content"), R_VOID, 0, NULL, NULL},
  {KEY("reasoning"), R_VOID, 0, NULL, NULL},
  {KEY("reasoning_details"), R_VOID, 0, NULL, NULL},
  {KEY("function_call"), R_VOID, 0, NULL, NULL},
  {KEY("tool_calls"), R_VOID, 0, NULL, NULL},
  {KEY("annotations"), R_VOID, 0, NULL, NULL},
  {KEY("audio"), R_VOID, 0, NULL, NULL},
};
static const struct level openai_delta_level = LEVEL(openai_delta);
static const struct rule openai_choice[] = {
  {KEY("index"), R_ZERO, 0, NULL, NULL},
  {KEY("delta"), R_OBJECT, F_DELTA, NULL, &openai_delta_level},
  {KEY("logprobs"), R_NULL, 0, NULL, NULL},
  {KEY("finish_reason"), R_NULL, 0, NULL, NULL},
  {KEY("content_filter_results"), R_VOID, 0, NULL, NULL},
};
static const struct level openai_choice_level = LEVEL(openai_choice);
static const struct rule openai[] = {
  {KEY("id"), R_SCALAR, 0, NULL, NULL},
  {KEY("provider"), R_SCALAR, 0, NULL, NULL},
  {KEY("object"), R_SCALAR, 0, NULL, NULL},
  {KEY("created"), R_SCALAR, 0, NULL, NULL},
  {KEY("model"), R_SCALAR, 0, NULL, NULL},
  {KEY("service_tier"), R_SCALAR, 0, NULL, NULL},
  {KEY("system_fingerprint"), R_SCALAR, 0, NULL, NULL},
  {KEY("choices"), R_ONE, 0, NULL, &openai_choice_level},
  {KEY("usage"), R_NULL, 0, NULL, NULL},
  {KEY("obfuscation"), R_SCALAR, 0, NULL, NULL},
};

static const struct rule anthropic_delta[] = {
  {KEY("type"), R_WORD, F_SUBTYPE, "text_delta", NULL},
  {KEY("text"), R_TEXT, F_TEXT, NULL, NULL},
};
static const struct level anthropic_delta_level = LEVEL(anthropic_delta);
static const struct rule anthropic[] = {
  {KEY("type"), R_WORD, F_TYPE, "content_block_delta", NULL},
  {KEY("index"), R_INDEX, 0, NULL, NULL},
  {KEY("delta"), R_OBJECT, F_DELTA, NULL, &anthropic_delta_level},
};

static const struct rule gemini_part[] = {
  {KEY("text"), R_TEXT, F_TEXT, NULL, NULL},
};
static const struct level gemini_part_level = LEVEL(gemini_part);
static const struct rule gemini_content[] = {
  {KEY("parts"), R_ONE, 0, NULL, &gemini_part_level},
  {KEY("role"), R_WORD0, 0, "model", NULL},
};
static const struct level gemini_content_level = LEVEL(gemini_content);
static const struct rule gemini_candidate[] = {
  {KEY("content"), R_OBJECT, 0, NULL, &gemini_content_level},
  {KEY("finishReason"), R_NULL, 0, NULL, NULL},
  {KEY("index"), R_ZERO, 0, NULL, NULL},
  {KEY("safetyRatings"), R_VOID, 0, NULL, NULL},
  {KEY("citationMetadata"), R_VOID, 0, NULL, NULL},
  {KEY("groundingMetadata"), R_VOID, 0, NULL, NULL},
};
static const struct level gemini_candidate_level = LEVEL(gemini_candidate);
static const struct rule gemini[] = {
  {KEY("candidates"), R_ONE, 0, NULL, &gemini_candidate_level},
  {KEY("usageMetadata"), R_ANY, F_USAGE, NULL, NULL},
  {KEY("modelVersion"), R_SCALAR, 0, NULL, NULL},
  {KEY("createTime"), R_SCALAR, 0, NULL, NULL},
  {KEY("responseId"), R_SCALAR, 0, NULL, NULL},
};

static const struct rule ollama_message[] = {
  {KEY("role"), R_WORD0, 0, "assistant", NULL},
  {KEY("content"), R_TEXT, F_TEXT, NULL, NULL},
  {KEY("thinking"), R_VOID, 0, NULL, NULL},
  {KEY("images"), R_VOID, 0, NULL, NULL},
  {KEY("tool_calls"), R_VOID, 0, NULL, NULL},
};
static const struct level ollama_message_level = LEVEL(ollama_message);
static const struct rule ollama[] = {
  {KEY("model"), R_SCALAR, 0, NULL, NULL},
  {KEY("remote_model"), R_SCALAR, 0, NULL, NULL},
  {KEY("remote_host"), R_SCALAR, 0, NULL, NULL},
  {KEY("created_at"), R_SCALAR, 0, NULL, NULL},
  {KEY("message"), R_OBJECT, 0, NULL, &ollama_message_level},
  {KEY("done"), R_FALSE, F_DONE, NULL, NULL},
  {KEY("done_reason"), R_NULL, 0, NULL, NULL},
};

/* By lc_delta_kind: the outermost object, what must be met, what turns an
 * empty text into LC_DELTA_OTHER. */
static const struct {
  struct level root;
  unsigned need, not_empty;
} shapes[] = {
  {LEVEL(openai), F_DELTA, F_ROLE},
  {LEVEL(anthropic), F_TYPE | F_SUBTYPE | F_TEXT, 0},
  {LEVEL(gemini), F_TEXT, F_USAGE},
  {LEVEL(ollama), F_TEXT | F_DONE, 0},
};

struct scan {
  lc_json j;
  const char *text; /* still escaped */
  size_t text_len;
  unsigned text_traits;
  unsigned flags;
  int index;
};

/* Steps over null, "", [] or {}. */
static int empty(lc_json *j)
{
  int open = lc_json_peek(j);
  if(open == 'n')
    return lc_json_literal(j, "null", 4);
  if(open == '"')
    return lc_json_literal(j, "\"\"", 2);
  if(open != '[' && open != '{')
    return 0;
  j->at++;
  lc_json_space(j);
  return lc_json_eat(j, open == '[' ? ']' : '}');
}

/* A whole number below a million. */
static int small_number(lc_json *j, int *number)
{
  const char *first = j->at;
  int n = 0;

  if(!lc_json_digits(j) || j->at - first > 6 ||
     (*first == '0' && j->at - first > 1))
    return 0;
  for(; first < j->at; first++)
    n = n * 10 + (*first - '0');
  *number = n;
  return 1;
}

static int word(lc_json *j, const char *want)
{
  return lc_json_eat(j, '"') && lc_json_literal(j, want, strlen(want)) &&
         lc_json_eat(j, '"');
}

static int text(struct scan *s)
{
  const char *first;

  if(!lc_json_eat(&s->j, '"'))
    return 0;
  first = s->j.at;
  if(!lc_json_string(&s->j, &s->text_traits))
    return 0;
  s->text = first;
  s->text_len = (size_t)(s->j.at - first) - 1;
  return 1;
}

static int object(struct scan *s, const struct level *level);

static int one(struct scan *s, const struct level *level)
{
  if(!lc_json_eat(&s->j, '['))
    return 0;
  lc_json_space(&s->j);
  if(!object(s, level))
    return 0;
  lc_json_space(&s->j);
  return lc_json_eat(&s->j, ']');
}

/* The value of a key with the rule `r`, NULL if it has none. */
static int value(struct scan *s, const struct rule *r)
{
  unsigned kind = r ? r->kind : R_NULL;
  lc_json *j = &s->j;
  int ok, zero;

  if(lc_json_peek(j) == 'n' &&
     (kind == R_NULL || kind == R_WORD0 || kind == R_TEXT0))
    return lc_json_literal(j, "null", 4);
  switch(kind) {
  case R_SCALAR: ok = lc_json_scalar(j); break;
  case R_ANY: ok = lc_json_skip(j); break;
  case R_VOID: ok = empty(j); break;
  case R_FALSE: ok = lc_json_literal(j, "false", 5); break;
  case R_WORD:
  case R_WORD0: ok = word(j, r->word); break;
  case R_TEXT:
  case R_TEXT0: ok = text(s); break;
  case R_INDEX: ok = small_number(j, &s->index); break;
  case R_ZERO: ok = small_number(j, &zero) && zero == 0; break;
  case R_OBJECT: ok = object(s, r->sub); break;
  case R_ONE: ok = one(s, r->sub); break;
  default: ok = 0; break;
  }
  if(ok && r)
    s->flags |= r->flag;
  return ok;
}

/* The rule of a key, looked for from the `hint`-th on. */
static const struct rule *find(const struct level *level, const char *key,
                               size_t len, unsigned hint)
{
  unsigned i;

  for(i = 0; i < level->count; i++, hint++) {
    const struct rule *r;
    if(hint >= level->count)
      hint = 0;
    r = &level->rules[hint];
    if(r->len == len && r->name[0] == key[0] && !memcmp(r->name, key, len))
      return r;
  }
  return NULL;
}

static int object(struct scan *s, const struct level *level)
{
  lc_json *j = &s->j;
  unsigned hint = 0;
  uint32_t seen = 0;

  if(!lc_json_eat(j, '{'))
    return 0;
  lc_json_space(j);
  if(lc_json_eat(j, '}'))
    return 1;
  for(;;) {
    const struct rule *r;
    const char *key;
    unsigned traits;

    if(!lc_json_eat(j, '"'))
      return 0;
    key = j->at;
    /* a key with escapes may be any of ours in disguise */
    if(!lc_json_string(j, &traits) || (traits & LC_JSON_ESCAPES))
      return 0;
    r = find(level, key, (size_t)(j->at - key) - 1, hint);
    if(r) {
      hint = (unsigned)(r - level->rules);
      if(seen >> hint & 1)
        return 0;
      seen |= UINT32_C(1) << hint;
      hint++;
    }
    lc_json_space(j);
    if(!lc_json_eat(j, ':'))
      return 0;
    lc_json_space(j);
    if(!value(s, r))
      return 0;
    lc_json_space(j);
    if(lc_json_eat(j, '}'))
      return 1;
    if(!lc_json_eat(j, ','))
      return 0;
    lc_json_space(j);
  }
}

lc_delta_rc lc_delta_scan(lc_delta_kind kind, const char *json, size_t len,
                          lc_buf *scratch, lc_delta *out)
{
  struct scan s = {0};

  if((size_t)kind >= LC_ARRAY_LEN(shapes) || !len)
    return LC_DELTA_OTHER;
  s.j.at = json;
  s.j.end = json + len;
  lc_json_space(&s.j);
  if(!object(&s, &shapes[kind].root))
    return LC_DELTA_OTHER;
  lc_json_space(&s.j);
  if(s.j.at != s.j.end ||
     (s.flags & shapes[kind].need) != shapes[kind].need)
    return LC_DELTA_OTHER;
  if(!s.text_len)
    return s.flags & shapes[kind].not_empty ? LC_DELTA_OTHER : LC_DELTA_EMPTY;
  if(s.text_traits & LC_JSON_ESCAPES) {
    if(lc_json_unescape(s.text, s.text_len, scratch, &s.text_traits))
      return LC_DELTA_OTHER;
    s.text = lc_buf_data(scratch);
    s.text_len = lc_buf_len(scratch);
  }
  if((s.text_traits & LC_JSON_HIGH) && !lc_utf8_valid(s.text, s.text_len))
    return LC_DELTA_OTHER;
  out->text = s.text;
  out->len = s.text_len;
  out->index = s.index;
  out->ascii = !(s.text_traits & LC_JSON_HIGH);
  out->has_usage = !!(s.flags & F_USAGE);
  return LC_DELTA_TEXT;
}
