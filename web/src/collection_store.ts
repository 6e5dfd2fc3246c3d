// A collection in IndexedDB: segments of vectors, documents, texts.
//
// The web half of `insitu.collection.store.Store`, which says what each call means; DESIGN.md, "Collections", has the layout.
// Nothing is awaited inside a transaction but its own requests: it would be over.

import { apply, compact, fold, type Change, type Changed } from "./content.ts";
import { columnOf, placesOf, type Columns } from "./columns.ts";
import {
  Database,
  above,
  clear,
  type Meta,
  type Part,
  type Side,
  type Stores,
  type Text,
  type Write,
} from "./database.ts";
import { Ids, alive } from "./entries.ts";
import { InsituError } from "./errors.ts";
import type { Bytes } from "./download.ts";
import { HeldTexts, shown } from "./held_texts.ts";
import { adopt } from "./staging.ts";
import { join, nothing, rowsOf, take } from "./segments.ts";
import { readBlocks, readTexts } from "./texts.ts";
import type { Kept } from "./words.ts";

const NAME = "insitu collection ";
/** Milliseconds after which the record is looked at even if no other tab has said that it wrote: it may have died. */
const TRUST = 1000;
const UNCHANGED: Changed = { gone: [], touched: [], put: [] };

/** What `news` gives; see `insitu.collection.store.News`. `parts` are shards for `GrowingCodes`. */
export interface News {
  meta: string;
  reset: boolean;
  parts: Bytes[];
  numbers: Uint32Array;
  dead: Uint32Array;
  damaged: number[];
}

