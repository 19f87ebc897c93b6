// What the fake backend answers: legacy (2025-11-25) and modern (2026-07-28) MCP at every path.
// It refuses a request that lacks a header MCP demands, so that a gateway that drops or changes one shows as errors,
// never as speed.
#define _GNU_SOURCE
#include "backend.h"
#include "boxes.h"
#include "json.h"

// ---- replies

static size_t total(const Span *parts, int count) {
  size_t n = 0;
  for (int i = 0; i < count; i++) n += parts[i].n;
  return n;
}

static void add_parts(Buf *b, const Span *parts, int count) {
  buf_reserve(b, total(parts, count));
  for (int i = 0; i < count; i++) buf_add(b, parts[i].p, parts[i].n);
}

static void reply(Conn *c, const char *status, const char *more_headers, const Span *parts, int count) {
  char head[512];
  int n = snprintf(head, sizeof head, "HTTP/1.1 %s\r\n%s%scontent-length: %zu\r\n\r\n", status,
                   count ? "content-type: application/json\r\n" : "", more_headers, total(parts, count));
  buf_add(&c->out, head, n);
  add_parts(&c->out, parts, count);
}

#define REPLY(c, status, headers, ...) \
  reply(c, status, headers, (Span[]){__VA_ARGS__}, sizeof((Span[]){__VA_ARGS__}) / sizeof(Span))

static void refuse(Conn *c, const char *status, int code, const char *why, Span id) {
  char error[256];
  int n = snprintf(error, sizeof error, ",\"error\":{\"code\":%d,\"message\":\"%s\"}}", code, why);
  stats.refused++;
  REPLY(c, status, "", LIT("{\"jsonrpc\":\"2.0\",\"id\":"), id.p ? id : LIT("null"), {error, n});
}

static void start_stream(Conn *c) {
  buf_put(&c->out, "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache, no-transform\r\n"
                   "x-accel-buffering: no\r\ntransfer-encoding: chunked\r\n\r\n");
}

static void send_event(Conn *c, const Span *parts, int count) {
  char size[32];
  buf_add(&c->out, size, snprintf(size, sizeof size, "%zx\r\n", total(parts, count)));
  add_parts(&c->out, parts, count);
  buf_put(&c->out, "\r\n");
}

#define EVENT(c, ...) send_event(c, (Span[]){__VA_ARGS__}, sizeof((Span[]){__VA_ARGS__}) / sizeof(Span))
#define MESSAGE LIT("event: message\ndata: ")
#define RESULT_OF LIT("{\"jsonrpc\":\"2.0\",\"id\":")
#define CONTENT LIT(",\"result\":{\"content\":[{\"type\":\"text\",\"text\":")
#define CONTENT_END LIT("}],\"isError\":false")
#define SERVER "{\"name\":\"fake\",\"version\":\"1\"}"
#define MODERN_TAIL ",\"resultType\":\"complete\",\"_meta\":{\"io.modelcontextprotocol/serverInfo\":" SERVER "}"
#define CACHEABLE ",\"ttlMs\":300000,\"cacheScope\":\"public\"" MODERN_TAIL
#define STRING(name) "\"" name "\":{\"type\":\"string\"}"
#define INTEGER(name) ",\"" name "\":{\"type\":\"integer\"}"
#define TOOL(name, properties) "{\"name\":\"" name "\",\"description\":\"" name "\",\"inputSchema\":{\"type\":\"object\"," \
  "\"properties\":{" properties "},\"required\":[\"text\"]}}"
#define TOOLS "[" TOOL("echo", STRING("text")) "," TOOL("echo_sse", STRING("text")) "," \
  TOOL("progress", STRING("text") INTEGER("n") INTEGER("delay_ms") INTEGER("burst") \
  INTEGER("first_us") INTEGER("ack")) "]"

// ---- the progress tool

static void keep(Buf *b, Span s) {
  buf_clear(b);
  buf_add(b, s.p, s.n);
}

