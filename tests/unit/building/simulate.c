/* simulate ROOM WINDOW GUESS <OBJECTS: job.c's own schedule over a clock that jumps from one end of a job to the next.
 *
 * A line of OBJECTS is SECONDS LEASE PEAK. WINDOW jobs are there at once, as ninja starts them; each runs when `schedule` lets
 * it. Prints the seconds in all, the most that was leased, and the largest peaks that ran together.
 * GUESS 0: leases as they are written. Otherwise every job is taken for one of that size, of which nothing is known. */
#define main job_main
#include "../../../imagetiers/building/job.c"
#undef main

int main(int count, char **words) {
  if (count != 4) return 2;
  int window = atoi(words[2]), busy = 0, more = 1;
  uint64_t guess = strtoull(words[3], NULL, 10), most = 0, together = 0;
  double clock = 0, ends[SLOTS], lasts[SLOTS];
  uint64_t peaks[SLOTS];
  room = strtoull(words[1], NULL, 10);
  table = calloc(1, sizeof *table);
  while (more || busy) {
    while (more && busy < window) {
      double seconds;
      unsigned long long lease, peak;
      if (scanf("%lf %llu %llu", &seconds, &lease, &peak) != 3) {
        more = 0;
        break;
      }
      int i = 0;
      while (table->slots[i].state != FREE) i++;
      table->slots[i] = (struct slot){.state = WAITING, .arrival = ++table->arrivals, .need = guess ? guess : lease,
                                      .seconds = guess ? 1e9 : seconds};
      if (table->slots[i].need > room) table->slots[i].need = room;
      lasts[i] = seconds;
      peaks[i] = peak;
      ends[i] = -1;
      busy++;
    }
    schedule();
    uint64_t leased = 0, used = 0;
    int next = -1;
    for (int i = 0; i < SLOTS; i++) {
      if (table->slots[i].state != RUNNING) continue;
      if (ends[i] < 0) ends[i] = clock + lasts[i];
      leased += table->slots[i].need;
      used += peaks[i];
      if (next == -1 || ends[i] < ends[next]) next = i;
    }
    if (leased > most) most = leased;
    if (used > together) together = used;
    if (next == -1) continue;
    clock = ends[next];
    table->slots[next].state = FREE;
    busy--;
  }
  printf("%.0f %llu %llu\n", clock, (unsigned long long)most, (unsigned long long)together);
  return 0;
}
