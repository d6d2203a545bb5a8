/* test_delta.c - text deltas out of the chunks of four kinds of servers. */
#include "check.h"

#include "delta.h"
#include "json_scan.h"

#define OA LC_DELTA_OPENAI
#define AN LC_DELTA_ANTHROPIC
#define GE LC_DELTA_GEMINI
#define OL LC_DELTA_OLLAMA

static const char *const kind_names[] = {"openai", "anthropic", "gemini", "ollama"};

static lc_delta_rc scan(lc_delta_kind kind, const char *json, size_t len,
                        lc_buf *scratch, lc_delta *out)
{
  return lc_delta_scan(kind, guard_put(json, len), len, scratch, out);
}

/* Chunks that hold a text. */
static const struct {
  lc_delta_kind kind;
  const char *json, *text;
  size_t json_len, text_len;
} texts[] = {
#define TEXT(kind, json, text) {kind, json, text, sizeof(json) - 1, sizeof(text) - 1}
  TEXT(OA, "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":17,"
       "\"model\":\"gpt-4o\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp\","
       "\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"},\"logprobs\":null,"
       "\"finish_reason\":null}],\"usage\":null,\"obfuscation\":\"Xy\"}", "Hello"),
  TEXT(OA, "{\"choices\":[{\"delta\":{\"content\":\" a\"}}]}", " a"),
  TEXT(OA, "\r\n\t {\n \"choices\" : [ {\t\"delta\" :\r{ \"content\" : \"x\" } , "
       "\"index\" : 0 } ] , \"id\" : \"1\" } \n", "x"),
  TEXT(OA, "{\"choices\":[{\"finish_reason\":null,\"delta\":{\"tool_calls\":null,"
       "\"content\":\"x\",\"role\":\"assistant\"},\"index\":0}],\"model\":\"m\"}", "x"),
  TEXT(OA, "{\"choices\":[{\"delta\":{\"role\":null,\"content\":\"x\",\"tool_calls\":[ ],"
       "\"reasoning_content\":\"\",\"function_call\":{},\"new_thing\":null},"
       "\"stop_reason\":null,\"content_filter_results\":{}}],\"usage\":null,"
       "\"prompt_token_ids\":null}", "x"),
  TEXT(OA, "{\"created\":-1.5e+10,\"id\":true,\"model\":0,\"choices\":[{\"delta\":"
       "{\"content\":\"x\"}}]}", "x"),
  TEXT(OA, "{\"id\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\ud83d\",\"choices\":[{\"delta\":"
       "{\"content\":\"x\"}}]}", "x"),
  TEXT(AN, "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":"
       "\"text_delta\",\"text\":\"Hi\"}}", "Hi"),
  TEXT(AN, "{\"delta\": {\"text\": \"Hi\", \"type\": \"text_delta\"}, \"index\": 3, "
       "\"type\": \"content_block_delta\"}", "Hi"),
  TEXT(AN, "{\"type\":\"content_block_delta\",\"index\":999999,\"delta\":{\"type\":"
       "\"text_delta\",\"text\":\"Hi\"}}", "Hi"),
  TEXT(GE, "{\"candidates\": [{\"content\": {\"parts\": [{\"text\": \"Hi\"}],\"role\": "
       "\"model\"},\"index\": 0}],\"usageMetadata\": {\"promptTokenCount\": 4,"
       "\"promptTokensDetails\": [{\"modality\": \"TEXT\",\"tokenCount\": 4}]},"
       "\"modelVersion\": \"gemini-2.0-flash\",\"responseId\": \"x\"}", "Hi"),
  TEXT(GE, "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Hi\"}]}}]}", "Hi"),
  TEXT(OL, "{\"model\":\"llama3.2\",\"created_at\":\"2024-08-04T19:22:45.499127Z\","
       "\"message\":{\"role\":\"assistant\",\"content\":\"Hi\"},\"done\":false}", "Hi"),
  TEXT(OL, "{\"done\":false,\"message\":{\"content\":\"Hi\",\"images\":null,"
       "\"thinking\":\"\",\"tool_calls\":[]}}", "Hi"),
#undef TEXT
};

