// What the fake backend and the load generator both know of HTTP/1.1: buffers, header lookup, chunked bodies.
// Neither a parser for the open internet nor a library: loopback peers only, header-only on purpose.
#ifndef WIRE_H
#define WIRE_H

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

typedef struct { const char *p; size_t n; } Span;  // bytes that somebody else owns; p is NULL for "not there"
typedef struct { char *b; size_t off, len, cap; } Buf;  // live bytes: b[off] up to b[len]

#define LIT(s) ((Span){(s), sizeof(s) - 1})
#define NONE ((Span){NULL, 0})

static inline long long now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

static inline size_t buf_size(const Buf *b) { return b->len - b->off; }
static inline char *buf_start(Buf *b) { return b->b + b->off; }

// Makes room for n more bytes behind b->len.
static inline void buf_reserve(Buf *b, size_t n) {
  if (b->off == b->len) b->off = b->len = 0;
  if (b->len + n <= b->cap) return;
  if (b->off) {
    memmove(b->b, b->b + b->off, b->len - b->off);
    b->len -= b->off;
    b->off = 0;
    if (b->len + n <= b->cap) return;
  }
  size_t cap = b->cap ? b->cap : 4096;
  while (cap < b->len + n) cap *= 2;
  b->b = realloc(b->b, cap);
  if (!b->b) {
    fprintf(stderr, "out of memory at %zu bytes\n", cap);
    exit(1);
  }
  b->cap = cap;
}

static inline void buf_add(Buf *b, const void *p, size_t n) {
  if (!n) return;
  buf_reserve(b, n);
  memcpy(b->b + b->len, p, n);
  b->len += n;
}

static inline void buf_put(Buf *b, const char *text) { buf_add(b, text, strlen(text)); }

static inline void buf_drop(Buf *b, size_t n) {
  b->off += n;
  if (b->off >= b->len) b->off = b->len = 0;
}

static inline void buf_clear(Buf *b) { b->off = b->len = 0; }

static inline int span_is(Span s, const char *text) { return s.p && s.n == strlen(text) && !memcmp(s.p, text, s.n); }
static inline int span_has(Span s, const char *text) { return s.p && memmem(s.p, s.n, text, strlen(text)) != NULL; }

// The length of the head that `b` begins with, empty line included; 0 while it isn't complete.
static inline size_t head_length(Buf *b) {
  if (buf_size(b) < 4) return 0;
  char *end = memmem(buf_start(b), buf_size(b), "\r\n\r\n", 4);
  return end ? (size_t)(end + 4 - buf_start(b)) : 0;
}

// The value of a header, without the white space around it.
static inline Span header(Span head, const char *name) {
  size_t name_length = strlen(name);
  const char *end = head.p + head.n, *line = memmem(head.p, head.n, "\r\n", 2);
  while (line && line + 2 < end) {
    line += 2;
    const char *next = memmem(line, end - line, "\r\n", 2), *stop = next ? next : end;
    if ((size_t)(stop - line) > name_length && line[name_length] == ':' && !strncasecmp(line, name, name_length)) {
      const char *p = line + name_length + 1;
      while (p < stop && *p == ' ') p++;
      while (stop > p && stop[-1] == ' ') stop--;
      return (Span){p, stop - p};
    }
    line = next;
  }
  return NONE;
}

// ---- bodies in chunks (RFC 9112 section 7.1), decoded as they arrive, in pieces of any size

typedef struct { enum { CHUNK_SIZE, CHUNK_DATA, CHUNK_END, CHUNK_TRAILER } at; size_t left; } Chunks;

// Moves what has arrived from `in` to `body`. 1: the body is complete; 0: more must come; -1: not a chunked body.
static inline int chunks_take(Chunks *c, Buf *in, Buf *body) {
  for (;;) {
    size_t have = buf_size(in);
    if (c->at == CHUNK_DATA) {
      size_t n = have < c->left ? have : c->left;
      buf_add(body, buf_start(in), n);
      buf_drop(in, n);
      c->left -= n;
      if (c->left) return 0;
      c->at = CHUNK_END;
      continue;
    }
    char *line = have ? buf_start(in) : NULL, *end = have ? memmem(line, have, "\r\n", 2) : NULL;
    if (!end) return 0;
    size_t n = end - line;
    if (c->at == CHUNK_SIZE) {
      char *stop;
      c->left = strtoul(line, &stop, 16);
      if (stop == line) return -1;
      c->at = c->left ? CHUNK_DATA : CHUNK_TRAILER;
    } else if (c->at == CHUNK_END) {
      if (n) return -1;
      c->at = CHUNK_SIZE;
    } else if (!n) {
      buf_drop(in, 2);
      c->at = CHUNK_SIZE;
      return 1;
    }
    buf_drop(in, n + 2);
  }
}

#endif
