// Which texts of a batch a thread embeds alone, and which all threads embed together.

/** A thread may have this much more than its share of the tokens. */
const UNEVEN = 1.15;

export interface Dealt {
  /** For each thread its texts, by their positions in the batch; empty where none is embedded alone. */
  alone: number[][];
  /** Every step of these is shared by all threads. */
  together: number[];
}

/**
 * Threads that share every step wait for each other after each, and many steps take microseconds. Where there is a text or more for
 * each thread, each embeds its own, and they meet once. What does not come out even is shared: the longest texts.
 */
export function deal(lengths: Int32Array, threads: number): Dealt {
  const order = Array.from(lengths.keys()).sort((a, b) => lengths[b]! - lengths[a]!);
  const shared = order.length % threads;
  if (threads === 1 || order.length < threads) return { alone: [], together: order };
  const alone: number[][] = Array.from({ length: threads }, () => []);
  const tokens = new Array<number>(threads).fill(0);
  for (const text of order.slice(shared)) {
    const least = tokens.indexOf(Math.min(...tokens));
    alone[least]!.push(text);
    tokens[least]! += lengths[text]!;
  }
  const all = tokens.reduce((sum, count) => sum + count, 0);
  if (Math.max(...tokens) > (UNEVEN * all) / threads) return { alone: [], together: order };
  return { alone, together: order.slice(0, shared) };
}