static const struct {
  lc_delta_kind kind;
  const char *json;
} empties[] = {
  {OA, "{\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":null}]}"},
  {OA, "{\"choices\":[{\"delta\":{\"content\":\"\"}}]}"},
  {OA, "{\"choices\":[{\"delta\":{\"content\":null,\"role\":null,\"refusal\":null}}]}"},
  {AN, "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":"
       "\"text_delta\",\"text\":\"\"}}"},
  {GE, "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"\"}]}}]}"},
  {OL, "{\"model\":\"m\",\"message\":{\"role\":\"assistant\",\"content\":\"\"},"
       "\"done\":false}"},
};

/* Well-formed, but to be decoded in full. */
static const struct {
  lc_delta_kind kind;
  const char *json;
} others[] = {
  /* the end, usage, errors */
  {OA, "{\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}"},
  {OA, "{\"choices\":[{\"delta\":{\"content\":\"x\"},\"finish_reason\":\"stop\"}]}"},
  {OA, "{\"choices\":[{\"delta\":{\"content\":\"x\"},\"finish_reason\":\"\"}]}"},
  {OA, "{\"choices\":[{\"delta\":{\"content\":\"x\"}}],\"usage\":{}}"},
  {OA, "{\"choices\":[{\"delta\":{\"content\":\"x\"}}],\"usage\":{\"total_tokens\":1}}"},
  {OA, "{\"choices\":[],\"usage\":{\"total_tokens\":1}}"},
  {OA, "{\"choices\":[],\"usage\":null}"},
  {OA, "{\"choices\":[]}"},
  {OA, "{\"choices\":null}"},
  {OA, "{}"},
  {OA, "{\"error\":{\"message\":\"x\"}}"},
  {OA, "{\"choices\":[{\"delta\":{\"content\":\"x\"}}],\"error\":{\"message\":\"x\"}}"},
  {OA, "{\"choices\":[{\"delta\":{\"content\":\"x\"},\"error\":{}}]}"},
  {OA, "[DONE]"},
  {OA, "[]"},
  {OA, "null"},
  {OA, "\"x\""},
  {OA, "1"},
  /* other contents */
  {OA, "{\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}"},
  {OA, "{\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}"},
  {OA, "{\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":null}}]}"},
  {OA, "{\"choices\":[{\"delta\":{\"role\":\"tool\",\"content\":\"x\"}}]}"},
  {OA, "{\"choices\":[{\"delta\":{\"role\":\"ass\\u0069stant\",\"content\":\"x\"}}]}"},
  {OA, "{\"choices\":[{\"delta\":{\"content\":\"x\",\"tool_calls\":[{\"index\":0}]}}]}"},
  {OA, "{\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0}]}}]}"},
  {OA, "{\"choices\":[{\"delta\":{\"reasoning_content\":\"hm\"}}]}"},
  {OA, "{\"choices\":[{\"delta\":{\"reasoning_content\":\"hm\",\"content\":null}}]}"},
  {OA, "{\"choices\":[{\"delta\":{\"reasoning\":\"hm\",\"content\":\"\"}}]}"},
  {OA, "{\"choices\":[{\"delta\":{\"refusal\":\"no\"}}]}"},
  {OA, "{\"choices\":[{\"delta\":{\"content\":\"x\",\"novel\":\"\"}}]}"},
  {OA, "{\"choices\":[{\"delta\":{\"content\":\"x\",\"\":1}}]}"},
  {OA, "{\"choices\":[{\"delta\":{\"content\":[\"x\"]}}]}"},
  {OA, "{\"choices\":[{\"delta\":{\"content\":[{\"type\":\"text\",\"text\":\"x\"}]}}]}"},
  {OA, "{\"choices\":[{\"delta\":{\"content\":1}}]}"},
  {OA, "{\"choices\":[{\"delta\":{\"content\":\"x\"},\"logprobs\":{\"content\":[]}}]}"},
  {OA, "{\"choices\":[{\"delta\":null}]}"},
  {OA, "{\"choices\":[{\"delta\":\"x\"}]}"},
  {OA, "{\"choices\":[{\"text\":\"x\"}]}"},
  {OA, "{\"choices\":[{\"message\":{\"content\":\"x\"}}]}"},
  {OA, "{\"choices\":{\"delta\":{\"content\":\"x\"}}}"},
  {OA, "{\"choices\":[[{\"delta\":{\"content\":\"x\"}}]]}"},
  {OA, "{\"x_custom\":{},\"choices\":[{\"delta\":{\"content\":\"x\"}}]}"},
  {OA, "{\"id\":{},\"choices\":[{\"delta\":{\"content\":\"x\"}}]}"},
  /* more than one, or not the first */
  {OA, "{\"choices\":[{\"index\":1,\"delta\":{\"content\":\"x\"}}]}"},
  {OA, "{\"choices\":[{\"index\":-0,\"delta\":{\"content\":\"x\"}}]}"},
  {OA, "{\"choices\":[{\"index\":0.0,\"delta\":{\"content\":\"x\"}}]}"},
  {OA, "{\"choices\":[{\"index\":null,\"delta\":{\"content\":\"x\"}}]}"},
  {OA, "{\"choices\":[{\"delta\":{\"content\":\"x\"}},{\"delta\":{\"content\":\"y\"}}]}"},
  {OA, "{\"choices\":[{\"delta\":{\"content\":\"x\"}},{}]}"},
  /* the same key twice, also in disguise */
  {OA, "{\"choices\":[{\"delta\":{\"content\":\"x\",\"content\":\"y\"}}]}"},
  {OA, "{\"choices\":[{\"delta\":{\"content\":null,\"content\":\"y\"}}]}"},
  {OA, "{\"choices\":[{\"delta\":{\"content\":\"x\"},\"delta\":{\"content\":\"y\"}}]}"},
  {OA, "{\"choices\":[{\"delta\":{\"content\":\"x\"}}],\"choices\":[]}"},
  {OA, "{\"id\":1,\"id\":1,\"choices\":[{\"delta\":{\"content\":\"x\"}}]}"},
  {OA, "{\"choices\":[{\"delta\":{\"content\":\"x\",\"c\\u006fntent\":\"y\"}}]}"},
  {OA, "{\"choices\":[{\"delta\":{\"c\\u006fntent\":\"y\"}}]}"},
  {OA, "{\"choices\":[{\"delta\":{\"content\":\"x\",\"a\\n\":null}}]}"},
  /* lone surrogates */
  {OA, "{\"choices\":[{\"delta\":{\"content\":\"\\ud83d\"}}]}"},
  {OA, "{\"choices\":[{\"delta\":{\"content\":\"\\ude00\"}}]}"},
  {OA, "{\"choices\":[{\"delta\":{\"content\":\"\\ud83dx\\ude00\"}}]}"},
  {OA, "{\"choices\":[{\"delta\":{\"content\":\"\\ud83d\\n12345\"}}]}"},
  {OA, "{\"choices\":[{\"delta\":{\"content\":\"\\ud83d\\ud83d\"}}]}"},
  /* the shape of another kind of server */
  {OA, "{\"model\":\"m\",\"message\":{\"content\":\"x\"},\"done\":false}"},
  {OL, "{\"choices\":[{\"delta\":{\"content\":\"x\"}}]}"},
  {AN, "{\"choices\":[{\"delta\":{\"content\":\"x\"}}]}"},
  {GE, "{\"choices\":[{\"delta\":{\"content\":\"x\"}}]}"},

  {AN, "{\"type\":\"ping\"}"},
  {AN, "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}"},
  {AN, "{\"type\":\"message_stop\"}"},
  {AN, "{\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":"
       "\"text\",\"text\":\"\"}}"},
  {AN, "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":"
       "\"thinking_delta\",\"thinking\":\"x\"}}"},
  {AN, "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":"
       "\"input_json_delta\",\"partial_json\":\"{\"}}"},
  {AN, "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":"
       "\"text_delta\"}}"},
  {AN, "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"text\":\"x\"}}"},
  {AN, "{\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"x\"}}"},
  {AN, "{\"type\":\"content_block_deltas\",\"delta\":{\"type\":\"text_delta\","
       "\"text\":\"x\"}}"},
  {AN, "{\"type\":\"content_block_delta\",\"index\":\"0\",\"delta\":{\"type\":"
       "\"text_delta\",\"text\":\"x\"}}"},
  {AN, "{\"type\":\"content_block_delta\",\"index\":1000000,\"delta\":{\"type\":"
       "\"text_delta\",\"text\":\"x\"}}"},
  {AN, "{\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":"
       "\"x\",\"citations\":[]}}"},
  {AN, "{\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":"
       "null}}"},

  {GE, "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"x\"}]},"
       "\"finishReason\":\"STOP\"}]}"},
  {GE, "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"x\"},{\"text\":\"y\"}]}}]}"},
  {GE, "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"x\",\"thought\":true}]}}]}"},
  {GE, "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"x\","
       "\"thoughtSignature\":\"a\"}]}}]}"},
  {GE, "{\"candidates\":[{\"content\":{\"parts\":[{\"functionCall\":{}}]}}]}"},
  {GE, "{\"candidates\":[{\"content\":{\"parts\":[]}}]}"},
  {GE, "{\"candidates\":[{\"content\":{\"role\":\"model\"}}]}"},
  {GE, "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"x\"}],\"role\":"
       "\"user\"}}]}"},
  {GE, "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"x\"}]},\"index\":1}]}"},
  {GE, "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"x\"}]},"
       "\"safetyRatings\":[{}]}]}"},
  {GE, "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"x\"}]}},{}]}"},
  {GE, "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"\"}]}}],"
       "\"usageMetadata\":{}}"},
  {GE, "{\"promptFeedback\":{\"blockReason\":\"SAFETY\"}}"},
  {GE, "{\"usageMetadata\":{}}"},
  {GE, "{\"error\":{\"code\":429}}"},
  {GE, "[{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"x\"}]}}]}]"},

  {OL, "{\"message\":{\"content\":\"x\"},\"done\":true}"},
  {OL, "{\"message\":{\"content\":\"\"},\"done\":true,\"done_reason\":\"stop\"}"},
  {OL, "{\"message\":{\"content\":\"x\"}}"},
  {OL, "{\"message\":{\"role\":\"assistant\"},\"done\":false}"},
  {OL, "{\"message\":{\"content\":null},\"done\":false}"},
  {OL, "{\"message\":{\"content\":\"\",\"thinking\":\"x\"},\"done\":false}"},
  {OL, "{\"message\":{\"content\":\"\",\"tool_calls\":[{}]},\"done\":false}"},
  {OL, "{\"message\":{\"role\":\"user\",\"content\":\"x\"},\"done\":false}"},
  {OL, "{\"message\":{\"content\":\"x\"},\"done\":false,\"eval_count\":1}"},
  {OL, "{\"response\":\"x\",\"done\":false}"},
  {OL, "{\"error\":\"x\"}"},
};

