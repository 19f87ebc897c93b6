// A load generator for MCP over Streamable HTTP: a closed loop on keep-alive connections, one thread, epoll.
// Every answer is verified (calls.c), whatever became of the connection (conns.c); the last line of output is one JSON object.
//
//   bench -u 127.0.0.1:9000 -p /mcp -m legacy|modern -t echo|echo_sse|progress [-T name of the tool behind the gateway]
//         [-s bytes of text] [-c connections] [-d seconds] [-w seconds of warm-up] [-q stop after so many calls]
//         [-n progress notifications] [-D ms between them] [-H 'Header: value']… [-R pid: CPU time of that process tree]
//         [-S pid: that of another, the store's] [-k calls that each connection is to have at least]
//         [-M backends of an aggregate: each call is another one's, `@` in -T and -p stands for its number]
//   bench … -t list -K tools    measures tools/list; -t file: of a file, whose answers have no id of ours
//   bench … -t progress -E   measures events instead of calls: how many, and each one's age when it arrives
//         [-b events in one write] [-A the backend's own port: it sends a burst when the client has the one before]
//   A window goes on until each connection has had four calls (-k), or 30 s have passed; -q ends it at once.
//   bench … -N 1000   opens idle streams instead (legacy GET, modern subscriptions/listen): prints a JSON line when all
//                     are open and one for every line on stdin; ends with stdin.
#define _GNU_SOURCE
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bench.h"
#include "cpu.h"

enum {
  OPENING_AT_ONCE = 50,       // idle streams: so many handshakes in flight, or the accept queue overflows
  MAX_ERRORS = 1000,          // a peer that only fails isn't worth the whole window
  STREAMS_PATIENCE_US = 90000000,
  PATIENCE_US = 30000000,     // for all sessions to be there; for those calls; for calls in flight to end
};

struct Options options = {.host = "127.0.0.1", .path = "/mcp", .port = 9000, .conns = 16, .size = 200, .notifications = 10,
                          .burst = 1,
                          .calls_per_conn = 4, .seconds = 3, .warm_seconds = .5, .tool = "echo"};
static struct { int pid; Tree before, after; } gateway, store;  // whose CPU time is wanted; pid 0: nobody's
static long long phase_since;

static void enter(enum Phase next) {
  phase = next;
  phase_since = now_us();
}

static int window_is_over(long long lasted_us) {
  if (options.calls && measured >= options.calls) return 1;
  int enough = measured >= options.calls_per_conn * count || lasted_us > PATIENCE_US;
  return enough && lasted_us >= options.seconds * 1e6;
}

static void give_up(long lost, const char *why) {
  if (!errors) snprintf(first_error, sizeof first_error, "%ld connections: %s", lost, why);
  errors += lost;
}

// Goes to the next phase when its time has come; 0: nothing more will come of this.
// Warm-up ends when every connection has its session: a handshake in the window would be counted as calls' CPU.
static int advance(void) {
  static long long ready_since;
  long long now = now_us(), lasted = now - phase_since;
  if (!ready_since && ready == count) ready_since = now;
  if (phase == WARMING && ready_since && now - ready_since >= options.warm_seconds * 1e6) {
    if (gateway.pid) gateway.before = read_tree(gateway.pid);
    if (store.pid) store.before = read_tree(store.pid);
    enter(MEASURING);
  } else if (phase == MEASURING && window_is_over(lasted)) {
    if (gateway.pid) gateway.after = read_tree(gateway.pid);
    if (store.pid) store.after = read_tree(store.pid);
    options.seconds = lasted / 1e6;
    enter(ENDING);
    if (!measured && !errors) give_up(count, "no call ended in the window");
  } else if (phase != MEASURING && lasted > PATIENCE_US) {
    give_up(phase == WARMING ? count - ready : count - stopped, phase == WARMING ? "no session" : "no answer to the last call");
    return 0;
  }
  return errors < MAX_ERRORS;
}

static void measure(void) {
  enter(WARMING);
  do poll_once(20);
  while (advance() && stopped < count);
}

static int ascending(const void *a, const void *b) {
  unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;
  return x < y ? -1 : x > y;
}

// In milliseconds, of sorted microseconds.
static double percentile(const unsigned *sorted, double share) {
  return measured ? sorted[(long)((measured - 1) * share)] / 1000.0 : 0;
}