export class CollectionStore {
  #db: Database;
  #channel: BroadcastChannel | undefined;
  #stale = true;
  #asked = 0;
  /** Of the record that was read last. */
  #revision = 0;
  #looking = false;
  /** Where the content lies, as far as is known. */
  #side: Side = "";
  #ids = new Ids();
  /** Of the content that is made beside it. */
  #nextIds = new Ids();
  #held = new HeldTexts((after, count) =>
    this.#db.read(["texts"], this.#side, async (stores, record) => {
      const [blocks, meta] = await Promise.all([readBlocks(stores, after, count), record]);
      return [blocks, this.#moved(meta) ? undefined : meta?.revision];
    }),
  );

  private constructor(private readonly name: string) {
    this.#db = new Database(NAME + name, () => {
      this.#stale = true;
      this.#held.release();
    });
    if ("BroadcastChannel" in globalThis) {
      this.#channel = new BroadcastChannel(NAME + name);
      this.#channel.onmessage = () => (this.#stale = true);
    }
  }

  /** Codes: `storage-unavailable`, `collection-version`. */
  static async open(name: string): Promise<CollectionStore> {
    const store = new CollectionStore(name);
    await store.#db.open();
    return store;
  }

  async meta(): Promise<string | undefined> {
    const found = await this.#db.read([], "", (_, meta) => meta);
    return found && pack(found);
  }

  async declare(meta: string): Promise<void> {
    await this.#write(async (_, old) => {
      const wanted = JSON.parse(meta) as Meta;
      return [
        old ? { ...old, fields: { ...old.fields, ...wanted.fields }, revision: old.revision + 1 } : wanted,
        undefined,
      ];
    });
  }

  /** Who asks and then does something else first need not wait: the record is looked at meanwhile. */
  changed(): boolean {
    if (performance.now() - this.#asked > TRUST && !this.#looking) void this.#look();
    return this.#stale || this.#looking;
  }

  async #look(): Promise<void> {
    this.#looking = true;
    const asked = performance.now();
    try {
      const meta = await this.#db.read([], "", (_, record) => record);
      if (meta?.revision !== this.#revision) this.#stale = true;
    } catch {
      this.#stale = true; // whoever reads the news is told why
    }
    this.#asked = asked;
    this.#looking = false;
  }

  async news(epoch: number, rows: number, changes: number): Promise<News> {
    // Before anything is read: what is written meanwhile makes it stale again.
    this.#stale = false;
    this.#asked = performance.now();
    return this.#read(["segments", "dead"], async (stores, meta) => {
      this.#revision = meta.revision;
      this.#held.keep(meta.revision);
      const reset = meta.epoch !== epoch;
      const known = reset ? 0 : rows;
      const range = above(reset ? 0 : changes);
      const wanted = meta.segments.filter(([first, count]) => first + count > known);
      const [lists, ...found] = await Promise.all([
        stores.get("dead").getAll(range),
        ...wanted.map(([first]) => stores.get("segments").get(first)),
      ]);
      const parts: Bytes[] = [];
      const damaged: number[] = [];
      const numbers = new Uint32Array(Math.max(0, meta.rows - known));
      let at = 0;
      wanted.forEach(([first, count], i) => {
        const skip = Math.max(0, known - first);
        const whole = take(found[i], count, meta.dim);
        if (whole) {
          parts.push(rowsOf(whole.shard, count, skip, count - skip));
          numbers.set(whole.numbers.subarray(skip), at);
        } else {
          damaged.push(first);
          parts.push(nothing(count - skip, meta.dim));
          // Numbers must ascend; these rows are never found.
          numbers.fill(at ? numbers[at - 1]! : 0, at, at + count - skip);
        }
        at += count - skip;
      });
      return { meta: pack(meta), reset, parts, numbers, dead: join(lists), damaged };
    });
  }

  async find(ids: string): Promise<string> {
    return this.#read(["entries", "dead", "texts"], async (stores, meta) => {
      await this.#ids.sync(stores, meta);
      const numbers = (JSON.parse(ids) as string[]).map((id) => this.#ids.find(id));
      const texts = await readTexts(
        stores,
        numbers.filter((number) => number !== undefined),
      );
      return JSON.stringify(
        numbers.map((number) => {
          // A text that is lost is one that was never embedded: then it is put again.
          const { hash = "", cuts = [], fields = {} } = texts.get(number!) ?? {};
          return number === undefined ? null : [number, hash, cuts.length / 2, fields];
        }),
      );
    });
  }

  async texts(numbers: Int32Array): Promise<string> {
    const [found] = await this.#texts(numbers);
    return JSON.stringify(
      Array.from(numbers, (number) => {
        const t = found.get(number);
        return t && [t.id, t.title, t.text, t.cuts, t.hash, t.fields];
      }),
    );
  }

  /** `passages`, if what they need is in memory. */
  held(places: Int32Array, revision: number): string | undefined {
    return this.#held.passages(places, revision);
  }

  /** `places`: number and position in the document, one pair after another. */
  async passages(places: Int32Array, revision: number): Promise<string> {
    const [texts, meta] = await this.#texts(numbersOf(places));
    if (meta.revision !== revision) this.#stale = true;
    else void this.#held.fill(meta);
    return shown(places, (number) => texts.get(number));
  }

  /** `rows`: number and position in the document, one pair after another. */
  async full(rows: Int32Array): Promise<Bytes | undefined> {
    const count = rows.length / 2;
    const [texts, { full: size }] = await this.#texts(numbersOf(rows));
    const found = new Uint8Array(count * (size + 4));
    for (let i = 0; i < count; i++) {
      const text = texts.get(rows[2 * i]!);
      if (!text) return undefined;
      const at = rows[2 * i + 1]!;
      const shard = new Uint8Array(text.full);
      const split = (shard.length / (size + 4)) * size;
      found.set(shard.subarray(at * size, (at + 1) * size), i * size);
      found.set(shard.subarray(split + 4 * at, split + 4 * at + 4), count * size + 4 * i);
    }
    return found;
  }

  /** See `insitu.collection.columns.Columns`; `rows`: the document of each row. `values`: for each name a list, as JSON. */
  async columns(names: string, rows: Uint32Array): Promise<Columns & { values: string }> {
    const { numbers, blocks } = await this.#read(["entries", "dead"], alive);
    const columns = (JSON.parse(names) as string[]).map((name) => columnOf(blocks, name));
    return {
      numbers,
      at: placesOf(rows, numbers),
      values: JSON.stringify(columns.map(({ values }) => values)),
      ranks: columns.map(({ ranks }) => ranks),
    };
  }

  async commit(change: string, codes: Bytes, full: Bytes): Promise<string> {
    return this.#write(async (stores, old) => {
      const given = JSON.parse(change) as Change;
      const { meta, deleted, changed } = await apply(stores, this.#ids, present(old), given, codes, full);
      const numbers = changed.put.map(([number]) => number);
      return [meta, JSON.stringify([meta.revision, numbers, deleted]), changed];
    });
  }

  async fold(firsts: Int32Array): Promise<void> {
    await this.#write(async (stores, old) => [await fold(stores, present(old), firsts), undefined]);
  }

  async compact(): Promise<void> {
    await this.#write(async (stores, old) => [await compact(stores, present(old)), undefined]);
  }

  /** Codes and scales of a segment, and its numbers. Code: `collection-corrupt`. */
  async segment(first: number): Promise<{ shard: Bytes; numbers: Uint32Array }> {
    return this.#read(["segments"], async (stores, meta) => {
      const count = meta.segments.find(([start]) => start === first)?.[1] ?? 0;
      const part = take(await stores.get("segments").get(first), count, meta.dim);
      if (!part) {
        throw new InsituError("collection-corrupt", `The segment ${first} is damaged. Put its documents again.`);
      }
      return part;
    });
  }

  /** Begin the content that is to take the place of this one; one that was begun and is like it is gone on with. */
  async stage(meta: string, keep: boolean): Promise<void> {
    await this.#db.writeBoth(async (stores, old, next) => {
      const wanted = JSON.parse(meta) as Meta;
      const like = next && (["space", "dim", "full"] as const).every((name) => next[name] === wanted[name]);
      if (keep && like) return [old, next, undefined];
      const side = other(old);
      await clear(stores(side));
      return [old, { ...wanted, side }, undefined];
    });
    await this.#find();
  }

  async commitNext(change: string, codes: Bytes, full: Bytes): Promise<void> {
    await this.#db.write("next", this.#side ? "" : " 2", async (stores, next) => {
      if (next?.side !== stores.side)
        throw new InsituError("write-failed", "Somebody else has taken it away. Try again.");
      const { meta } = await apply(stores, this.#nextIds, next, JSON.parse(change) as Change, codes, full);
      return [meta, undefined];
    });
  }

  /** See `insitu.collection.store.Store.swap`. */
  async swap(follow: boolean, lost: Int32Array): Promise<Uint32Array> {
    const lacking = await this.#db.writeBoth((stores, old, next) => adopt(stores, old, next, follow, lost));
    this.#told();
    return lacking;
  }

  async unstage(): Promise<void> {
    await this.#db.writeBoth(async (stores, old, next) => {
      if (next) await clear(stores(next.side!));
      return [old, undefined, undefined];
    });
  }

  /** One writer at a time, in all tabs. `ready` tells that it is ours; `release` gives it back, or stops the waiting. */
  lock(what = ""): { ready: Promise<void>; release: () => void } {
    if (!navigator.locks) return { ready: Promise.resolve(), release: () => undefined };
    const waiting = new AbortController();
    let release!: () => void;
    const held = new Promise<void>((done) => (release = done));
    const ready = new Promise<void>((ours, failed) => {
      navigator.locks
        .request(NAME + this.name + what, { signal: waiting.signal }, () => (ours(), held))
        .catch((error: unknown) => failed(error));
    });
    ready.catch(() => undefined); // who gave up does not look
    return { ready, release: () => (release(), waiting.abort()) };
  }

  keptWords(): Promise<Kept | undefined> {
    return this.#db.keptWords();
  }

  keepWords(kept: Kept): Promise<void> {
    return this.#db.keepWords(kept);
  }

  async about(): Promise<string> {
    const { usage, quota } = (await navigator.storage?.estimate?.()) ?? {};
    const persisted = (await navigator.storage?.persisted?.()) ?? false;
    return JSON.stringify({ place: "indexeddb", usage, quota, persisted, held: this.#held.bytes });
  }

  async room(): Promise<number | undefined> {
    const { usage, quota } = (await navigator.storage?.estimate?.()) ?? {};
    return usage === undefined || quota === undefined ? undefined : Math.max(0, quota - usage);
  }

  /** Of the content where it is now. A number means one document, before it has moved and after. */
  async #read<T>(parts: Part[], work: (stores: Stores, meta: Meta) => Promise<T>): Promise<T> {
    for (;;) {
      const found = await this.#db.read(parts, this.#side, async (stores, record) => {
        const meta = await record;
        return this.#moved(meta) ? undefined : { value: await work(stores, present(meta)) };
      });
      if (found) return found.value;
      await this.#find();
    }
  }

  /** Texts where they were last, and the record at once: what every answer waits for is one trip to the database, not two. */
  async #texts(numbers: Iterable<number>): Promise<[Map<number, Text>, Meta]> {
    for (;;) {
      const [texts, meta] = await this.#db.read(["texts"], this.#side, (stores, record) =>
        Promise.all([readTexts(stores, numbers), record]),
      );
      if (!this.#moved(meta)) {
        if (meta?.revision !== this.#revision) this.#stale = true;
        return [texts, present(meta)];
      }
      await this.#find();
    }
  }

  /** One transaction; then everybody is told. `work` gives the new record, what the call returns, and what became of texts. */
  async #write<T>(work: (stores: Write, meta: Meta | undefined) => Promise<[Meta, T, Changed?]>): Promise<T> {
    for (;;) {
      const found = await this.#db.write("meta", this.#side, async (stores, old) => {
        if (old && this.#moved(old)) return [old, undefined];
        const [meta, value, changed = UNCHANGED] = await work(stores, old);
        return [
          { ...meta, side: stores.side },
          { value, changed, before: old?.revision, after: meta.revision },
        ];
      });
      if (found) {
        this.#told();
        this.#held.follow(found.before, found.after, found.changed);
        return found.value;
      }
      await this.#find();
    }
  }

  #moved(meta: Meta | undefined): boolean {
    return (meta?.side ?? "") !== this.#side;
  }

  async #find(): Promise<void> {
    this.#side = await this.#db.read([], "", async (_, meta) => (await meta)?.side ?? "");
    this.#ids = new Ids();
    this.#nextIds = new Ids();
    this.#held.release();
  }

  #told(): void {
    this.#stale = true;
    this.#channel?.postMessage("written");
  }

  close(): void {
    this.#held.release();
    this.#db.close();
    this.#channel?.close();
  }
}

/** Of places, each number once. */
function numbersOf(places: Int32Array): Set<number> {
  return new Set(places.filter((_, i) => i % 2 === 0));
}

function other(meta: Meta | undefined): Side {
  return meta?.side ? "" : " 2";
}

/** As Python has it. */
function pack({ side: _, ...meta }: Meta): string {
  return JSON.stringify(meta);
}

function present(meta: Meta | undefined): Meta {
  if (!meta) throw new InsituError("collection-corrupt", "The collection is gone: the browser or somebody removed it.");
  return meta;
}