static void test_texts(void)
{
  lc_buf scratch;
  lc_delta d;
  size_t i, n;

  lc_buf_init(&scratch, 1000);
  for(i = 0; i < LC_ARRAY_LEN(texts); i++) {
    const char *json = texts[i].json;
    size_t len = texts[i].json_len;
    check_label = json;
    CHECK(scan(texts[i].kind, json, len, &scratch, &d) == LC_DELTA_TEXT);
    CHECK(d.len == texts[i].text_len && !memcmp(d.text, texts[i].text, d.len));
    CHECK(d.text >= guard_end() - len && d.text < guard_end()); /* borrowed */
    CHECK(d.ascii == 1);
    CHECK(d.index == (strstr(json, "\"index\": 3") ? 3 :
                      strstr(json, "999999") ? 999999 : 0));
    CHECK(d.has_usage == !!strstr(json, "usageMetadata"));
    /* cut short anywhere (but for white space at the end) it is not sure */
    while(len && json[len - 1] != '}')
      len--;
    for(n = 0; n < len; n++)
      CHECK(scan(texts[i].kind, json, n, &scratch, &d) == LC_DELTA_OTHER);
  }
  for(i = 0; i < LC_ARRAY_LEN(empties); i++) {
    size_t len = strlen(empties[i].json);
    check_label = empties[i].json;
    CHECK(scan(empties[i].kind, empties[i].json, len, &scratch, &d) ==
          LC_DELTA_EMPTY);
    for(n = 0; n < len; n++)
      CHECK(scan(empties[i].kind, empties[i].json, n, &scratch, &d) ==
            LC_DELTA_OTHER);
  }
  for(i = 0; i < LC_ARRAY_LEN(others); i++) {
    check_label = others[i].json;
    CHECK(scan(others[i].kind, others[i].json, strlen(others[i].json), &scratch,
               &d) == LC_DELTA_OTHER);
  }
  check_label = "";
  CHECK(scratch.data == NULL || check_live == 1);
  lc_buf_free(&scratch);
  CHECK(check_live == 0);
}

