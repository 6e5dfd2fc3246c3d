// How the vocabulary is hashed, as both of its sides know it. See web/src/tokenizer_vocabulary.ts.

/** A multiplier whose powers run through all odd residues of its kind: the hash of a text is a polynomial in it. */
export const FACTOR = 0x01000193;
/** Spreads the polynomial: see `mix`. */
export const SPREAD = 0x7feb352d;
/** Hashes two units that stand side by side. */
export const PAIR = 0x9e3779b1;

/** log2 of the bits of the pair filter: the 36,292 pairs of Gemma's vocabulary set 7% of them. */
export const PAIR_BITS = 19;
/** log2 of the bits of the filter of beginnings: Gemma's 6,414 added tokens have few each of its own. */
export const BEGINNING_BITS = 17;

/** The length of a token that is two tokens in a row. */
export const JOINED = 255;
