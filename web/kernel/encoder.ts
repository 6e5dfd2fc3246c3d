// The encoder kernel (AssemblyScript): runs a tape of steps over memory that all of its threads share.
//
// What a transformer is, the tape knows (web/src/encoder/bert.ts, gemma.ts); here are the steps. A tape is a list of steps
// of `STEP_BYTES`, each a number (`Op`) and its arguments as int32: addresses, counts, float32 bit by bit. Every thread runs every
// step on its share, and none begins a step before all have ended the one before; but for `each`, where a thread has a tape of its own.

import { Op, STEP_BYTES } from "./ops";
import { attend, spread } from "./encoder/attention";
import { barrier, nextJob } from "./encoder/barrier";
import { finish, pool, project } from "./encoder/head";
import { be, product, productBlocks } from "./encoder/product";
import { embed, norm, quantise, turn } from "./encoder/rows";

export { packBlocks, packBytes, packColumns } from "./encoder/pack";
export { byteKind } from "./encoder/product";

/** The first byte that the kernel does not use itself. */
export function heapBase(): usize {
  return __heap_base;
}

// @ts-ignore: decorator
@inline
function arg(step: usize, i: i32): i32 {
  return load<i32>(step + (<usize>i << 2));
}

// @ts-ignore: decorator
@inline
function float(step: usize, i: i32): f32 {
  return load<f32>(step + (<usize>i << 2));
}

/** Run a tape as thread `thread` of `threads`; `state` is 16 bytes for `barrier`. False if another thread is dead. */
export function run(tape: usize, state: usize, thread: i32, threads: i32): bool {
  be(thread);
  return play(tape, state, thread, threads);
}

function play(tape: usize, state: usize, thread: i32, threads: i32): bool {
  for (let s = tape; load<i32>(s) != Op.end; s += STEP_BYTES) {
    switch (load<i32>(s)) {
      case Op.embed:
        embed(arg(s, 1), arg(s, 2), arg(s, 3), arg(s, 4), arg(s, 5), arg(s, 6), arg(s, 7), thread, threads);
        break;
      case Op.norm:
        norm(arg(s, 1), arg(s, 2), arg(s, 3), arg(s, 4), arg(s, 5), arg(s, 6), arg(s, 7), float(s, 8), thread, threads);
        break;
      case Op.quantise:
        quantise(
          arg(s, 1), arg(s, 2), float(s, 3), float(s, 4), arg(s, 5) != 0, arg(s, 6), arg(s, 7), arg(s, 8), arg(s, 9), arg(s, 10),
          thread, threads,
        );
        break;
      case Op.product:
        product(
          arg(s, 1), arg(s, 2), arg(s, 3), arg(s, 4), arg(s, 5), arg(s, 6), arg(s, 7), arg(s, 8), arg(s, 9), arg(s, 10),
          arg(s, 11), arg(s, 12), arg(s, 13), arg(s, 14), thread, threads,
        );
        break;
      case Op.productBlocks:
        productBlocks(
          arg(s, 1), arg(s, 2), arg(s, 3), arg(s, 4), arg(s, 5), arg(s, 6), arg(s, 7), arg(s, 8), arg(s, 9), arg(s, 10),
          arg(s, 11), arg(s, 12), thread, threads,
        );
        break;
      case Op.turn:
        turn(
          arg(s, 1), arg(s, 2), arg(s, 3), arg(s, 4), arg(s, 5), float(s, 6), arg(s, 7), arg(s, 8), arg(s, 9), arg(s, 10),
          thread, threads,
        );
        break;
      case Op.spread:
        spread(
          arg(s, 1), arg(s, 2), arg(s, 3), arg(s, 4), arg(s, 5), arg(s, 6), arg(s, 7), arg(s, 8), arg(s, 9), thread, threads,
        );
        break;
      case Op.attend:
        attend(
          arg(s, 1), arg(s, 2), arg(s, 3), arg(s, 4), arg(s, 5), arg(s, 6), arg(s, 7), arg(s, 8), arg(s, 9), float(s, 10),
          arg(s, 11), arg(s, 12), arg(s, 13), arg(s, 14), arg(s, 15), thread, threads,
        );
        break;
      case Op.pool:
        pool(arg(s, 1), arg(s, 2), arg(s, 3), arg(s, 4), arg(s, 5) != 0, arg(s, 6), thread, threads);
        break;
      case Op.project:
        project(arg(s, 1), arg(s, 2), arg(s, 3), arg(s, 4), arg(s, 5), arg(s, 6), thread, threads);
        break;
      case Op.finish:
        if (thread == 0) {
          finish(arg(s, 1), arg(s, 2), arg(s, 3), arg(s, 4), arg(s, 5), arg(s, 6), arg(s, 7), arg(s, 8), arg(s, 9));
        }
        break;
      case Op.each: {
        const mine = arg(s, 1 + thread);
        if (mine) play(mine, state, 0, 1);
        break;
      }
      default:
        unreachable();
    }
    if (!barrier(state, threads)) return false;
  }
  return true;
}

/** A thread's life: waits for a job (at `state`: its number, then the tape) and runs it. Ends only with its worker. */
export function serve(state: usize, thread: i32, threads: i32): void {
  let job = 0;
  for (;;) {
    job = nextJob(state, job);
    run(atomic.load<i32>(state, 12), state, thread, threads);
  }
}

/** Let the other threads run the tape too. */
export function wake(state: usize, tape: usize, threads: i32): void {
  atomic.store<i32>(state, <i32>tape, 12);
  atomic.add<i32>(state, 1, 8);
  atomic.notify(state + 8, threads);
}
