// Models that take token ids: published graphs, which hold their table of rows themselves. See DESIGN.md, "A published graph".

import type { Bytes } from "./files.ts";
import type { Stats } from "./protocol.ts";
import { checkIds } from "./row_blocks.ts";
import type { Rows } from "./rows.ts";

/** No rows to load. */
export class InGraph implements Rows {
  readonly perPart = 0;
  readonly record = 0;
  readonly stats: Stats["rows"] = {
    mode: "all",
    place: "memory",
    reason: "the graph holds them",
    held: 0,
    requests: 0,
    bytes: 0,
    ranges: true,
  };

  constructor(private readonly count: number) {}

  async load(ids: Int32Array): Promise<ReadonlyMap<number, Bytes>> {
    checkIds(ids, this.count);
    return new Map();
  }

  async fetchAhead(): Promise<boolean> {
    return true;
  }
}

/** batch x longest, text after text, 0 where padded: the graph leaves out what is behind a text's length. */
export function padded(ids: Int32Array, lengths: Int32Array, longest: number): Int32Array<ArrayBuffer> {
  const rows = new Int32Array(lengths.length * longest);
  let next = 0;
  lengths.forEach((length, text) => {
    rows.set(ids.subarray(next, next + length), text * longest);
    next += length;
  });
  return rows;
}