// Each notification says when it was sent, by the clock that all processes of a machine share.
static void notify(Conn *c) {
  char rest[128];
  int n = snprintf(rest, sizeof rest, ",\"progress\":%d,\"total\":%d,\"message\":\"@%lld\"}}\n\n", ++c->progress.step,
                   c->progress.steps, now_us());
  EVENT(c, MESSAGE, LIT("{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progressToken\":"),
        span_of(&c->progress.token), {rest, n});
}

void step_progress(Conn *c) {
  if (c->progress.step < c->progress.steps) {
    for (int i = 0; i < c->progress.burst && c->progress.step < c->progress.steps; i++) notify(c);
    c->progress.next_us = c->progress.ack ? NEVER : c->progress.next_us + c->progress.delay_ms * 1000LL;
  } else {
    EVENT(c, MESSAGE, RESULT_OF, span_of(&c->progress.id), CONTENT, span_of(&c->progress.text), CONTENT_END,
          c->progress.modern ? LIT(MODERN_TAIL) : LIT(""), LIT("}}\n\n"));
    buf_put(&c->out, "0\r\n\r\n");
    c->progress.running = 0;
    running_progress--;
  }
  flush(c);  // each burst leaves on its own: a gateway must not find them all in one read by our doing
}

static long number_of(Span arguments, const char *name, long otherwise) {
  Span value = json_get(arguments, name);
  return value.p ? strtol(value.p, NULL, 10) : otherwise;
}

static void start_progress(Conn *c, Span id, Span arguments, Span token, Span text, int modern) {
  c->progress.steps = number_of(arguments, "n", 10);
  c->progress.burst = number_of(arguments, "burst", 1);
  c->progress.delay_ms = number_of(arguments, "delay_ms", 0);
  c->progress.ack = number_of(arguments, "ack", 0);
  c->progress.step = 0;
  c->progress.modern = modern;
  c->progress.running = 1;
  running_progress++;
  keep(&c->progress.id, id);
  keep(&c->progress.token, token);
  keep(&c->progress.text, text);
  start_stream(c);
  c->progress.next_us = now_us() + number_of(arguments, "first_us", c->progress.delay_ms * 1000L);
  if (c->progress.ack) step_progress(c);
  while (!c->progress.ack && !c->progress.delay_ms && c->progress.running && !c->dead) step_progress(c);
}

// ---- sessions: nothing is stored; the second half of an id is a checksum of the first, so a changed id is unknown

static unsigned checksum(unsigned n) { return (n ^ 0x5bd1e995u) * 2654435761u; }

static int is_session(Span id) {
  char text[32];
  unsigned number, sum;
  if (id.n != 19) return 0;
  snprintf(text, sizeof text, "%.19s", id.p);
  return sscanf(text, "bk-%8x%8x", &number, &sum) == 2 && sum == checksum(number);
}

// ---- requests

typedef struct { Span head, version, session, id, method, params, meta; int modern; } Call;

// NULL, or the header that is missing or wrong: what MCP 2026-07-28 (basic/transports) makes a server check.
static const char *find_fault(const Call *call) {
  Span accept = header(call->head, "accept");
  if (!span_has(accept, "application/json") || !span_has(accept, "text/event-stream")) return "accept";
  if (!span_has(header(call->head, "content-type"), "application/json")) return "content-type";
  if (!call->modern) return span_is(call->version, "2025-11-25") ? NULL : "mcp-protocol-version";
  if (!json_matches(call->method, header(call->head, "mcp-method"))) return "mcp-method";
  if (!json_is(json_get(call->meta, "io.modelcontextprotocol/protocolVersion"), "2026-07-28")) return "_meta";
  if (!json_is(call->method, "tools/call")) return NULL;
  return json_matches(json_get(call->params, "name"), header(call->head, "mcp-name")) ? NULL : "mcp-name";
}

