/* job COMPILER ARG...: run a compiler when there is memory for it, and write down what it took.
 *
 * ccache runs it in front of the compiler (CCACHE_PREFIX), so for what has to be compiled and for nothing else; its hashes
 * do not know of it. It is compiled in the compile container, by the compiler that is there.
 *
 *   IMAGETIERS_JOB_ROOM    bytes that all jobs together may have; 0 or nothing: nobody waits
 *   IMAGETIERS_JOB_MEMORY  bytes that a job may need of which nothing is known
 *   IMAGETIERS_JOB_KNOWN   file: for each object known from an earlier compile, LF OBJECT TAB SECONDS TAB BYTES, ending in LF
 *   IMAGETIERS_JOB_LOG     file: gets a line for each run of a compiler, see `report`
 *
 * Each job takes a lease on its memory in a table that all jobs share, a mapped file beside this program. Waiting jobs go
 * longest first, as far as they fit, but none is overtaken more than OVERTAKEN times. Byte 0 of the file is locked by who
 * changes the table, byte 1+N by the job in slot N: the kernel gives them back when a job dies, however it dies.
 *
 * A compiler that the kernel has killed for want of memory is run again, once, with twice the room and nothing beside it.
 * Whatever goes wrong here, the compiler runs: a measure that is missing costs less than a compile.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SLOTS = 1024, OVERTAKEN = 16, FREE = 0, WAITING, RUNNING };

struct slot {
  uint32_t state; /* what its job waits on */
  uint32_t alone;
  uint32_t overtaken;
  uint32_t unused;
  uint64_t need; /* bytes */
  uint64_t arrival;
  double seconds; /* that it will probably take */
};

struct table {
  uint64_t arrivals;
  struct slot slots[SLOTS];
};

static struct table *table;
static int table_file = -1;
static int mine = -1;
static uint64_t room;
static volatile pid_t child;

/* ---- the table */

static int lock_byte(int byte, short type, int wait) {
  struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
  int result;
  do
    result = fcntl(table_file, wait ? F_SETLKW : F_SETLK, &lock);
  while (result == -1 && errno == EINTR);
  return result;
}

static int held(int slot) {
  struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 1 + slot, .l_len = 1};
  return slot == mine || fcntl(table_file, F_GETLK, &lock) == -1 || lock.l_type != F_UNLCK;
}

static int open_table(const char *program) {
  char path[PATH_MAX];
  if (snprintf(path, sizeof path, "%s.table", program) >= (int)sizeof path) return 0;
  table_file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (table_file == -1 || ftruncate(table_file, sizeof *table) == -1) return 0;
  table = mmap(NULL, sizeof *table, PROT_READ | PROT_WRITE, MAP_SHARED, table_file, 0);
  return table != MAP_FAILED;
}

/* Whether `a` is to go before `b`: first who must not be overtaken any more, then the longest. */
static int before(const struct slot *a, const struct slot *b) {
  int a_first = a->alone || a->overtaken >= OVERTAKEN, b_first = b->alone || b->overtaken >= OVERTAKEN;
  if (a_first != b_first) return a_first;
  if (!a_first && a->seconds != b->seconds) return a->seconds > b->seconds;
  return a->arrival < b->arrival;
}

