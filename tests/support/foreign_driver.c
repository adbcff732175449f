/* Runs the code of a package without Python: reads the inputs that a plan describes, calls MAIN
   with a thread pool, and writes the outputs.

   Arguments: a plan, a file with all inputs one after the other, a file for the outputs.
   The plan is numbers: threads, inputs, outputs, bytes of the arena and of a thread's scratch, how
   many words; the bytes of each input and output; the words. */

#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int64_t MAIN(void **buffers, void *pool);
int64_t braze_pool_size(int64_t threads);
void braze_pool_initialise(void *pool, int64_t threads, void *syscall, int64_t patience);
void *braze_pool_slot(void *pool, int64_t index);
void *braze_worker(void *slot);
void braze_pool_stop(void *pool);
int64_t braze_ticks(void);

enum { STATUS_WORDS = 8, CALLS = 3 };

static int64_t number(FILE *plan) {
  long long found;
  if (fscanf(plan, "%lld", &found) != 1) exit(3);
  return found;
}

static void *memory(int64_t bytes) {
  void *found = NULL;
  if (posix_memalign(&found, 4096, bytes + 4096)) exit(4);
  memset(found, 0x55, bytes + 4096); /* nothing may rely on zeros */
  return found;
}

int main(int count, char **arguments) {
  if (count != 4) return 2;
  FILE *plan = fopen(arguments[1], "r"), *given = fopen(arguments[2], "rb");
  if (!plan || !given) return 2;
  int64_t threads = number(plan), inputs = number(plan), outputs = number(plan);
  int64_t arena = number(plan), scratch = number(plan), words = number(plan);
  int64_t buffers = inputs + outputs;
  void **table = calloc(buffers + 3 + words, sizeof *table);
  int64_t *sizes = calloc(buffers, sizeof *sizes);
  for (int64_t i = 0; i < buffers; i++) {
    sizes[i] = number(plan);
    table[i] = memory(sizes[i]);
    if (i < inputs && fread(table[i], 1, sizes[i], given) != (size_t)sizes[i]) return 5;
  }
  int64_t *status = calloc(STATUS_WORDS, sizeof *status);
  table[buffers] = memory(arena);
  table[buffers + 1] = memory(scratch * threads);
  table[buffers + 2] = status;
  for (int64_t i = 0; i < words; i++) table[buffers + 3 + i] = (void *)(intptr_t)number(plan);

  int64_t size = braze_pool_size(threads);
  void *pool = memory(size);
  memset(pool, 0, size);
  if (braze_ticks() == 0) return 6;
  braze_pool_initialise(pool, threads, (void *)syscall, 2000);
  pthread_t *workers = calloc(threads, sizeof *workers);
  for (int64_t i = 1; i < threads; i++)
    if (pthread_create(&workers[i], NULL, braze_worker, braze_pool_slot(pool, i))) return 7;

  for (int call = 0; call < CALLS; call++) {
    /* Between two calls the workers fall asleep, and the next one has to wake them. */
    if (call) usleep(20000);
    for (int64_t i = inputs; i < buffers; i++) memset(table[i], 0x55, sizes[i]);
    status[0] = 0;
    MAIN(table, pool);
    if (status[0]) {
      fprintf(stderr, "check %lld failed at %lld\n", (long long)status[0], (long long)status[1]);
      return 8;
    }
  }
  braze_pool_stop(pool);
  for (int64_t i = 1; i < threads; i++) pthread_join(workers[i], NULL);

  FILE *made = fopen(arguments[3], "wb");
  if (!made) return 2;
  for (int64_t i = inputs; i < buffers; i++)
    if (fwrite(table[i], 1, sizes[i], made) != (size_t)sizes[i]) return 9;
  return fclose(made) ? 9 : 0;
}