static void report(void) {
  double cpu = gateway.pid && phase == ENDING ? cpu_between(&gateway.before, &gateway.after) : 0;
  double store_cpu = store.pid && phase == ENDING ? cpu_between(&store.before, &store.after) : 0;
  if ((cpu < 0 || store_cpu < 0) && !errors++)
    snprintf(first_error, sizeof first_error, "a process of the gateway died, or the store's");
  qsort(latencies, measured, sizeof *latencies, ascending);
  qsort(first_bytes, measured, sizeof *first_bytes, ascending);
  printf("{\"calls\":%ld,\"seconds\":%.3f,\"rps\":%.1f,\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"first_byte_ms\":%.3f,"
         "\"cpu_ms_per_1k\":%.3f,\"store_cpu_ms_per_1k\":%.3f,\"finished\":%ld,\"events\":%ld,\"reconnects\":%ld,"
         "\"answer_bytes\":%ld,\"errors\":%ld,\"error\":\"%s\"}\n",
         measured, options.seconds, measured / options.seconds, percentile(latencies, .5), percentile(latencies, .99),
         percentile(first_bytes, .5), measured && cpu > 0 ? cpu * 1e6 / measured : 0,
         measured && store_cpu > 0 ? store_cpu * 1e6 / measured : 0, finished, events, reconnects, answer_bytes,
         errors, first_error);
}

// Opens the streams and keeps them; tells how they are when all are there, and at every line on stdin.
static void hold_streams(void) {
  struct pollfd harness = {.fd = STDIN_FILENO, .events = POLLIN};
  int announced = 0;
  char line[64];
  long long began = now_us();
  for (;;) {
    while (opened < count && opened - ready - stopped < OPENING_AT_ONCE) open_conn();
    poll_once(20);
    int asked = poll(&harness, 1, 0) > 0;
    if (asked && read(STDIN_FILENO, line, sizeof line) <= 0) return;
    int settled = ready + stopped >= count || now_us() - began > STREAMS_PATIENCE_US;
    if (!asked && (announced || !settled)) continue;
    announced = 1;
    printf("{\"open\":%d,\"events\":%ld,\"errors\":%ld,\"error\":\"%s\"}\n", ready, events, errors, first_error);
    fflush(stdout);
  }
}

static void read_options(int argument_count, char **arguments) {
  for (int o; (o = getopt(argument_count, arguments, "u:p:m:t:T:s:c:d:w:q:k:n:D:H:R:S:N:Eb:A:M:K:")) > 0;) switch (o) {
    case 'u': if (sscanf(optarg, "%63[^:]:%d", options.host, &options.port) != 2) exit(64); break;
    case 'p': snprintf(options.path, sizeof options.path, "%s", optarg); break;
    case 'm': options.modern = !strcmp(optarg, "modern"); break;
    case 't': options.tool = optarg; break;
    case 'T': options.tool_name = optarg; break;
    case 's': options.size = atoi(optarg); break;
    case 'c': options.conns = atoi(optarg); break;
    case 'd': options.seconds = atof(optarg); break;
    case 'w': options.warm_seconds = atof(optarg); break;
    case 'q': options.calls = atol(optarg); break;
    case 'k': options.calls_per_conn = atoi(optarg); break;
    case 'n': options.notifications = atoi(optarg); break;
    case 'D': options.delay_ms = atoi(optarg); break;
    case 'H': strncat(options.headers, optarg, sizeof options.headers - strlen(options.headers) - 3);
              strcat(options.headers, "\r\n"); break;
    case 'R': gateway.pid = atoi(optarg); break;
    case 'S': store.pid = atoi(optarg); break;
    case 'E': options.by_event = 1; break;
    case 'b': options.burst = atoi(optarg); break;
    case 'A': options.ack_port = atoi(optarg); break;
    case 'M': options.members = atoi(optarg); break;
    case 'K': options.tools = atoi(optarg); break;
    case 'N': options.streams = atoi(optarg); break;
    default: exit(64);
  }
  if (!options.tool_name) options.tool_name = options.tool;
}

int main(int argument_count, char **arguments) {
  struct rlimit files;
  signal(SIGPIPE, SIG_IGN);
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  read_options(argument_count, arguments);
  choose_text();
  count = options.streams ? options.streams : options.conns;
  start_conns();
  start_acks();
  if (options.streams) {
    hold_streams();
    return 0;
  }
  while (opened < count) open_conn();
  measure();
  report();
  return 0;
}