/* A bad byte anywhere in a chunk must not turn into a text that is not there:
 * every byte replaced by every byte of a list, and dropped, and doubled. */
static void test_damage(void)
{
  static const char bytes[] = "\"\\{}[]:,\0\n x0n\x80\xFF";
  static char copy[600];
  lc_buf scratch;
  lc_delta d;
  size_t i, n, k;

  lc_buf_init(&scratch, 1000);
  for(i = 0; i < LC_ARRAY_LEN(texts); i++) {
    const char *json = texts[i].json;
    size_t len = texts[i].json_len;
    check_label = json;
    for(n = 0; n < len; n++) {
      for(k = 0; k < sizeof(bytes) - 1; k++) {
        memcpy(copy, json, len);
        copy[n] = bytes[k];
        if(scan(texts[i].kind, copy, len, &scratch, &d) == LC_DELTA_TEXT)
          CHECK(d.len <= texts[i].text_len && lc_utf8_valid(d.text, d.len));
      }
      memcpy(copy, json, n);
      memcpy(copy + n, json + n + 1, len - n - 1);
      (void)scan(texts[i].kind, copy, len - 1, &scratch, &d);
      memcpy(copy, json, n + 1);
      memcpy(copy + n + 1, json + n, len - n);
      (void)scan(texts[i].kind, copy, len + 1, &scratch, &d);
    }
    /* something behind the object */
    memcpy(copy, json, len);
    for(k = 0; k < sizeof(bytes) - 1; k++) {
      copy[len] = bytes[k];
      if(bytes[k] != ' ' && bytes[k] != '\n')
        CHECK(scan(texts[i].kind, copy, len + 1, &scratch, &d) == LC_DELTA_OTHER);
    }
  }
  check_label = "";
  lc_buf_free(&scratch);
}

