// The CPU time of a process and all its descendants, from /proc and the kernel's per-process clocks (nanoseconds, all
// threads, dead ones included; /proc/PID/stat counts in steps of 10 ms, too coarse for a short window).
#ifndef CPU_H
#define CPU_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_PROCESSES = 256 };

typedef struct { int count, pid[MAX_PROCESSES]; double seconds[MAX_PROCESSES]; } Tree;

static inline int parent_of(int pid) {
  char path[64], line[1024];
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  FILE *file = fopen(path, "r");
  if (!file) return -1;
  size_t n = fread(line, 1, sizeof line - 1, file);
  fclose(file);
  line[n] = 0;
  char *name_end = strrchr(line, ')');  // the name may hold blanks and brackets itself
  int parent = -1;
  if (name_end) sscanf(name_end + 2, "%*c %d", &parent);
  return parent;
}

// -1 when there is no such process.
static inline double cpu_of(int pid) {
  clockid_t clock;
  struct timespec t;
  if (clock_getcpuclockid(pid, &clock) || clock_gettime(clock, &t)) return -1;
  return t.tv_sec + t.tv_nsec / 1e9;
}

static inline Tree read_tree(int root) {
  static int pids[65536], parents[65536];
  Tree tree = {.count = 1, .pid = {root}};
  int known = 0;
  DIR *proc = opendir("/proc");
  for (struct dirent *entry; proc && known < 65536 && (entry = readdir(proc));) {
    int pid = atoi(entry->d_name);
    if (pid <= 0 || (parents[known] = parent_of(pid)) < 0) continue;
    pids[known++] = pid;
  }
  if (proc) closedir(proc);
  for (int i = 0; i < tree.count; i++) {
    for (int k = 0; k < known && tree.count < MAX_PROCESSES; k++)
      if (parents[k] == tree.pid[i]) tree.pid[tree.count++] = pids[k];
    tree.seconds[i] = cpu_of(tree.pid[i]);
  }
  return tree;
}

// What the tree used between two readings; -1 when one of its processes has died in between and took its count along.
static inline double cpu_between(const Tree *before, const Tree *after) {
  double used = 0;
  for (int i = 0; i < after->count; i++) used += after->seconds[i] > 0 ? after->seconds[i] : 0;
  for (int i = 0; i < before->count; i++) {
    int k = 0;
    while (k < after->count && after->pid[k] != before->pid[i]) k++;
    if (k == after->count || after->seconds[k] < 0) return -1;
    used -= before->seconds[i];
  }
  return used;
}

#endif
