// The texts of a small collection, in memory: what an answer shows is then at hand, and the trip to the database was the
// larger half of a search. They are those of one revision. Commits made here change them; anybody else's make them worthless.

import { last } from "./bisect.ts";
import type { Changed } from "./content.ts";
import type { Meta, Text } from "./database.ts";
import { passageOf, type Blocks } from "./texts.ts";

/** Bytes beside each vector of codes. */
const SCALE = 4;
/** Bytes, with what finds them. Where there is more text, each answer is read from the database. */
const MOST = 16 << 20;
/** Commits, and documents that they changed, after which all are read again. */
const CHANGED = 4096;
/** Blocks of texts that are read at once, and the milliseconds before each time: questions meanwhile hardly wait. */
const [BLOCKS, PAUSE] = [16, 10];

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

/** What a collection holds of its texts: nothing, or those of one revision. */
export class HeldTexts {
  #texts: Texts | undefined;
  /** Those that are being read. */
  #coming: Texts | undefined;
  /** Bytes of a collection, as its record has them, whose texts were too many. */
  #tooMany = Infinity;

  /** `read`: the next `count` blocks above `after`, and the revision that they are of (undefined: they have moved). */
  constructor(
    private readonly read: (after: number, count: number) => Promise<[blocks: Blocks, revision: number | undefined]>,
  ) {}

  get bytes(): number {
    return this.#texts?.bytes ?? 0;
  }

  /** See `CollectionStore.passages`; undefined where the texts of this revision are not here. */
  passages(places: Int32Array, revision: number): string | undefined {
    const texts = this.#texts?.revision === revision ? this.#texts : undefined;
    return texts && shown(places, (number) => texts.find(number));
  }

  /** Read all of them, a few at a time, beside other work, if they are few enough. */
  async fill({ revision, bytes, rows, full }: Meta): Promise<void> {
    const codes = rows * (full && full + SCALE);
    if (this.#coming || bytes - codes > MOST || bytes >= this.#tooMany) return;
    const texts = (this.#coming = new Texts(revision));
    try {
      for (let after = -1; ;) {
        await new Promise((done) => setTimeout(done, PAUSE));
        if (this.#coming !== texts) return;
        const [blocks, now] = await this.read(after, BLOCKS);
        if (this.#coming !== texts || now !== revision) break; // somebody wrote: another answer begins anew
        if (!texts.add(blocks.texts)) {
          this.#tooMany = bytes;
          break;
        }
        if (!blocks.more) {
          this.#texts = texts;
          break;
        }
        after = blocks.last;
      }
    } catch {
      // whoever asks the database for an answer is told why
    }
    if (this.#coming === texts) this.#coming = undefined;
  }

  /** After a commit of ours, which found one revision and made another. */
  follow(found: number | undefined, made: number, changed: Changed): void {
    if (this.#texts && (this.#texts.revision !== found || !this.#texts.follow(made, changed))) this.#texts = undefined;
  }

  /** The collection is of this revision: texts of another one are worthless. */
  keep(revision: number): void {
    if (this.#texts?.revision !== revision) this.#texts = undefined;
  }

  release(): void {
    this.#texts = this.#coming = undefined;
  }
}

/** All texts of one revision. */
class Texts {
  bytes = 0;
  #chunks: Chunk[] = [];
  /** Newer than the chunks; `undefined`: gone. */
  #changed = new Map<number, Shown | undefined>();

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
      const known = this.find(number);
      if (known) this.#changed.set(number, { ...known, fields });
    }
    for (const number of gone) this.#changed.set(number, undefined);
    if (this.#changed.size + this.#chunks.length > CHANGED) return false;
    return this.add(put);
  }

  find(number: number): Shown | undefined {
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
