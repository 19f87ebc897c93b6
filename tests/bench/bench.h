// What the parts of the load generator share: bench.c keeps time, conns.c moves bytes, calls.c writes requests and judges
// what came back.
#ifndef BENCH_H
#define BENCH_H

#include "wire.h"

enum { SESSION_BYTES = 8192 };  // a sealed token is some hundred bytes, an aggregate's a few thousand

typedef struct {
  int fd, index;
  enum { INITIALIZE, INITIALIZED, CALL, STREAM, STOPPED } does;
  Buf in, out, body;
  int waits_to_write;
  // the answer that is arriving
  int has_head, status, chunked, closes;
  long length;  // of the body; -1: until the connection closes
  Chunks chunks;
  char type[64];
  // the request that is being answered
  long id, calls;
  char tag[48];  // with which the text of this call, and of no other, begins
  char session[SESSION_BYTES];
  long long sent_us, first_us;
} Conn;

extern struct Options {
  char host[64], path[512], headers[2048];  // headers: extra lines, each with its CRLF
  int port, modern, conns, size, notifications, delay_ms, streams;
  long calls;  // stop after so many; 0: by time
  double seconds, warm_seconds;
  const char *tool, *tool_name;  // what it does; what it is called behind this gateway
} options;

// conns.c
enum Phase { WARMING, MEASURING, ENDING };
extern enum Phase phase;
extern int count, opened, ready, stopped;            // connections: wanted, begun, in a session or a stream, given up
extern long errors, measured, events, reconnects;    // measured: right answers in the window; events: of idle streams
extern char first_error[400];
extern unsigned *latencies, *first_bytes;            // microseconds, `measured` of each
void start_conns(void);
void open_conn(void);
void poll_once(int wait_ms);

// calls.c
void choose_text(void);               // once, when the options are known
void write_request(Conn *c);          // appends what `c->does` demands to c->out
const char *find_fault(const Conn *c);  // what is wrong with the answer to a tool call; NULL: nothing

#endif
