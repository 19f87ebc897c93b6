// The connections of the load generator: dialling, sending, and taking answers apart as they arrive.
// What a request says and whether an answer is right is in calls.c; when to start and stop in bench.c.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench.h"

enum { MAX_SAMPLES = 20000000 };

static int poller;
static Conn *conns;

int count, opened, ready, stopped;
long errors, measured, finished, events, reconnects, answer_bytes;
char first_error[400];
enum Phase phase;
unsigned *latencies, *first_bytes;

static void fail(const Conn *c, const char *why) {
  if (errors++) return;
  snprintf(first_error, sizeof first_error, "%s (step %d, HTTP %d): %.200s", why, c->does, c->status,
           buf_size(&c->body) ? c->body.b + c->body.off : "");
  for (char *p = first_error; *p; p++)
    if (*p == '"' || *p == '\\' || *p < 32 || *p > 126) *p = '\'';
}

static void watch(Conn *c, int operation) {
  struct epoll_event event = {.events = EPOLLIN | (c->waits_to_write ? EPOLLOUT : 0), .data.ptr = c};
  epoll_ctl(poller, operation, c->fd, &event);
}

static void send_rest(Conn *c) {
  while (buf_size(&c->out)) {
    ssize_t sent = send(c->fd, buf_start(&c->out), buf_size(&c->out), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) break;  // EAGAIN: later; anything else: reading tells
    buf_drop(&c->out, sent);
  }
  int waits = buf_size(&c->out) > 0;
  if (waits == c->waits_to_write) return;
  c->waits_to_write = waits;
  watch(c, EPOLL_CTL_MOD);
}

static void hang_up(Conn *c) {
  if (c->fd >= 0) close(c->fd);
  c->fd = -1;
  buf_clear(&c->in);
  buf_clear(&c->out);
  c->waits_to_write = c->has_head = 0;
}

static void dial(Conn *c) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(options.port)};
  int on = 1, tries = 0;
  hang_up(c);
  inet_pton(AF_INET, options.host, &address.sin_addr);
  c->fd = socket(AF_INET, SOCK_STREAM, 0);
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  while (connect(c->fd, (void *)&address, sizeof address)) {
    if (++tries == 50) {
      fprintf(stderr, "cannot connect to %s:%d: %s\n", options.host, options.port, strerror(errno));
      exit(2);
    }
    usleep(20000);
  }
  watch(c, EPOLL_CTL_ADD);
}

static void start_request(Conn *c) {
  c->has_head = 0;
  c->first_us = 0;
  c->sent_us = now_us();
  c->last_event = c->judged = 0;
  buf_clear(&c->body);
  write_request(c);
  send_rest(c);
}

void open_conn(void) {
  Conn *c = &conns[opened];
  c->fd = -1;
  c->index = opened++;
  c->does = !options.modern ? INITIALIZE : options.streams ? STREAM : CALL;
  ready += c->does == CALL;
  dial(c);
  start_request(c);
}

static void stop(Conn *c) {
  c->does = STOPPED;
  stopped++;
  hang_up(c);
}

// ---- answers

void add_sample(long long latency_us, long long first_us) {
  if (phase != MEASURING || measured >= MAX_SAMPLES) return;
  latencies[measured] = latency_us;
  first_bytes[measured] = first_us;
  measured++;
}

static void count_call(Conn *c) {
  long long now = now_us();
  const char *fault = find_fault(c);
  if (fault) {
    fail(c, fault);
    return;
  }
  finished++;
  answer_bytes = buf_size(&c->body);
  if (!options.by_event) add_sample(now - c->sent_us, (c->first_us ? c->first_us : now) - c->sent_us);
}

// The answer is complete: judge it and go on.
static void finish_answer(Conn *c) {
  if (c->does == INITIALIZE) {
    if (c->status != 200) fail(c, "initialize");
    c->does = INITIALIZED;
  } else if (c->does == INITIALIZED) {
    if (c->status != 202) fail(c, "initialized");
    c->does = options.streams ? STREAM : CALL;
    ready += c->does == CALL;
  } else if (c->does == CALL) {
    count_call(c);
    if (phase == ENDING) {
      stop(c);
      return;
    }
  } else {
    if (c->status == 200) ready--;
    fail(c, "the stream ended");
    stop(c);
    return;
  }
  if (c->closes) {
    reconnects++;
    dial(c);
  }
  start_request(c);
}