/* Let go whoever may. The table is locked. */
static void schedule(void) {
  uint64_t total = 0;
  int running = 0, alone = 0;
  for (int i = 0; i < SLOTS; i++) {
    struct slot *slot = &table->slots[i];
    if (slot->state != FREE && !held(i)) slot->state = FREE; /* its job has died */
    if (slot->state == RUNNING) {
      total += slot->need;
      running++;
      alone |= slot->alone;
    }
  }
  char passed[SLOTS];
  memset(passed, 0, sizeof passed);
  while (!alone) {
    struct slot *next = NULL;
    for (int i = 0; i < SLOTS; i++) {
      struct slot *slot = &table->slots[i];
      if (slot->state == WAITING && !passed[i] && (next == NULL || before(slot, next))) next = slot;
    }
    if (next == NULL) return;
    int fits = running == 0 || (!next->alone && total + next->need <= room);
    if (!fits && (next->alone || next->overtaken >= OVERTAKEN)) return; /* nobody goes before it */
    if (!fits) {
      passed[next - table->slots] = 1;
      continue;
    }
    for (int i = 0; i < SLOTS; i++)
      if (table->slots[i].state == WAITING && table->slots[i].arrival < next->arrival) table->slots[i].overtaken++;
    next->state = RUNNING;
    syscall(SYS_futex, &next->state, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
    total += next->need;
    running++;
    alone = next->alone;
  }
}

/* Wait for memory. A job whose lease cannot be written down runs without one. */
static void take(uint64_t need, double seconds, int alone) {
  if (room == 0 || table == NULL || lock_byte(0, F_WRLCK, 1) == -1) return;
  schedule(); /* frees the slots of the dead */
  for (int i = 0; i < SLOTS && mine == -1; i++)
    if (table->slots[i].state == FREE && lock_byte(1 + i, F_WRLCK, 0) == 0) mine = i;
  if (mine == -1) {
    lock_byte(0, F_UNLCK, 0);
    return;
  }
  struct slot *slot = &table->slots[mine];
  *slot = (struct slot){.state = WAITING, .alone = (uint32_t)alone, .need = need < room ? need : room,
                        .arrival = ++table->arrivals, .seconds = seconds};
  schedule();
  lock_byte(0, F_UNLCK, 0);
  /* Who has died without giving back its lease has woken nobody: so everyone looks again now and then. */
  const struct timespec now_and_then = {.tv_sec = 1};
  while (__atomic_load_n(&slot->state, __ATOMIC_ACQUIRE) == WAITING) {
    if (syscall(SYS_futex, &slot->state, FUTEX_WAIT, WAITING, &now_and_then, NULL, 0) == -1 && errno == ETIMEDOUT &&
        lock_byte(0, F_WRLCK, 1) == 0) {
      schedule();
      lock_byte(0, F_UNLCK, 0);
    }
  }
}

static void give_back(void) {
  if (mine == -1 || lock_byte(0, F_WRLCK, 1) == -1) return;
  table->slots[mine].state = FREE;
  lock_byte(1 + mine, F_UNLCK, 0);
  mine = -1;
  schedule();
  lock_byte(0, F_UNLCK, 0);
}

/* ---- what is known of a job */

static uint64_t number(const char *name) {
  const char *text = getenv(name);
  return text != NULL ? strtoull(text, NULL, 10) : 0;
}

/* Find an object's seconds and bytes; what is not known keeps its guess. An unknown job counts as a long one. */
static void look_up(const char *object, double *seconds, uint64_t *bytes) {
  const char *path = getenv("IMAGETIERS_JOB_KNOWN");
  struct stat status;
  int file = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  if (file == -1) return;
  if (fstat(file, &status) == 0 && status.st_size > 0) {
    size_t size = (size_t)status.st_size;
    char *known = mmap(NULL, size, PROT_READ, MAP_PRIVATE, file, 0);
    char *line = NULL;
    if (known != MAP_FAILED && asprintf(&line, "\n%s\t", object) != -1) {
      const char *found = memmem(known, size, line, strlen(line));
      const char *end = found != NULL ? memchr(found + 1, '\n', (size_t)(known + size - found - 1)) : NULL;
      char rest[64] = "";
      if (end != NULL && (size_t)(end - found) - strlen(line) < sizeof rest)
        memcpy(rest, found + strlen(line), (size_t)(end - found) - strlen(line));
      double told;
      unsigned long long need;
      if (sscanf(rest, "%lf\t%llu", &told, &need) == 2) {
        *seconds = told;
        *bytes = need;
      }
      free(line);
    }
    if (known != MAP_FAILED) munmap(known, size);
  }
  close(file);
}

static const char *value_of(char **words, const char *option) {
  for (; *words != NULL; words++)
    if (strcmp(*words, option) == 0) return words[1];
  return NULL;
}

/* The source is the last word that names a file. */
static const char *source_of(char **words) {
  const char *source = NULL, *output = value_of(words, "-o");
  struct stat status;
  for (char **word = words + 1; *word != NULL; word++)
    if (**word != '-' && *word != output && stat(*word, &status) == 0 && S_ISREG(status.st_mode)) source = *word;
  return source;
}

static uint64_t hash_file(const char *path) {
  uint64_t hash = 14695981039346656037u; /* FNV-1a */
  unsigned char block[1 << 16];
  int file = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  if (file == -1) return 0;
  for (ssize_t size; (size = read(file, block, sizeof block)) > 0;)
    for (ssize_t i = 0; i < size; i++) hash = (hash ^ block[i]) * 1099511628211u;
  close(file);
  return hash;
}

/* How often the kernel has killed something in this container for want of memory; -1 where it does not say. */
static long long kills(void) {
  const char *paths[] = {"/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"};
  char word[64];
  long long count, found = -1;
  for (size_t i = 0; i < 2 && found == -1; i++) {
    FILE *file = fopen(paths[i], "re");
    if (file == NULL) continue;
    while (fscanf(file, "%63s %lld", word, &count) == 2)
      if (strcmp(word, "oom_kill") == 0) found = count;
    fclose(file);
  }
  return found;
}

/* ---- running it */

struct outcome {
  int status;
  double seconds;
  uint64_t peak;
  int starved;
};

static void pass_on(int number) {
  if (child > 0) kill(child, number);
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static struct outcome run(char **words) {
  struct outcome outcome = {.status = 127 << 8};
  struct rusage used;
  sigset_t ours, old;
  long long killed = kills();
  double began = now();
  sigemptyset(&ours);
  for (size_t i = 0; i < 3; i++) sigaddset(&ours, (int[]){SIGTERM, SIGINT, SIGHUP}[i]);
  sigprocmask(SIG_BLOCK, &ours, &old);
  child = fork();
  if (child == -1) { /* no room for a process of our own: then the compiler takes this one */
    sigprocmask(SIG_SETMASK, &old, NULL);
    execvp(words[0], words);
    return outcome;
  }
  if (child == 0) {
    sigprocmask(SIG_SETMASK, &old, NULL);
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* it shall not run on without a lease */
    execvp(words[0], words);
    fprintf(stderr, "imagetiers: %s: %s\n", words[0], strerror(errno));
    _exit(127);
  }
  struct sigaction action = {.sa_handler = pass_on, .sa_flags = SA_RESTART};
  for (size_t i = 0; i < 3; i++) sigaction((int[]){SIGTERM, SIGINT, SIGHUP}[i], &action, NULL);
  sigprocmask(SIG_SETMASK, &old, NULL);
  while (wait4(child, &outcome.status, 0, &used) == -1 && errno == EINTR) {
  }
  child = 0;
  for (size_t i = 0; i < 3; i++) signal((int[]){SIGTERM, SIGINT, SIGHUP}[i], SIG_DFL);
  outcome.seconds = now() - began;
  outcome.peak = (uint64_t)used.ru_maxrss * 1024;
  if (outcome.status != 0)
    outcome.starved = killed == -1 ? WIFSIGNALED(outcome.status) && WTERMSIG(outcome.status) == SIGKILL : kills() > killed;
  return outcome;
}

/* Write a word without what parts the fields and lines. */
static void put(FILE *file, const char *word) {
  for (; *word != '\0'; word++) putc(strchr("\t\n\x1f", *word) != NULL ? ' ' : *word, file);
}

/* OUTCOME TAB SECONDS TAB PEAK TAB LEASE TAB HASH TAB OBJECT TAB SOURCE TAB WORDS; the words are parted by \x1f. */
static void report(struct outcome got, uint64_t lease, uint64_t hash, const char *object, const char *source, char **words) {
  const char *path = getenv("IMAGETIERS_JOB_LOG");
  char *text = NULL;
  size_t size = 0;
  FILE *memory;
  int file;
  if (path == NULL || (memory = open_memstream(&text, &size)) == NULL) return;
  fprintf(memory, "%s\t%.3f\t%llu\t%llu\t%016llx\t", got.starved ? "starved" : got.status == 0 ? "done" : "failed",
          got.seconds, (unsigned long long)got.peak, (unsigned long long)lease, (unsigned long long)hash);
  put(memory, object);
  putc('\t', memory);
  put(memory, source != NULL ? source : "");
  for (char **word = words; *word != NULL; word++) {
    putc(word == words ? '\t' : '\x1f', memory);
    put(memory, *word);
  }
  putc('\n', memory);
  if (fclose(memory) != 0) return;
  file = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
  if (file != -1) {
    if (write(file, text, size) == -1) { /* the disk is full: the compile will say so */
    }
    close(file);
  }
  free(text);
}

/* What the first run has said must not be taken for the second's: ccache keeps what a compiler says. */
static void forget(int file, off_t from) {
  if (from != -1 && ftruncate(file, from) == 0) lseek(file, from, SEEK_SET);
}

static off_t position(int file) {
  struct stat status;
  return fstat(file, &status) == 0 && S_ISREG(status.st_mode) ? lseek(file, 0, SEEK_END) : -1;
}

int main(int count, char **words) {
  if (count < 2) {
    puts("ready");
    return 0;
  }
  const char *program = words[0];
  words++;
  if (getenv("IMAGETIERS_JOB") != NULL) { /* within a job: it has its lease */
    execvp(words[0], words);
    return 127;
  }
  setenv("IMAGETIERS_JOB", "1", 1);
  room = number("IMAGETIERS_JOB_ROOM");
  uint64_t need = number("IMAGETIERS_JOB_MEMORY");
  double seconds = 1e9;
  const char *source = source_of(words), *output = value_of(words, "-o");
  char object[2 * PATH_MAX] = "", folder[PATH_MAX];
  if (output == NULL) output = source != NULL ? source : words[0];
  if (*output == '/' || getcwd(folder, sizeof folder) == NULL)
    snprintf(object, sizeof object, "%s", output);
  else
    snprintf(object, sizeof object, "%s/%s", folder, output);
  look_up(object, &seconds, &need);
  uint64_t hash = hash_file(source);
  if (room != 0 && !open_table(program)) table = NULL;

  off_t said = position(2), printed = position(1);
  int alone = room != 0 && need >= room;
  take(need, seconds, alone);
  struct outcome got = run(words);
  give_back();
  report(got, need, hash, object, source, words);
  if (got.starved && room != 0 && !alone) {
    need = 2 * (need > got.peak ? need : got.peak);
    forget(2, said);
    forget(1, printed);
    take(need, seconds, 1);
    got = run(words);
    give_back();
    report(got, need, hash, object, source, words);
  }
  if (got.starved)
    fprintf(stderr, "imagetiers: %s: the kernel has killed its compiler for want of memory, at %llu MiB\n",
            source != NULL ? source : object, (unsigned long long)(got.peak >> 20));
  if (WIFSIGNALED(got.status)) {
    signal(WTERMSIG(got.status), SIG_DFL);
    raise(WTERMSIG(got.status));
  }
  return WIFEXITED(got.status) ? WEXITSTATUS(got.status) : 1;
}
