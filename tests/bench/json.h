// Finds members of JSON objects without building anything. It trusts its input to be JSON: the load generator wrote it.
#ifndef JSON_H
#define JSON_H

#include "wire.h"

static inline const char *json_blank(const char *p, const char *end) {
  while (p < end && (*p == ' ' || *p == '\n' || *p == '\t' || *p == '\r')) p++;
  return p;
}

// Past the string that begins at p.
static inline const char *json_string(const char *p, const char *end) {
  for (const char *from = ++p;;) {
    const char *quote = p < end ? memchr(p, '"', end - p) : NULL;
    if (!quote) return end;
    const char *slash = quote;
    while (slash > from && slash[-1] == '\\') slash--;
    if ((quote - slash) % 2 == 0) return quote + 1;  // an odd number of backslashes escapes the quote
    p = quote + 1;
  }
}

// Past the value that begins at p.
static inline const char *json_value(const char *p, const char *end) {
  if (p >= end) return end;
  if (*p == '"') return json_string(p, end);
  if (*p != '{' && *p != '[') {
    while (p < end && !strchr(",}] \n\r\t", *p)) p++;
    return p;
  }
  for (int depth = 0; p < end;) {
    if (*p == '"') {
      p = json_string(p, end);
      continue;
    }
    if (*p == '{' || *p == '[') depth++;
    if ((*p == '}' || *p == ']') && --depth == 0) return p + 1;
    p++;
  }
  return end;
}

// The raw value of a member (strings with their quotes), or NONE.
static inline Span json_get(Span object, const char *key) {
  const char *end = object.p + object.n, *p = object.p ? json_blank(object.p, end) : end;
  size_t key_length = strlen(key);
  if (p >= end || *p != '{') return NONE;
  for (p++;; p++) {
    const char *name = json_blank(p, end);
    if (name >= end || *name != '"') return NONE;
    p = json_string(name, end);
    size_t name_length = p - 2 - name;
    p = json_blank(p, end);
    if (p >= end || *p != ':') return NONE;
    const char *value = json_blank(p + 1, end);
    p = json_value(value, end);
    if (name_length == key_length && !memcmp(name + 1, key, key_length)) return (Span){value, p - value};
    p = json_blank(p, end);
    if (p >= end || *p != ',') return NONE;
  }
}

// Whether a raw value is the string `text` (which needs no escapes).
static inline int json_is(Span value, const char *text) {
  size_t n = strlen(text);
  return value.p && value.n == n + 2 && *value.p == '"' && !memcmp(value.p + 1, text, n);
}

// Whether a raw value is the string that a header carries as it is.
static inline int json_matches(Span value, Span header) {
  return value.p && header.p && value.n == header.n + 2 && !memcmp(value.p + 1, header.p, header.n);
}

#endif
