// The requests of the load generator, and its judgement on what came back. Every answer is judged: its status, its
// content type, its id, that it is a result and not an error, its own text in full, and each progress notification.
#define _GNU_SOURCE
#include "bench.h"

#define META "\"_meta\":{\"io.modelcontextprotocol/protocolVersion\":\"2026-07-28\"," \
  "\"io.modelcontextprotocol/clientInfo\":{\"name\":\"bench\",\"version\":\"1\"}," \
  "\"io.modelcontextprotocol/clientCapabilities\":{}"

static char *text;  // options.size bytes, the same for every call but for the tag it begins with

void choose_text(void) {
  int least = sizeof ((Conn *)0)->tag;
  if (options.size < least) options.size = least;
  text = malloc(options.size);
  for (int i = 0; i < options.size; i++) text[i] = 'a' + i % 26;
}

static void add_head(Conn *c, const char *verb, const char *method, const char *name, size_t body_bytes) {
  char line[1024];
  buf_add(&c->out, line, snprintf(line, sizeof line, "%s %s HTTP/1.1\r\nHost: %s:%d\r\nUser-Agent: bench/1\r\n", verb,
                                  name_member(options.path, c->member), options.host, options.port));
  buf_put(&c->out, body_bytes ? "Accept: application/json, text/event-stream\r\nContent-Type: application/json\r\n"
                              : "Accept: text/event-stream\r\n");
  if (options.modern)
    buf_add(&c->out, line, snprintf(line, sizeof line, "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: %s\r\n", method));
  else if (c->does != INITIALIZE)
    buf_put(&c->out, "MCP-Protocol-Version: 2025-11-25\r\n");
  if (options.modern && name) buf_add(&c->out, line, snprintf(line, sizeof line, "Mcp-Name: %s\r\n", name));
  if (!options.modern && c->does != INITIALIZE && *c->session) {
    buf_put(&c->out, "Mcp-Session-Id: ");
    buf_put(&c->out, c->session);
    buf_put(&c->out, "\r\n");
  }
  buf_put(&c->out, options.headers);
  if (body_bytes) buf_add(&c->out, line, snprintf(line, sizeof line, "Content-Length: %zu\r\n", body_bytes));
  buf_put(&c->out, "\r\n");
}

static void post(Conn *c, const char *method, const char *name, const char *body, size_t n) {
  add_head(c, "POST", method, name, n);
  buf_add(&c->out, body, n);
}

// How many events leave together, and who says when. Streams that are paced begin apart, or their events would all leave at once.
static void add_pace(const Conn *c, Buf *body) {
  char part[128];
  buf_add(body, part, snprintf(part, sizeof part, ",\"burst\":%d", options.burst));
  if (options.ack_port) buf_add(body, part, snprintf(part, sizeof part, ",\"ack\":%ld", c->id));
  else if (c->calls == 1)
    buf_add(body, part, snprintf(part, sizeof part, ",\"first_us\":%ld", 1000L * options.delay_ms * c->index / options.conns));
}

// {…,"arguments":{"text":"TAGabc…"[,"n":…,"delay_ms":…[,"burst":…,…]]}[,"_meta":{…[,"progressToken":ID]}]}
static void call_tool(Conn *c) {
  static Buf body;
  char part[512];
  const char *name = name_member(options.tool_name, c->member);
  int reports = !strcmp(options.tool, "progress");
  c->id = (c->index + 1) * 1000000000L + ++c->calls;
  int tag_bytes = snprintf(c->tag, sizeof c->tag, "c%dr%ldq", c->index, c->calls);
  buf_clear(&body);
  buf_add(&body, part, snprintf(part, sizeof part, "{\"jsonrpc\":\"2.0\",\"id\":%ld,\"method\":\"tools/call\",\"params\":"
                                "{\"name\":\"%s\",\"arguments\":{\"text\":\"%s", c->id, name, c->tag));
  buf_add(&body, text + tag_bytes, options.size - tag_bytes);
  buf_put(&body, "\"");
  if (reports)
    buf_add(&body, part, snprintf(part, sizeof part, ",\"n\":%d,\"delay_ms\":%d", options.notifications, options.delay_ms));
  if (options.by_event) add_pace(c, &body);
  buf_put(&body, "}");
  if (options.modern || reports) buf_put(&body, options.modern ? "," META : ",\"_meta\":{");
  if (reports)
    buf_add(&body, part, snprintf(part, sizeof part, "%s\"progressToken\":%ld", options.modern ? "," : "", c->id));
  buf_put(&body, options.modern || reports ? "}}}" : "}}");
  post(c, "tools/call", name, buf_start(&body), buf_size(&body));
}

