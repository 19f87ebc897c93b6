// A fake MCP backend that is faster than anything in front of it: one thread, epoll, HTTP/1.1 keep-alive, both eras.
// What it answers, and what it refuses, is in answers.c.
//
// Tools: echo{text} answers JSON; echo_sse{text} one SSE event; progress{text,n,delay_ms} n notifications and the result,
// `burst` of them in one write, the first after `first_us` where that is given. With `ack` each burst but the first waits
// until the client has the one before: it sends that number, a `long`, to the UDP port of the same number.
// At /box/NN/… it is a backend of its own, with fifty tools, of which echo_NN{text} answers JSON (boxes.c).
// GET opens a legacy idle stream, POST subscriptions/listen a modern one.
// For the harness: GET /__stats; POST /__push sends list_changed on every idle stream.
// Usage: backend [PORT]   (none or 0: the kernel chooses; the port is printed)
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "backend.h"

Conn *conns;
int running_progress;
struct Stats stats;

static int poller;

static void watch(Conn *c, int operation) {
  struct epoll_event event = {.events = EPOLLIN | (c->waits_to_write ? EPOLLOUT : 0), .data.ptr = c};
  epoll_ctl(poller, operation, c->fd, &event);
}

void flush(Conn *c) {
  while (!c->dead && buf_size(&c->out)) {
    ssize_t sent = send(c->fd, buf_start(&c->out), buf_size(&c->out), MSG_NOSIGNAL);
    if (sent > 0) buf_drop(&c->out, sent);
    else if (errno == EAGAIN) break;
    else if (errno != EINTR) c->dead = 1;
  }
  int waits = buf_size(&c->out) > 0;
  if (waits == c->waits_to_write || c->dead) return;
  c->waits_to_write = waits;
  watch(c, EPOLL_CTL_MOD);
}

// Moves the head out of the way and learns from it how long the body is.
static void take_head(Conn *c, size_t bytes) {
  buf_add(&c->head, buf_start(&c->in), bytes);
  buf_drop(&c->in, bytes);
  Span head = span_of(&c->head), length = header(head, "content-length");
  c->chunked = span_has(header(head, "transfer-encoding"), "chunked");
  c->body_bytes = length.p ? strtoul(length.p, NULL, 10) : 0;
  c->close_after = span_has(header(head, "connection"), "close");
  c->chunks = (Chunks){0};
  if (span_has(header(head, "expect"), "100-continue")) buf_put(&c->out, "HTTP/1.1 100 Continue\r\n\r\n");
}

// Answers one request if all of it is there; 1 if it was.
static int take_request(Conn *c) {
  size_t head_bytes = buf_size(&c->head) ? 0 : head_length(&c->in);
  if (head_bytes) take_head(c, head_bytes);
  if (!buf_size(&c->head)) return 0;
  if (c->chunked) {
    int state = chunks_take(&c->chunks, &c->in, &c->body);
    if (state < 0) c->dead = 1;
    if (state <= 0) return 0;
    answer(c, span_of(&c->head), span_of(&c->body));
  } else {
    if (buf_size(&c->in) < c->body_bytes) return 0;
    answer(c, span_of(&c->head), (Span){buf_start(&c->in), c->body_bytes});
    buf_drop(&c->in, c->body_bytes);
  }
  buf_clear(&c->head);
  buf_clear(&c->body);
  return 1;
}

static void process(Conn *c) {
  while (!c->dead && !c->progress.running && !c->idle_stream && take_request(c)) {
    flush(c);
    if (c->close_after && !c->progress.running && !c->idle_stream && !buf_size(&c->out)) c->dead = 1;
  }
  flush(c);
}

static void accept_conns(int listener) {
  int fd, on = 1;
  while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    Conn *c = calloc(1, sizeof *c);
    c->fd = fd;
    c->next = conns;
    if (conns) conns->previous = c;
    conns = c;
    stats.accepted++;
    watch(c, EPOLL_CTL_ADD);
  }
}

