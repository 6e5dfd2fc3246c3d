// Texts of a collection, 16 documents in a record: a request to IndexedDB costs a tenth of a millisecond, however little
// it moves, so one for each document would be most of what a large import takes.

import { above, type Block, type Stores, type Text, type Write } from "./database.ts";

const BLOCK = 16;
/** Characters of text and bytes of codes from which on a document has a record of its own: nobody reads it for another one. */
const LONG = 8192;

/** Those that are there. */
export async function readTexts(stores: Stores, numbers: Iterable<number>): Promise<Map<number, Text>> {
  const store = stores.get("texts");
  const found = new Map<number, Text>();
  const blocks = new Map<number, number[]>();
  for (const number of numbers) {
    const key = keyOf(number);
    const wanted = blocks.get(key);
    if (wanted) wanted.push(number);
    else blocks.set(key, [number]);
  }
  const read = async ([key, wanted]: [number, number[]]): Promise<void> => {
    const block = (await store.get(key)) as Block | undefined;
    for (const number of wanted) {
      const place = block?.[number % BLOCK];
      const text = place === null ? ((await store.get(-number)) as Text | undefined) : place;
      if (text) found.set(number, text);
    }
  };
  await Promise.all([...blocks].map(read));
  return found;
}

/** Documents of blocks that follow each other, by number; the last block, and whether there may be others above it. */
export interface Blocks {
  texts: [number: number, text: Text][];
  last: number;
  more: boolean;
}

/** The next `count` blocks above the block `after`. */
export async function readBlocks(stores: Stores, after: number, count: number): Promise<Blocks> {
  const store = stores.get("texts");
  const [keys, blocks] = await Promise.all([
    store.getAllKeys(above(after), count),
    store.getAll(above(after), count) as Promise<Block[]>,
  ]);
  const texts: [number, Text][] = [];
  for (const [i, block] of blocks.entries()) {
    for (const [place, held] of block.entries()) {
      const number = BLOCK * keys[i]! + place;
      const text = held === null ? ((await store.get(-number)) as Text | undefined) : held;
      if (text) texts.push([number, text]);
    }
  }
  return { texts, last: keys.at(-1) ?? after, more: keys.length === count };
}

/** One passage. Cuts count as Python does: what lies beyond the basic plane is one character, not two. */
export function passageOf({ text, cuts }: Pick<Text, "text" | "cuts">, passage: number): string {
  const [start, end] = [cuts[2 * passage], cuts[2 * passage + 1]];
  if (!/[\ud800-\udbff]/.test(text)) return text.slice(start, end);
  return Array.from(text).slice(start, end).join("");
}

/** Changes to texts in one transaction. What is changed must be loaded first; `flush` writes it. */
export class Texts {
  #blocks = new Map<number, Block>();
  #changed = new Set<number>();
  #done: Promise<unknown>[] = [];

  constructor(private readonly stores: Write) {}

  async load(numbers: Iterable<number>): Promise<void> {
    const keys = new Set(Array.from(numbers, keyOf));
    const store = this.stores.get("texts");
    await Promise.all(
      [...keys].map(async (key) => {
        if (!this.#blocks.has(key)) this.#blocks.set(key, ((await store.get(key)) as Block | undefined) ?? []);
      }),
    );
  }

  async get(number: number): Promise<Text | undefined> {
    const place = this.#blocks.get(keyOf(number))?.[number % BLOCK];
    return place === null ? ((await this.stores.get("texts").get(-number)) as Text | undefined) : place;
  }

  /** A block that was not loaded is a new one. */
  set(number: number, text: Text): void {
    const key = keyOf(number);
    const block = this.#blocks.get(key) ?? [];
    const long = text.text.length + text.full.byteLength > LONG;
    if (long) this.#done.push(this.stores.get("texts").put(text, -number));
    else if (block[number % BLOCK] === null) this.#done.push(this.stores.get("texts").delete(-number));
    block[number % BLOCK] = long ? null : text;
    this.#blocks.set(key, block);
    this.#changed.add(key);
  }

  remove(number: number): void {
    const key = keyOf(number);
    const block = this.#blocks.get(key)!;
    if (block[number % BLOCK] === null) this.#done.push(this.stores.get("texts").delete(-number));
    delete block[number % BLOCK];
    this.#changed.add(key);
  }

  /** Write what was changed, and forget it. */
  async flush(): Promise<void> {
    const store = this.stores.get("texts");
    for (const key of this.#changed) {
      const block = this.#blocks.get(key)!;
      const empty = !block.some((place) => place !== undefined);
      this.#done.push(empty ? store.delete(key) : store.put(block, key));
    }
    await Promise.all(this.#done);
    this.#blocks.clear();
    this.#changed.clear();
    this.#done = [];
  }
}

function keyOf(number: number): number {
  return Math.floor(number / BLOCK);
}