static void call_tool(Conn *c, const Call *call) {
  Span name = json_get(call->params, "name"), arguments = json_get(call->params, "arguments");
  Box box = box_at(call->head);
  Span text = json_get(arguments, "text"), tail = call->modern ? LIT(MODERN_TAIL) : LIT("");
  if (!text.p || *text.p != '"') {
    refuse(c, "200 OK", -32602, "no text", call->id);
  } else if (box.number ? box_has(box, name) : json_is(name, "echo")) {
    REPLY(c, "200 OK", "", RESULT_OF, call->id, CONTENT, text, CONTENT_END, tail, LIT("}}"));
  } else if (box.number) {
    refuse(c, "200 OK", -32602, "another backend's tool", call->id);
  } else if (json_is(name, "echo_sse")) {
    start_stream(c);
    EVENT(c, MESSAGE, RESULT_OF, call->id, CONTENT, text, CONTENT_END, tail, LIT("}}\n\n"));
    buf_put(&c->out, "0\r\n\r\n");
  } else if (json_is(name, "progress")) {
    Span token = json_get(call->meta, "progressToken");
    if (token.p) start_progress(c, call->id, arguments, token, text, call->modern);
    else refuse(c, "200 OK", -32602, "no progressToken", call->id);
  } else {
    refuse(c, "200 OK", -32602, "unknown tool", call->id);
  }
}

static void initialize(Conn *c, const Call *call) {
  static unsigned number;
  char session[64];
  number++;
  snprintf(session, sizeof session, "mcp-session-id: bk-%08x%08x\r\n", number, checksum(number));
  REPLY(c, "200 OK", session, RESULT_OF, call->id, LIT(",\"result\":{\"protocolVersion\":\"2025-11-25\",\"capabilities\":"
        "{\"tools\":{\"listChanged\":true}},\"serverInfo\":" SERVER "}}"));
}

static void open_listen(Conn *c, const Call *call) {
  Span filter = json_get(call->params, "notifications");
  snprintf(c->subscription, sizeof c->subscription, "%.*s", (int)call->id.n, call->id.p);
  start_stream(c);
  EVENT(c, MESSAGE, LIT("{\"jsonrpc\":\"2.0\",\"method\":\"notifications/subscriptions/acknowledged\",\"params\":{\"_meta\":"
        "{\"io.modelcontextprotocol/subscriptionId\":"), call->id, LIT("},\"notifications\":"),
        filter.p ? filter : LIT("{}"), LIT("}}\n\n"));
  c->idle_stream = MODERN_STREAM;
  stats.streams++;
}

// Gateways and proxies that probe or list before they forward need these.
static void answer_list(Conn *c, const Call *call) {
  Box box = box_at(call->head);
  if (json_is(call->method, "tools/list") && (box.number || box.count)) {
    REPLY(c, "200 OK", "", RESULT_OF, call->id, LIT(",\"result\":{\"tools\":"), box_tools(box),
          call->modern ? LIT(CACHEABLE) : LIT(""), LIT("}}"));
    return;
  }
  static const struct { const char *method, *result; } LISTS[] = {
      {"tools/list", ",\"result\":{\"tools\":" TOOLS},
      {"resources/list", ",\"result\":{\"resources\":[]"},
      {"prompts/list", ",\"result\":{\"prompts\":[]"},
      {"resources/templates/list", ",\"result\":{\"resourceTemplates\":[]"},
  };
  for (size_t i = 0; i < sizeof LISTS / sizeof *LISTS; i++)
    if (json_is(call->method, LISTS[i].method)) {
      REPLY(c, "200 OK", "", RESULT_OF, call->id, {LISTS[i].result, strlen(LISTS[i].result)},
            call->modern ? LIT(CACHEABLE) : LIT(""), LIT("}}"));
      return;
    }
  refuse(c, call->modern ? "404 Not Found" : "200 OK", -32601, "unknown method", call->id);
}

