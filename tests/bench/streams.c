// Streams that are measured event by event (-E): each notification of a call is judged as it arrives, and its age is noted.
// When a client has a whole burst, it asks the backend for the next one, past whatever is between them.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench.h"

static int acks = -1;

void start_acks(void) {
  struct sockaddr_in backend = {.sin_family = AF_INET, .sin_port = htons(options.ack_port)};
  if (!options.ack_port) return;
  inet_pton(AF_INET, "127.0.0.1", &backend.sin_addr);
  acks = socket(AF_INET, SOCK_DGRAM, 0);
  if (connect(acks, (void *)&backend, sizeof backend)) {
    perror("the backend's UDP port");
    exit(2);
  }
}

// The number behind `name` in the event; -1: it has none.
static double number_in(const char *event, const char *end, const char *name) {
  const char *found = memmem(event, end - event, name, strlen(name));
  return found ? strtod(found + strlen(name), NULL) : -1;
}

// NULL, or what is wrong with this notification, which must be the one behind the last.
static const char *take(Conn *c, const char *event, const char *end, long long now) {
  double number = number_in(event, end, "\"progress\":"), sent_us = number_in(event, end, "\"message\":\"@");
  if (number != c->last_event + 1) return "an event that is not the next one";
  if (sent_us <= 0 || sent_us > now) return "an event without the time of its sending";
  c->last_event++;
  events++;
  add_sample(now - (long long)sent_us, now - (long long)sent_us);
  if (acks >= 0 && (c->last_event % options.burst == 0 || c->last_event == options.notifications))
    send(acks, &c->id, sizeof c->id, 0);
  return NULL;
}

const char *take_events(Conn *c) {
  static const char METHOD[] = "notifications/progress\"";
  long long now = now_us();
  for (;;) {
    char *from = buf_start(&c->body) + c->judged, *all = buf_start(&c->body) + buf_size(&c->body);
    char *event = memmem(from, all - from, METHOD, sizeof METHOD - 1);
    char *end = event ? memmem(event, all - event, "\n\n", 2) : NULL;
    if (!end) end = event ? memmem(event, all - event, "\r\n\r\n", 4) : NULL;
    if (!end) return NULL;
    const char *fault = take(c, event, end, now);
    if (fault) return fault;
    c->judged = end - buf_start(&c->body);
  }
}
