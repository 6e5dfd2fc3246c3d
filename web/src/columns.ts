// The fields of a collection for filters. The web half of `insitu.collection.columns`, which says what they are.

import type { Entries } from "./database.ts";

/** `numbers`: the documents; `at`: for each row the place of its document there; `ranks`: for each name those of all documents. */
export interface Columns {
  numbers: Uint32Array;
  at: Uint32Array;
  ranks: Uint32Array[];
}

/** The values of one field, ascending, and for each document which of them it has, counted from 1; 0: none. */
export function columnOf(
  blocks: { block: Entries; places: number[] }[],
  name: string,
): { values: unknown[]; ranks: Uint32Array } {
  const codes = new Map<unknown, number>();
  const found: number[] = [];
  for (const { block, places } of blocks) {
    const column = Object.hasOwn(block.fields, name) ? block.fields[name]! : [];
    for (const place of places) {
      const value = column[place] ?? null;
      let code = value === null ? 0 : codes.get(value);
      if (code === undefined) codes.set(value, (code = codes.size + 1));
      found.push(code);
    }
  }
  const values = [...codes.keys()].sort(order);
  const ranks = new Uint32Array(values.length + 1);
  values.forEach((value, i) => (ranks[codes.get(value)!] = i + 1));
  return { values, ranks: Uint32Array.from(found, (code) => ranks[code]!) };
}

/** For each row the place of its number in `numbers`; 0 where it is not there. Both ascend. */
export function placesOf(rows: Uint32Array, numbers: Uint32Array): Uint32Array {
  let place = 0;
  return rows.map((number) => {
    while (place < numbers.length && numbers[place]! < number) place++;
    return numbers[place] === number ? place : 0;
  });
}

/** As Python sorts: strings by code points, not by their UTF-16. */
function order(a: unknown, b: unknown): number {
  if (typeof a !== "string" || typeof b !== "string") return (a as number) - (b as number);
  let i = 0;
  while (i < a.length && a[i] === b[i]) i++;
  // The second half of a pair stands for all of it.
  if (i > 0 && /[\ud800-\udbff]/.test(a[i - 1]!) && /[\udc00-\udfff]/.test((a[i] ?? "") + (b[i] ?? ""))) i -= 1;
  return (a.codePointAt(i) ?? -1) - (b.codePointAt(i) ?? -1) || a.length - b.length;
}