/* The text as it stands in the JSON, put into a chunk of each kind; then what
 * must come out, NULL for LC_DELTA_OTHER. */
static void one_text(const char *raw, size_t raw_len, const char *want,
                     size_t want_len, int ascii)
{
  static const char *const around[][2] = {
    {"{\"choices\":[{\"delta\":{\"content\":\"", "\"}}]}"},
    {"{\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"",
     "\"}}"},
    {"{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"", "\"}]}}]}"},
    {"{\"done\":false,\"message\":{\"content\":\"", "\"}}"},
  };
  static char json[3000];
  lc_buf scratch;
  int kind;

  for(kind = 0; kind < 4; kind++) {
    size_t a = strlen(around[kind][0]), b = strlen(around[kind][1]);
    lc_delta_rc rc;
    lc_delta d = {0};
    memcpy(json, around[kind][0], a);
    memcpy(json + a, raw, raw_len);
    memcpy(json + a + raw_len, around[kind][1], b);
    lc_buf_init(&scratch, 2000);
    check_label = kind_names[kind];
    rc = scan((lc_delta_kind)kind, json, a + raw_len + b, &scratch, &d);
    CHECK(rc == (want ? LC_DELTA_TEXT : LC_DELTA_OTHER));
    if(want && rc == LC_DELTA_TEXT) {
      CHECK(d.len == want_len && !memcmp(d.text, want, want_len));
      CHECK(d.ascii == (unsigned)ascii);
      CHECK((d.text == lc_buf_data(&scratch)) == !!memchr(raw, '\\', raw_len));
    }
    lc_buf_free(&scratch);
  }
  check_label = "";
}

