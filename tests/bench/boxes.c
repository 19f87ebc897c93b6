#define _GNU_SOURCE
#include "boxes.h"

#include "json.h"

static int number_behind(Span head, const char *path) {
  const char *line = memmem(head.p, head.n, "\r\n", 2);
  const char *found = line ? memmem(head.p, line - head.p, path, strlen(path)) : NULL;
  int number = found ? atoi(found + strlen(path)) : 0;
  return number > 0 && number <= MAX_BOXES ? number : 0;
}

Box box_at(Span head) { return (Box){.number = number_behind(head, " /box/"), .count = number_behind(head, " /boxes/")}; }

// As long as tools' entries are: some 300 bytes.
static void add_tool(Buf *b, const char *prefix, int box, int tool) {
  char name[64], text[640];
  if (tool == 1) snprintf(name, sizeof name, "%secho_%02d", prefix, box);
  else snprintf(name, sizeof name, "%swork_%02d_%02d", prefix, box, tool);
  buf_add(b, text, snprintf(text, sizeof text,
      "%s{\"name\":\"%s\",\"title\":\"Work %02d\",\"description\":\"Does work of the kind %02d, of those that the backend %02d is for,"
      " and says what came of it.\",\"inputSchema\":{\"type\":\"object\",\"properties\":{\"text\":{\"type\":\"string\","
      "\"description\":\"What to work on\"},\"limit\":{\"type\":\"integer\"}},\"required\":[\"text\"]}}",
      buf_size(b) > 1 ? "," : "", name, tool, tool, box));
}

static void add_box(Buf *b, const char *prefix, int box) {
  for (int tool = 1; tool <= BOX_TOOLS; tool++) add_tool(b, prefix, box, tool);
}

// Written once: what a list costs the backend isn't what is measured.
Span box_tools(Box box) {
  static Buf one[MAX_BOXES + 1], all[MAX_BOXES + 1];
  Buf *b = box.number ? &one[box.number] : &all[box.count];
  if (!buf_size(b)) {
    char prefix[16] = "";
    buf_put(b, "[");
    if (box.number) add_box(b, prefix, box.number);
    for (int i = 1; i <= box.count; i++) {
      snprintf(prefix, sizeof prefix, "b%02d__", i);
      add_box(b, prefix, i);
    }
    buf_put(b, "]");
  }
  return (Span){buf_start(b), buf_size(b)};
}

int box_has(Box box, Span name) {
  char own[32];
  snprintf(own, sizeof own, "echo_%02d", box.number);
  return box.number && json_is(name, own);
}
