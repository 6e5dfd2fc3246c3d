// The vocabulary kernel (AssemblyScript): from the file of the tokens to what finds them. See DESIGN.md, "Token ids".
//
// It runs once, for a hundredth of a second; in TypeScript most of that time would be over before the loops are compiled.
//
// By id: `lengths` (uint8), `starts` (int32: where the units of a token begin, ~left where it is two in a row), `rights` (int32),
// `hashes` (int32), `edges` (uint32: the first unit and, above, the last).

import { BEGINNING_BITS, FACTOR, JOINED, PAIR, PAIR_BITS, SPREAD } from "./hash";

let longest: i32 = 0;

/** The first byte that the kernel does not use itself. */
export function heapBase(): usize {
  return __heap_base;
}

// @ts-ignore: decorator
@inline
function set(bits: usize, bit: u32): void {
  const at = bits + (bit >> 3);
  store<u8>(at, <i32>load<u8>(at) | (1 << (bit & 7)));
}

// @ts-ignore: decorator
@inline
function pair(pairs: usize, first: i32, second: i32): void {
  set(pairs, <u32>(((first << 16) | second) * <i32>PAIR) >> (32 - PAIR_BITS));
}

// @ts-ignore: decorator
@inline
function mix(hash: i32): i32 {
  hash = (hash ^ (hash >>> 16)) * SPREAD;
  return hash ^ (hash >>> 15);
}

// @ts-ignore: decorator
@inline
function word(list: usize, i: i32): i32 {
  return load<i32>(list + (<usize>i << 2));
}

// @ts-ignore: decorator
@inline
function put(list: usize, i: i32, value: i32): void {
  store<i32>(list + (<usize>i << 2), value);
}

/** Tokens that are not two in a row: `high` and `low` have the bytes of their units. Gives how many units these are. */
export function read(
  count: i32,
  lengths: usize,
  high: usize,
  low: usize,
  units: usize,
  starts: usize,
  hashes: usize,
  edges: usize,
  pairs: usize,
): i32 {
  let at: i32 = 0;
  longest = 0;
  for (let id = 0; id < count; id++) {
    const length = <i32>load<u8>(lengths + id);
    if (length === JOINED) continue;
    if (length > longest) longest = length;
    put(starts, id, at);
    if (length === 0) continue;
    const end = at + length;
    let hash: i32 = 0;
    let before: i32 = -1;
    let first: i32 = 0;
    for (; at < end; at++) {
      const unit = (<i32>load<u8>(high + at) << 8) | <i32>load<u8>(low + at);
      store<u16>(units + (<usize>at << 1), unit);
      hash = hash * FACTOR + unit + 1;
      if (before < 0) first = unit;
      else pair(pairs, before, unit);
      before = unit;
    }
    put(hashes, id, hash);
    put(edges, id, first | (before << 16));
  }
  return at;
}

/**
 * Tokens that are two in a row, `joined` of them: `joins` is the last part of the file (py/insitu/model/vocabulary.py). `powers`: int32,
 * those of FACTOR. Gives the units of the longest of all tokens; -1 where there are more or fewer.
 */
export function join(
  count: i32,
  joined: i32,
  joins: usize,
  powers: usize,
  lengths: usize,
  starts: usize,
  rights: usize,
  hashes: usize,
  edges: usize,
  pairs: usize,
): i32 {
  const rightJoins = joins + (<usize>joined << 1);
  const above = rightJoins + (<usize>joined << 1);
  let at = 0;
  for (let id = 0; id < count; id++) {
    if (load<u8>(lengths + id) !== JOINED) continue;
    if (at === joined) return -1;
    const bits = <i32>load<u8>(above + (at >> 1)) >> ((at & 1) << 2);
    const left = <i32>load<u16>(joins + (<usize>at << 1)) | ((bits & 3) << 16);
    const right = <i32>load<u16>(rightJoins + (<usize>at << 1)) | ((bits & 12) << 14);
    at++;
    const tail = <i32>load<u8>(lengths + right);
    const length = <i32>load<u8>(lengths + left) + tail;
    if (length > longest) longest = length;
    store<u8>(lengths + id, length);
    put(starts, id, ~left);
    put(rights, id, right);
    const power = word(powers, tail);
    put(hashes, id, word(hashes, left) * power + word(hashes, right));
    const first = word(edges, left);
    const second = word(edges, right);
    put(edges, id, (first & 0xffff) | (second & 0xffff0000));
    // What else stands side by side here does so in one of the two.
    pair(pairs, first >>> 16, second & 0xffff);
  }
  return at === joined ? longest : -1;
}

/** `slots`: int32, as many as `mask` + 1, all 0: open addressing, the id + 1 within `idMask` and bits of the hash above. */
export function index(count: i32, lengths: usize, hashes: usize, slots: usize, mask: i32, idMask: i32): void {
  for (let id = 0; id < count; id++) {
    if (load<u8>(lengths + id) === 0) continue;
    const hash = mix(word(hashes, id));
    let slot = hash & mask;
    while (word(slots, slot) !== 0) slot = (slot + 1) & mask;
    put(slots, slot, (hash & ~idMask) | (id + 1));
  }
}

/** The beginnings of added tokens `first` to `last`, which are not two in a row: one bit per hash, and one per first unit. */
export function begin(
  first: i32,
  last: i32,
  lengths: usize,
  starts: usize,
  units: usize,
  firsts: usize,
  beginnings: usize,
): void {
  for (let id = first; id <= last; id++) {
    let at = units + (<usize>word(starts, id) << 1);
    const end = at + (<usize>load<u8>(lengths + id) << 1);
    set(firsts, load<u16>(at));
    for (let hash = 0; at < end; at += 2) {
      hash = hash * FACTOR + <i32>load<u16>(at) + 1;
      set(beginnings, <u32>mix(hash) >> (32 - BEGINNING_BITS));
    }
  }
}