static void test_strings(void)
{
  static char raw[200];
  size_t n, at;

#define YES(raw_text, text, ascii) one_text(LIT(raw_text), LIT(text), ascii)
#define NO(raw_text) one_text(LIT(raw_text), NULL, 0, 0)
  YES("a", "a", 1);
  YES("\x7F", "\x7F", 1);
  YES("\\\"\\\\\\/\\b\\f\\n\\r\\t", "\"\\/\b\f\n\r\t", 1);
  YES("x\\ny", "x\ny", 1);
  YES("\\u0041\\u000a\\u0000z", "A\n\0z", 1);
  YES("\\u007f\\u0080\\u07ff\\u0800\\uFFFF", "\x7F\xC2\x80\xDF\xBF\xE0\xA0\x80\xEF\xBF\xBF",
      0);
  YES("\\u00e9\\u00E9\\uD83D\\uDE00!", "\xC3\xA9\xC3\xA9\xF0\x9F\x98\x80!", 0);
  YES("\\ud800\\udc00\\udbff\\udfff", "\xF0\x90\x80\x80\xF4\x8F\xBF\xBF", 0);
  YES("\xC3\xA9", "\xC3\xA9", 0);
  YES("\xE2\x80\xA8\\n", "\xE2\x80\xA8\n", 0);
  YES("\xF0\x90\x80\x80\xF4\x8F\xBF\xBF\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80",
      "\xF0\x90\x80\x80\xF4\x8F\xBF\xBF\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80", 0);
  YES("\xEF\xBF\xBE\xEF\xBB\xBF", "\xEF\xBF\xBE\xEF\xBB\xBF", 0);
  NO("\n");
  NO("\0");
  NO("\x1F");
  NO("\\");
  NO("\\x41");
  NO("\\u00g1");
  NO("\\u123");
  NO("\\U0041");
  NO("\\'");
  NO("\\u");
  NO("\\ud83d");
  NO("\\ud83d\\u0041");
  NO("\\ud83d\\udbff");
  NO("\\ud83dxude00");
  NO("\\ud83d\\nde00");
  NO("\\ude00\\ude00");
  NO("\\ud83d\\xde00");
  NO("\\ude00\\ud83d");
  NO("a\\n\\udfff");
  NO("\x80");
  NO("\xBF");
  NO("\xC3");
  NO("\xC3z");
  NO("\xC0\x80");
  NO("\xC1\xBF");
  NO("\xE0\x9F\xBF");
  NO("\xE2\x80");
  NO("\xE2\x80z");
  NO("\xED\xA0\x80");
  NO("\xED\xBF\xBF");
  NO("\xF0\x8F\xBF\xBF");
  NO("\xF0\x9F\x98");
  NO("\xF4\x90\x80\x80");
  NO("\xF5\x80\x80\x80");
  NO("\xFF");
  NO("\\n\xFF");
#undef YES
#undef NO
  /* one odd byte at every place of strings of every length: the words of eight
     bytes have no blind spot */
  for(n = 1; n < 40; n++)
    for(at = 0; at < n; at++) {
      memset(raw, 'a', n);
      one_text(raw, n, raw, n, 1);
      raw[at] = '\x1F';
      one_text(raw, n, NULL, 0, 0);
      raw[at] = '\xFF';
      one_text(raw, n, NULL, 0, 0);
      raw[at] = '"';
      one_text(raw, n, NULL, 0, 0);
      raw[at] = '\x7F';
      one_text(raw, n, raw, n, 1);
      if(at + 1 < n) {
        char want[40];
        raw[at] = '\xC3';
        raw[at + 1] = '\xA9';
        one_text(raw, n, raw, n, 0);
        raw[at] = '\\';
        raw[at + 1] = 't';
        memset(want, 'a', n - 1);
        want[at] = '\t';
        one_text(raw, n, want, n - 1, 1);
      }
    }
}

