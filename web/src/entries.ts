// The documents of a collection as a put and a filter see them: ids, numbers, hashes and fields, in blocks that go with
// the segments.

import { last } from "./bisect.ts";
import { above, type Entries, type Meta, type Stores } from "./database.ts";
import { join } from "./segments.ts";

/** Which number an id has. In memory once something was put or deleted; it learns what was committed since, as readers do. */
export class Ids {
  #numbers = new Map<string, number>();
  #dead = new Set<number>();
  /** The first number of each block. */
  #starts = new Map<number, number>();
  #segments: Meta["segments"] = [];
  #epoch = 0;
  #rows = 0;
  #changes = 0;

  async sync(stores: Stores, meta: Meta): Promise<void> {
    if (meta.epoch !== this.#epoch) {
      for (const held of [this.#numbers, this.#dead, this.#starts]) held.clear();
      [this.#epoch, this.#rows, this.#changes] = [meta.epoch, 0, 0];
    }
    this.#segments = meta.segments;
    if (meta.rows === this.#rows && meta.changes === this.#changes) return;
    const wanted = meta.segments.filter(([first, count]) => first + count > this.#rows);
    const [lists, ...blocks] = await Promise.all([
      stores.get("dead").getAll(above(this.#changes)),
      ...wanted.map(([first]) => stores.get("entries").get(first)),
    ]);
    if (meta.epoch !== this.#epoch) return; // somebody who knows more was here meanwhile
    blocks.forEach((block, i) => {
      block?.ids.forEach((id, j) => {
        const number = block.numbers[j]!;
        if (number > (this.#numbers.get(id) ?? 0)) this.#numbers.set(id, number);
      });
      if (block?.numbers.length) this.#starts.set(wanted[i]![0], block.numbers[0]!);
    });
    for (const number of join(lists)) this.#dead.add(number);
    this.#rows = Math.max(this.#rows, meta.rows);
    this.#changes = Math.max(this.#changes, meta.changes);
  }

  find(id: string): number | undefined {
    const number = this.#numbers.get(id);
    return number === undefined || this.#dead.has(number) ? undefined : number;
  }

  /** The key of the block that holds a number. */
  block(number: number): number {
    const first = (i: number): number => this.#segments[i]![0];
    return first(last(this.#segments.length, (i) => (this.#starts.get(first(i)) ?? 0) <= number));
  }
}

/** The documents of one side that are not dead, by ascending number: their places in each block. */
export async function alive(
  stores: Stores,
): Promise<{ numbers: Uint32Array; blocks: { block: Entries; places: number[] }[] }> {
  const [blocks, lists] = await Promise.all([stores.get("entries").getAll(), stores.get("dead").getAll()]);
  const dead = new Set(join(lists));
  const living = blocks.map((block) => ({
    block,
    places: Array.from(block.numbers.keys()).filter((place) => !dead.has(block.numbers[place]!)),
  }));
  const numbers = living.map(({ block, places }) => Uint32Array.from(places, (place) => block.numbers[place]!));
  return { numbers: join(numbers), blocks: living };
}

/** Documents gathered into one block. */
export class Listing {
  #ids: string[] = [];
  #numbers: number[] = [];
  #hashes: string[] = [];
  #fields: Record<string, unknown[]> = {};

  add(id: string, number: number, hash: string, fields: Record<string, unknown>): void {
    const at = this.#ids.push(id) - 1;
    this.#numbers.push(number);
    this.#hashes.push(hash);
    for (const [name, value] of Object.entries(fields)) column(this.#fields, name, at)[at] = value;
  }

  /** The `i`th of another block. */
  take(from: Entries, i: number): void {
    this.add(from.ids[i]!, from.numbers[i]!, from.hashes[i]!, fieldsOf(from, i));
  }

  block(): Entries {
    const count = this.#ids.length;
    for (const name of Object.keys(this.#fields)) column(this.#fields, name, count);
    return {
      ids: this.#ids,
      numbers: Uint32Array.from(this.#numbers),
      hashes: this.#hashes,
      fields: this.#fields,
    };
  }
}

export function fieldsOf({ fields }: Entries, i: number): Record<string, unknown> {
  const found: Record<string, unknown> = Object.create(null);
  for (const [name, values] of Object.entries(fields)) if (values[i] != null) found[name] = values[i];
  return found;
}

export function setFields(block: Entries, i: number, fields: Record<string, unknown>): void {
  for (const values of Object.values(block.fields)) values[i] = null;
  for (const [name, value] of Object.entries(fields)) column(block.fields, name, block.ids.length)[i] = value;
}

/** The column of a name, `null` up to `count`. */
function column(fields: Record<string, unknown[]>, name: string, count: number): unknown[] {
  const found = (Object.hasOwn(fields, name) ? fields[name] : undefined) ?? [];
  while (found.length < count) found.push(null);
  // "__proto__" is a name like others.
  if (!Object.hasOwn(fields, name))
    Object.defineProperty(fields, name, { value: found, enumerable: true, writable: true });
  return found;
}
