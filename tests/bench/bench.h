// What the parts of the load generator share: bench.c keeps time, conns.c moves bytes, calls.c writes requests and judges
// what came back, streams.c judges events one by one, lists.c knows of aggregates and their lists.
#ifndef BENCH_H
#define BENCH_H

#include "wire.h"

enum { SESSION_BYTES = 8192 };  // a sealed token is some hundred bytes, an aggregate's a few thousand

typedef struct {
  int fd, index, member;  // member: which backend of an aggregate is called, 0 where there is none
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
  long last_event;  // with -E: the number of the last notification
  size_t judged;    // and how far into the body it goes
} Conn;

extern struct Options {
  char host[64], path[512], headers[2048];  // headers: extra lines, each with its CRLF
  int port, modern, conns, size, notifications, delay_ms, streams;
  int members, tools;  // an aggregate's backends; the tools that it is to list
  int by_event, burst, ack_port;  // events are measured, not calls; so many in one write; where they are asked for (0: nowhere)
  long calls;          // stop after so many; 0: by time
  int calls_per_conn;  // a slow peer's window lasts until it has done so many: CPU per call of a few calls is luck
  double seconds, warm_seconds;
  const char *tool, *tool_name;  // what it does; what it is called behind this gateway
} options;

// conns.c
enum Phase { WARMING, MEASURING, ENDING };
extern enum Phase phase;
extern int count, opened, ready, stopped;            // connections: wanted, begun, in a session or a stream, given up
extern long errors, measured, reconnects;            // measured: right answers, or events, in the window
extern long finished, events;                        // in all: right answers; events of streams
extern long answer_bytes;                            // of the last right answer
extern char first_error[400];
extern unsigned *latencies, *first_bytes;            // microseconds, `measured` of each
void start_conns(void);
void open_conn(void);
void poll_once(int wait_ms);
void add_sample(long long latency_us, long long first_us);  // in the window only

// calls.c
void choose_text(void);               // once, when the options are known
void write_request(Conn *c);          // appends what `c->does` demands to c->out
const char *find_fault(const Conn *c);  // what is wrong with the answer to a call; NULL: nothing
int has_id(Span body, long id);

// lists.c
void choose_member(Conn *c);
const char *name_member(const char *pattern, int member);  // good until it is called twice more
int lists_tools(void);                                     // whether lists are measured
const char *find_list_fault(const Conn *c, Span body);

// streams.c
void start_acks(void);
const char *take_events(Conn *c);  // what is wrong with the events that have arrived; NULL: nothing

#endif