static void test_nesting(void)
{
  static char json[400];
  unsigned depth;

  for(depth = 1; depth < 80; depth++) {
    static const char head[] = "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":"
                               "\"x\"}]}}],\"usageMetadata\":";
    lc_delta d;
    size_t n = sizeof(head) - 1;
    unsigned i;
    memcpy(json, head, n);
    for(i = 0; i < depth; i++) {
      if(i % 3)
        json[n++] = '[';
      else {
        memcpy(json + n, "{\"\":", 4);
        n += 4;
      }
    }
    json[n++] = '1';
    for(i = depth; i--;)
      json[n++] = i % 3 ? ']' : '}';
    json[n++] = '}';
    CHECK(scan(GE, json, n, NULL, &d) ==
          (depth > LC_JSON_NESTING ? LC_DELTA_OTHER : LC_DELTA_TEXT));
  }
}

/* What usageMetadata may be, as the one value that is skipped whatever it is. */
static void test_skip(void)
{
  static const char *const good[] = {
    "{}", "[]", "[[]]", "[{}]", "{\"a\":[]}", "[1,2]", "[ 1 , [ ] , { } ]", "0", "-0",
    "10", "1.5", "-1.25e10", "1E-7", "1e+0", "\"\"", "true", "false", "null",
    "{\"a\":1,\"b\":{\"c\":[1,\"x\",null]},\"a\":2}", " [\n]\t", "\"\\u00e9\\\"\""};
  static const char *const bad[] = {
    "", "{", "[", "]", "}", "{]", "[}", "[1,]", "[,1]", "[1 2]", "{\"a\"}", "{\"a\":}",
    "{\"a\":1,}", "{,}", "{a:1}", "{1:1}", "01", "1.", ".5", "-", "+1", "1e", "1e+", "0x1",
    "1a", "tru", "True", "nul", "nulll", "NaN", "Infinity", "'a'", "\"", "\"\\\"", "\"\\x\"",
    "\"\n\"", "[[]", "[]]", "{}}", "/**/1", "1 1", "\"a\"\"b\""};
  static char json[300];
  size_t i;

  for(i = 0; i < LC_ARRAY_LEN(good) + LC_ARRAY_LEN(bad); i++) {
    int is_bad = i >= LC_ARRAY_LEN(good);
    lc_delta d;
    int n;
    check_label = is_bad ? bad[i - LC_ARRAY_LEN(good)] : good[i];
    n = snprintf(json, sizeof(json),
                 "{\"usageMetadata\":%s,\"candidates\":[{\"content\":{\"parts\":"
                 "[{\"text\":\"x\"}]}}]}", check_label);
    CHECK(scan(GE, json, (size_t)n, NULL, &d) ==
          (is_bad ? LC_DELTA_OTHER : LC_DELTA_TEXT));
  }
  check_label = "";
}

static const char escaped[] = "{\"choices\":[{\"delta\":{\"content\":\"a\\nb\"}}]}";

/* No room for the text behind the escapes: decode it in full. */
static void test_no_room(void)
{
  size_t max;

  for(max = 0; max < 8; max++) {
    lc_buf scratch;
    lc_delta d;
    lc_buf_init(&scratch, max);
    CHECK(scan(OA, escaped, sizeof(escaped) - 1, &scratch, &d) ==
          (max < 4 ? LC_DELTA_OTHER : LC_DELTA_TEXT));
    lc_buf_free(&scratch);
  }
  CHECK(lc_delta_scan((lc_delta_kind)4, LIT("{}"), NULL, NULL) == LC_DELTA_OTHER);
  CHECK(lc_delta_scan(OA, NULL, 0, NULL, NULL) == LC_DELTA_OTHER);
}

static int needs_memory(void *ctx)
{
  lc_buf scratch;
  lc_delta d;
  lc_delta_rc rc;
  (void)ctx;
  lc_buf_init(&scratch, 1000);
  rc = scan(OA, escaped, sizeof(escaped) - 1, &scratch, &d);
  lc_buf_free(&scratch);
  return rc == LC_DELTA_OTHER;
}

int main(void)
{
  check_alloc_on();
  test_texts();
  test_damage();
  test_strings();
  test_nesting();
  test_skip();
  test_no_room();
  check_every_alloc(needs_memory, NULL);
  CHECK(check_live == 0);
  return check_done("delta");
}