static void close_conn(Conn *c) {
  running_progress -= c->progress.running;
  stats.streams -= c->idle_stream != NO_STREAM;
  close(c->fd);
  if (c->previous) c->previous->next = c->next;
  else conns = c->next;
  if (c->next) c->next->previous = c->previous;
  Buf *bufs[] = {&c->in, &c->out, &c->head, &c->body, &c->progress.id, &c->progress.token, &c->progress.text};
  for (size_t i = 0; i < sizeof bufs / sizeof *bufs; i++) free(bufs[i]->b);
  free(c);
}

static void receive(Conn *c) {
  size_t want = 65536;
  if (buf_size(&c->head) && !c->chunked && c->body_bytes > buf_size(&c->in) + want) want = c->body_bytes - buf_size(&c->in);
  buf_reserve(&c->in, want);
  ssize_t n = recv(c->fd, c->in.b + c->in.len, c->in.cap - c->in.len, 0);
  if (n > 0) {
    c->in.len += n;
    process(c);
  } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
    c->dead = 1;
  }
}

static void step(Conn *c) {
  step_progress(c);
  if (!c->progress.running) process(c);
}

// Steps what is due; when the next step is.
static long long step_all(void) {
  long long soonest = NEVER;
  for (Conn *c = running_progress ? conns : NULL; c; c = c->next) {
    if (!c->progress.running || c->dead) continue;
    if (c->progress.next_us <= now_us()) step(c);
    if (c->progress.running && c->progress.next_us < soonest) soonest = c->progress.next_us;
  }
  return soonest;
}

// As epoll_wait, to the microsecond: rounded up to milliseconds, events that are due one after the other would leave together.
static int wait_until(long long due_us, struct epoll_event *events, int count) {
  struct pollfd all = {.fd = poller, .events = POLLIN};
  long long left = due_us - now_us();
  struct timespec wait = {.tv_sec = left / 1000000, .tv_nsec = left % 1000000 * 1000};
  if (due_us == NEVER) return epoll_wait(poller, events, count, -1);
  if (left > 0) ppoll(&all, 1, &wait, NULL);
  return epoll_wait(poller, events, count, 0);
}

// Steps the calls whose clients have what was sent.
static void take_acks(int acks) {
  long number;
  while (recv(acks, &number, sizeof number, 0) == sizeof number) {
    Conn *c = conns;
    while (c && !(c->progress.running && c->progress.ack == number && !c->dead)) c = c->next;
    if (c && c->progress.next_us == NEVER) step(c);
  }
}

static int listen_at(int port, int *acks) {
  int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
  socklen_t length = sizeof address;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd, (void *)&address, sizeof address) || listen(fd, 4096)) {
    perror("listen");
    exit(1);
  }
  getsockname(fd, (void *)&address, &length);
  *acks = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
  if (bind(*acks, (void *)&address, sizeof address)) {
    perror("the UDP port of the same number");
    exit(1);
  }
  printf("%d\n", ntohs(address.sin_port));
  fflush(stdout);
  return fd;
}

static int read_port(int count, char **arguments) {
  char *end = "";
  long port = count > 1 ? strtol(arguments[1], &end, 10) : 0;
  if (count <= 2 && !*end && port >= 0 && port <= 65535) return port;
  fprintf(stderr, "usage: backend [PORT], on 127.0.0.1; 0: the kernel chooses\n");
  exit(64);
}

int main(int count, char **arguments) {
  static struct epoll_event events[512];
  int port = read_port(count, arguments);
  signal(SIGPIPE, SIG_IGN);
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  poller = epoll_create1(0);
  int acks, listener = listen_at(port, &acks);
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
  epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
  event.data.ptr = &acks;
  epoll_ctl(poller, EPOLL_CTL_ADD, acks, &event);
  for (;;) {
    int n = wait_until(step_all(), events, 512);
    for (int i = 0; i < n; i++) {
      Conn *c = events[i].data.ptr;
      if (!c) accept_conns(listener);
      if (c == (void *)&acks) take_acks(acks);
      if (!c || c == (void *)&acks) continue;
      if (events[i].events & EPOLLOUT) flush(c);
      if (!c->dead && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) receive(c);
      if (c->dead) close_conn(c);
    }
  }
}
