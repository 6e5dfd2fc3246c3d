// The steps of a tape: what the encoder kernel can do, as both of its sides name it. See web/src/encoder/tape.ts.

export const enum Op {
  end,
  embed,
  norm,
  quantise,
  product,
  productBlocks,
  turn,
  spread,
  attend,
  pool,
  project,
  finish,
  /** Its arguments are tapes: each thread runs one of them alone. */
  each,
}

/** What bytes are to the dot product of relaxed SIMD. */
export const enum Bytes {
  /** Sums stop at 16 bits, or there is no such product: it is not used. */
  inexact,
  unsigned,
  signed,
}

/** What a product does with its sums before it stores them. */
export const enum Then {
  store,
  gelu,
  /** Columns come in fours, of one half and of the other: gelu(first) * second is stored, half as many. */
  gatedGelu,
  add,
}

/** Bytes of a step: its number and up to 19 arguments of 32 bits. */
export const STEP_BYTES = 80;
/** Columns of a panel: weights lie in panels, so that a tile reads them one after another. */
export const PANEL = 8;
/** Weights of a block that share a scale, along the channels they read. */
export const BLOCK = 32;