static void answer_post(Conn *c, Span head, Span body) {
  Call call = {.head = head, .version = header(head, "mcp-protocol-version"), .session = header(head, "mcp-session-id"),
               .id = json_get(body, "id"), .method = json_get(body, "method"), .params = json_get(body, "params")};
  call.meta = json_get(call.params, "_meta");
  call.modern = span_is(call.version, "2026-07-28");
  int starts = json_is(call.method, "initialize");
  const char *fault = starts ? NULL : find_fault(&call);
  if (!call.method.p && !call.id.p) refuse(c, "400 Bad Request", -32600, "not JSON-RPC", NONE);
  else if (fault) refuse(c, "400 Bad Request", -32020, fault, call.id);
  else if (!starts && !call.modern && !is_session(call.session)) refuse(c, "404 Not Found", -32600, "session", call.id);
  else if (!call.id.p || !call.method.p) reply(c, "202 Accepted", "", NULL, 0);
  else if (starts) initialize(c, &call);
  else if (json_is(call.method, "tools/call")) call_tool(c, &call);
  else if (json_is(call.method, "subscriptions/listen") && call.modern) open_listen(c, &call);
  else if (json_is(call.method, "ping")) REPLY(c, "200 OK", "", RESULT_OF, call.id, LIT(",\"result\":{}}"));
  else if (json_is(call.method, "server/discover") && call.modern)
    REPLY(c, "200 OK", "", RESULT_OF, call.id, LIT(",\"result\":{\"supportedVersions\":[\"2026-07-28\",\"2025-11-25\"],"
          "\"capabilities\":{\"tools\":{\"listChanged\":true}}" CACHEABLE "}}"));
  else answer_list(c, &call);
}

static void answer_get(Conn *c, Span head) {
  if (!span_has(header(head, "accept"), "text/event-stream")) {
    REPLY(c, "200 OK", "", LIT("{\"ok\":true}\n"));  // somebody's health check
  } else if (!is_session(header(head, "mcp-session-id"))) {
    refuse(c, "404 Not Found", -32600, "session", NONE);
  } else {
    start_stream(c);
    EVENT(c, LIT(": open\n\n"));
    c->idle_stream = LEGACY_STREAM;
    stats.streams++;
  }
}

static void push_list_changed(Conn *asker) {
  char text[64];
  int pushed = 0;
  for (Conn *c = conns; c; c = c->next) {
    int modern = c->idle_stream == MODERN_STREAM;
    if (!c->idle_stream || c->dead) continue;
    EVENT(c, MESSAGE, LIT("{\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\""),
          modern ? LIT(",\"params\":{\"_meta\":{\"io.modelcontextprotocol/subscriptionId\":") : LIT(""),
          {c->subscription, strlen(c->subscription)}, modern ? LIT("}}") : LIT(""), LIT("}\n\n"));
    flush(c);
    pushed++;
  }
  REPLY(asker, "200 OK", "", {text, snprintf(text, sizeof text, "{\"pushed\":%d}\n", pushed)});
}

static void reply_stats(Conn *c) {
  char text[256];
  REPLY(c, "200 OK", "", {text, snprintf(text, sizeof text, "{\"requests\":%ld,\"accepted\":%ld,\"streams\":%ld,\"refused\":%ld}\n",
                                         stats.requests, stats.accepted, stats.streams, stats.refused)});
}

void answer(Conn *c, Span head, Span body) {
  if (!strncmp(head.p, "GET /__stats", 12)) reply_stats(c);
  else if (!strncmp(head.p, "POST /__push", 12)) push_list_changed(c);
  else {
    stats.requests++;
    if (!strncmp(head.p, "POST ", 5)) answer_post(c, head, body);
    else if (!strncmp(head.p, "GET ", 4)) answer_get(c, head);
    else if (!strncmp(head.p, "DELETE ", 7)) reply(c, "200 OK", "", NULL, 0);
    else refuse(c, "405 Method Not Allowed", -32600, "method", NONE);
  }
}
