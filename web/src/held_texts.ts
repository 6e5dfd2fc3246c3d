// The texts of a small collection, in memory: what an answer shows is then at hand, and the trip to the database was the
// larger half of a search. They are those of one revision. Commits made here change them; anybody else's make them worthless.

import { last } from "./bisect.ts";
import type { Changed } from "./content.ts";
import type { Meta, Text } from "./database.ts";
import { passageOf } from "./texts.ts";

/** Bytes, with what finds them. Where there is more text, each answer is read from the database. */
const MOST = 16 << 20;
/** Bytes beside each vector of codes. */
const SCALE = 4;
/** Commits, and documents that they changed, after which all are read again. */
const CHANGED = 4096;

/** Whether it is worth while to read them all. */
export function mayHold({ bytes, rows, full }: Meta): boolean {
  return bytes - rows * (full && full + SCALE) <= MOST;
}

/** What an answer needs of a document. */
type Shown = Pick<Text, "id" | "title" | "text" | "cuts" | "fields">;

/** Of consecutive numbers, some of which may lack: each one's `Shown` as JSON in UTF-8, from `starts` on. */
interface Chunk {
  numbers: Uint32Array;
  starts: Uint32Array;
  data: Uint8Array;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

export class HeldTexts {
  bytes = 0;
  #chunks: Chunk[] = [];
  /** Newer than the chunks; `undefined`: gone. */
  #changed = new Map<number, Shown | undefined>();

  /** None yet. `revision`: of the collection whose texts are added. */
  constructor(public revision: number) {}

  /** By ascending numbers, all above those that are here. False: they are too many. */
  add(texts: [number: number, text: Shown][]): boolean {
    if (!texts.length) return true;
    const parts = texts.map(([, { id, title, text, cuts, fields }]) => JSON.stringify([id, title, text, cuts, fields]));
    // One buffer, in which a character takes three bytes at most: a small one for each text would cost as much again.
    const room = new Uint8Array(3 * parts.reduce((sum, { length }) => sum + length, 0));
    const starts = new Uint32Array(parts.length + 1);
    parts.forEach((part, i) => {
      starts[i + 1] = starts[i]! + encoder.encodeInto(part, room.subarray(starts[i])).written;
    });
    const data = room.slice(0, starts.at(-1));
    this.#chunks.push({ numbers: Uint32Array.from(texts, ([number]) => number), starts, data });
    this.bytes += data.length + 8 * parts.length;
    return this.bytes <= MOST;
  }

  /** After a commit of ours, which made `revision`. False: they have become too many. */
  follow(revision: number, { gone, touched, put }: Changed): boolean {
    this.revision = revision;
    for (const [number, fields] of touched) {
      const known = this.#find(number);
      if (known) this.#changed.set(number, { ...known, fields });
    }
    for (const number of gone) this.#changed.set(number, undefined);
    if (this.#changed.size + this.#chunks.length > CHANGED) return false;
    return this.add(put);
  }

  /** Of numbers and positions in the document, one pair after another; see `CollectionStore.passages`. */
  passages(places: Int32Array): string {
    return shown(places, (number) => this.#find(number));
  }

  #find(number: number): Shown | undefined {
    if (this.#changed.has(number)) return this.#changed.get(number);
    const chunk = this.#chunks[last(this.#chunks.length, (i) => this.#chunks[i]!.numbers[0]! <= number)];
    if (!chunk) return undefined;
    const { numbers, starts, data } = chunk;
    const at = last(numbers.length, (i) => numbers[i]! <= number);
    if (numbers[at] !== number) return undefined;
    const [id, title, text, cuts, fields] = JSON.parse(decoder.decode(data.subarray(starts[at], starts[at + 1])));
    return { id, title, text, cuts, fields };
  }
}

/** As JSON: id, title, passage and fields of each place, null for a document that is gone. */
export function shown(places: Int32Array, find: (number: number) => Shown | undefined): string {
  const found: unknown[] = [];
  for (let i = 0; i < places.length; i += 2) {
    const of = find(places[i]!);
    found.push(of ? [of.id, of.title, passageOf(of, places[i + 1]!), of.fields] : null);
  }
  return JSON.stringify(found);
}