static void read_head(Conn *c, size_t bytes) {
  Span head = {buf_start(&c->in), bytes};
  Span length = header(head, "content-length"), session = header(head, "mcp-session-id"), type = header(head, "content-type");
  c->status = bytes > 12 ? atoi(head.p + 9) : 0;
  c->chunked = span_has(header(head, "transfer-encoding"), "chunked");
  c->chunks = (Chunks){0};
  c->length = length.p ? atol(length.p) : c->status == 202 || c->status == 204 ? 0 : -1;
  c->closes = span_has(header(head, "connection"), "close") || (!c->chunked && c->length < 0);
  snprintf(c->type, sizeof c->type, "%.*s", (int)type.n, type.p ? type.p : "");
  if (session.n >= SESSION_BYTES) fail(c, "the session id is too long");
  else if (session.p) snprintf(c->session, sizeof c->session, "%.*s", (int)session.n, session.p);
  buf_drop(&c->in, bytes);
  c->has_head = c->status >= 200;  // 1xx: the real head follows
  if (c->does == STREAM && c->has_head && c->status == 200) ready++;
}

// 1 when the body is complete, -1 when it never will be.
static int take_body(Conn *c) {
  int state = 0;
  if (c->chunked) {
    state = chunks_take(&c->chunks, &c->in, &c->body);
  } else {
    size_t have = buf_size(&c->in), missing = c->length < 0 ? have : c->length - buf_size(&c->body);
    size_t n = have < missing ? have : missing;
    buf_add(&c->body, buf_start(&c->in), n);
    buf_drop(&c->in, n);
    state = c->length >= 0 && (long)buf_size(&c->body) == c->length;
  }
  if (!c->first_us && buf_size(&c->body)) c->first_us = now_us();
  return state;
}

// An idle stream's events are counted as they come, also when one comes in two pieces.
static void count_events(Conn *c) {
  static const char NAME[] = "list_changed";
  for (char *found; (found = memmem(buf_start(&c->body), buf_size(&c->body), NAME, sizeof NAME - 1)); events++)
    buf_drop(&c->body, found + sizeof NAME - 1 - buf_start(&c->body));
  if (buf_size(&c->body) >= sizeof NAME) buf_drop(&c->body, buf_size(&c->body) - (sizeof NAME - 2));
}

static void lose(Conn *c, const char *why) {
  fail(c, why);
  if (c->does == STREAM || phase == ENDING) {
    ready -= c->does == STREAM && c->has_head && c->status == 200;
    stop(c);
    return;
  }
  reconnects++;
  dial(c);
  start_request(c);
}

static void parse(Conn *c) {
  while (c->fd >= 0) {
    if (!c->has_head) {
      size_t bytes = head_length(&c->in);
      if (!bytes) return;
      read_head(c, bytes);
      if (!c->has_head) continue;
    }
    int state = take_body(c);
    const char *fault = options.by_event && c->does == CALL ? take_events(c) : NULL;
    if (c->does == STREAM && c->status == 200) count_events(c);
    if (fault) lose(c, fault);
    if (fault) return;
    if (state < 0) lose(c, "not a chunked body");
    else if (state) finish_answer(c);
    if (state <= 0) return;
  }
}

static void receive(Conn *c) {
  size_t want = options.streams ? 2048 : 65536;
  if (c->has_head && c->length > 65536) want = c->length;
  buf_reserve(&c->in, want);
  ssize_t n = recv(c->fd, c->in.b + c->in.len, c->in.cap - c->in.len, MSG_DONTWAIT);
  if (n > 0) {
    c->in.len += n;
    parse(c);
  } else if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
    return;
  } else if (n == 0 && c->has_head && !c->chunked && c->length < 0) {
    finish_answer(c);  // such a body ends with its connection (RFC 9112 section 6.3)
  } else {
    lose(c, "closed before its answer");
  }
}

void start_conns(void) {
  poller = epoll_create1(0);
  conns = calloc(count, sizeof *conns);
  latencies = malloc(sizeof *latencies * MAX_SAMPLES);  // untouched pages cost nothing
  first_bytes = malloc(sizeof *first_bytes * MAX_SAMPLES);
}

void poll_once(int wait_ms) {
  static struct epoll_event happened[512];
  int n = epoll_wait(poller, happened, 512, wait_ms);
  for (int i = 0; i < n; i++) {
    Conn *c = happened[i].data.ptr;
    if (c->fd < 0) continue;
    if (happened[i].events & EPOLLOUT) send_rest(c);
    if (happened[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) receive(c);
  }
}
