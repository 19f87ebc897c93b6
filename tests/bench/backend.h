// One connection of the fake backend, and the two calls by which its halves know each other: backend.c moves bytes,
// answers.c decides what MCP says to them.
#ifndef BACKEND_H
#define BACKEND_H

#include "wire.h"

typedef struct Conn {
  int fd;
  int dead;            // closed as soon as nobody holds it any more
  int waits_to_write;
  int close_after;     // the request said `connection: close`
  enum { NO_STREAM, LEGACY_STREAM, MODERN_STREAM } idle_stream;
  char subscription[64];  // JSON id of the subscriptions/listen request
  Buf in, out, head, body;
  size_t body_bytes;
  int chunked;
  Chunks chunks;
  struct {  // a `progress` call that is being answered
    int running, modern, steps, step, burst, delay_ms;
    long ack;           // the number by which the client asks for the next burst; 0: time does
    long long next_us;  // NEVER while the client is to ask
    Buf id, token, text;
  } progress;
  struct Conn *previous, *next;
} Conn;

#define NEVER 0x7fffffffffffffffLL

extern Conn *conns;           // all of them
extern int running_progress;  // how many have one running
extern struct Stats { long requests, accepted, streams, refused; } stats;

// backend.c
void flush(Conn *c);  // sends what the socket takes now, the rest when it can

// answers.c
void answer(Conn *c, Span head, Span body);
void step_progress(Conn *c);  // sends the next burst of notifications, or the result

static inline Span span_of(Buf *b) { return (Span){buf_start(b), buf_size(b)}; }

#endif