static void list_tools(Conn *c) {
  char body[512];
  c->id = (c->index + 1) * 1000000000L + ++c->calls;
  int n = snprintf(body, sizeof body, "{\"jsonrpc\":\"2.0\",\"id\":%ld,\"method\":\"tools/list\",\"params\":{%s}}", c->id,
                   options.modern ? META "}" : "");
  post(c, "tools/list", NULL, body, n);
}

static void open_stream(Conn *c) {
  char body[512];
  c->id = c->index + 1;
  if (!options.modern) {
    add_head(c, "GET", NULL, NULL, 0);
    return;
  }
  int n = snprintf(body, sizeof body, "{\"jsonrpc\":\"2.0\",\"id\":%ld,\"method\":\"subscriptions/listen\",\"params\":"
                   "{\"notifications\":{\"toolsListChanged\":true}," META "}}}", c->id);
  post(c, "subscriptions/listen", NULL, body, n);
}

void write_request(Conn *c) {
  static const char START[] = "{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"initialize\",\"params\":{\"protocolVersion\":"
                              "\"2025-11-25\",\"capabilities\":{},\"clientInfo\":{\"name\":\"bench\",\"version\":\"1\"}}}";
  static const char STARTED[] = "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}";
  choose_member(c);
  if (c->does == INITIALIZE) post(c, "initialize", NULL, START, sizeof START - 1);
  else if (c->does == INITIALIZED) post(c, "notifications/initialized", NULL, STARTED, sizeof STARTED - 1);
  else if (c->does == STREAM) open_stream(c);
  else if (lists_tools()) list_tools(c);
  else call_tool(c);
}

// ---- judgement

// Whether the JSON member `"key":ID` is there, with or without a blank after the colon.
int has_id(Span body, long id) {
  static const char *const FORMS[] = {"\"id\":%ld", "\"id\": %ld"};
  for (int i = 0; i < 2; i++) {
    char member[48];
    int n = snprintf(member, sizeof member, FORMS[i], id);
    char *found = memmem(body.p, body.n, member, n);
    if (found && found + n < body.p + body.n && !strchr("0123456789", found[n])) return 1;
  }
  return 0;
}

// Where this call's own text is, in full; NULL where it isn't.
static const char *find_text(Span body, const Conn *c) {
  size_t tag_bytes = strlen(c->tag), size = options.size;
  const char *tag = memmem(body.p, body.n, c->tag, tag_bytes);
  if (!tag || (size_t)(body.p + body.n - tag) <= size || tag[size] != '"') return NULL;
  return memcmp(tag + tag_bytes, text + tag_bytes, size - tag_bytes) ? NULL : tag;
}

// Whether notifications 1, 2, … n are there, once each and in order.
static int has_progress(Span body) {
  static const char METHOD[] = "notifications/progress\"", VALUE[] = "\"progress\":";
  const char *end = body.p + body.n, *at = body.p;
  for (int i = 1; i <= options.notifications; i++) {
    at = memmem(at, end - at, METHOD, sizeof METHOD - 1);
    const char *value = at ? memmem(at, end - at, VALUE, sizeof VALUE - 1) : NULL;
    if (!value || strtod(value + sizeof VALUE - 1, NULL) != i) return 0;
    at += sizeof METHOD - 1;
  }
  return !memmem(at, end - at, METHOD, sizeof METHOD - 1);
}

const char *find_fault(const Conn *c) {
  Span body = {c->body.b + c->body.off, c->body.len - c->body.off};
  int streamed = !strncmp(c->type, "text/event-stream", 17);
  if (c->status != 200) return "status";
  if (!streamed && strncmp(c->type, "application/json", 16)) return "content type";
  if (lists_tools()) return body.n ? find_list_fault(c, body) : "no body";
  const char *found = body.n ? find_text(body, c) : NULL;
  if (!found) return "text";
  // Members stand before or behind the text: a search through 1 MB of it would be the dearest part of a call.
  Span before = {body.p, found - body.p}, after = {found + options.size, body.p + body.n - found - options.size};
  if (!has_id(before, c->id) && !has_id(after, c->id)) return "id";
  if (!span_has(before, "\"result\":") || span_has(before, "\"isError\":true") || span_has(after, "\"isError\":true"))
    return "no result";
  if (options.modern && !span_has(before, "\"resultType\":") && !span_has(after, "\"resultType\":")) return "resultType";
  if (!strcmp(options.tool, "progress") && !has_progress(before)) return "progress";
  return NULL;
}
