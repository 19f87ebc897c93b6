// Requests to several backends as one: which of them is called next, and whether a merged list is right. In paths and names
// `@` stands for the backend's number, with two digits.
#define _GNU_SOURCE
#include "bench.h"

// Each call is another member's; where the path says whose, each connection, since it may have a session there.
void choose_member(Conn *c) {
  if (options.members) c->member = 1 + (c->index + (strchr(options.path, '@') ? 0 : c->calls)) % options.members;
}

const char *name_member(const char *pattern, int member) {
  static char names[2][512];  // two at a time
  static int next;
  char *name = names[next = !next], *end = name;
  for (const char *p = pattern; *p && end < name + sizeof *names - 3; p++) {
    if (*p == '@') end += sprintf(end, "%02d", member);
    else *end++ = *p;
  }
  *end = 0;
  return name;
}

int lists_tools(void) { return !strcmp(options.tool, "list") || !strcmp(options.tool, "file"); }

static long occurrences(Span body, const char *text) {
  size_t n = strlen(text);
  const char *end = body.p + body.n;
  long count = 0;
  for (const char *p = body.p; (p = memmem(p, end - p, text, n)); p += n) count++;
  return count;
}

// Behind the JSON string `text`, which is somebody's name; NULL where there is none.
static const char *find_name(const char *from, const char *end, const char *text) {
  static const char *const FORMS[] = {"\"name\":\"%s\"", "\"name\": \"%s\""};
  for (int i = 0; i < 2; i++) {
    char member[600];
    int n = snprintf(member, sizeof member, FORMS[i], text);
    const char *found = memmem(from, end - from, member, n);
    if (found) return found + n;
  }
  return NULL;
}

// Whether each member's echo tool is there under the name it is to have, in the members' order.
static int has_all_members(Span body) {
  const char *at = body.p, *end = body.p + body.n;
  for (int member = 1; at && member <= options.members; member++)
    at = find_name(at, end, name_member(options.tool_name, member));
  return at != NULL;
}

const char *find_list_fault(const Conn *c, Span body) {
  size_t edge = body.n < 512 ? body.n : 512;  // the rest is tools
  Span first = {body.p, edge}, last = {body.p + body.n - edge, edge};
  if (strcmp(options.tool, "file") && !has_id(first, c->id) && !has_id(last, c->id)) return "id";
  if (!span_has(first, "\"result\":")) return "no result";
  if (options.modern && !span_has(first, "\"resultType\":") && !span_has(last, "\"resultType\":")) return "resultType";
  if (occurrences(body, "\"inputSchema\":") != options.tools) return "number of tools";
  return has_all_members(body) ? NULL : "names of tools";
}
