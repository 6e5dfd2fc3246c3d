// One record of the table of token rows: its components, and behind them its scale. See py/insitu/model/quantise.py.

import type { Bytes } from "./files.ts";

/** Components of 4 bits that share a factor. */
const GROUP = 32;

/** Bytes of a record of `size` components, `bits` each: 8, or 4 with factors; 0 for others, which are none of ours. */
export function recordBytes(size: number, bits: number): number {
  if (bits === 8) return size + 4;
  return bits === 4 ? factorsAt(size) + Math.ceil(Math.ceil(size / GROUP) / 2) + 4 : 0;
}

/** Write the components of the record at `at` of `part` to `into`, int8, as many as it has room for; the answer is their scale. */
export function readRow(part: Bytes, at: number, record: number, into: Bytes): number {
  const size = into.length;
  if (record === size + 4) into.set(part.subarray(at, at + size));
  else unpack(part.subarray(at, at + record), into);
  return new DataView(part.buffer, part.byteOffset + at + record - 4).getFloat32(0, true);
}

/** A component is code * factor, both of -8..7: codes two in a byte, then a factor for each group, two in a byte too. */
function unpack(record: Bytes, into: Bytes): void {
  const factors = factorsAt(into.length);
  for (let i = 0; i < into.length; i++) {
    const group = Math.floor(i / GROUP);
    into[i] = nibble(record, 0, i) * nibble(record, factors, group);
  }
}

function nibble(record: Bytes, from: number, i: number): number {
  return ((record[from + (i >> 1)]! >> (4 * (i & 1))) & 15) - 8;
}

function factorsAt(size: number): number {
  return Math.ceil(size / 2);
}
