// Threads that wait for each other. At `state`: arrivals, generation, job, tape (int32 each), shared by all threads.

/** Looks at the generation before a thread sleeps: a few microseconds, as long as most steps of a short text take. */
const SPINS = 2000;
/** A thread that is this long behind (nanoseconds, and how many of them) is dead. */
const SLEEP: i64 = 1_000_000_000;
const SLEEPS = 60;

/** Returns when all threads have come here; false if one does not come. */
export function barrier(state: usize, threads: i32): bool {
  if (threads == 1) return true;
  const generation = atomic.load<i32>(state, 4);
  if (atomic.add<i32>(state, 1) == threads - 1) {
    atomic.store<i32>(state, 0);
    atomic.store<i32>(state, generation + 1, 4);
    atomic.notify(state + 4, threads);
    return true;
  }
  for (let i = 0; i < SPINS; i++) if (atomic.load<i32>(state, 4) != generation) return true;
  for (let i = 0; i < SLEEPS; i++) {
    if (atomic.load<i32>(state, 4) != generation) return true;
    atomic.wait<i32>(state + 4, generation, SLEEP);
  }
  return atomic.load<i32>(state, 4) != generation;
}

/** Sleeps until the job is another one than `job`, and gives it. */
export function nextJob(state: usize, job: i32): i32 {
  let next = atomic.load<i32>(state, 8);
  while (next == job) {
    atomic.wait<i32>(state + 8, job, -1);
    next = atomic.load<i32>(state, 8);
  }
  return next;
}
