// A collection in IndexedDB: segments of vectors, documents, texts.
//
// The web half of `insitu.collection.store.Store`, which says what each call means; DESIGN.md, "Collections", has the layout.
// Nothing is awaited inside a transaction but its own requests: it would be over.

import { Database, above, type Document, type Meta, type Text, type Write } from "./database.ts";
import { InsituError } from "./errors.ts";
import type { Bytes } from "./download.ts";
import { Builder, join, nothing, rowsOf, take } from "./segments.ts";

const NAME = "insitu collection ";
/** Rows of a segment that compaction or an import writes. */
const SEGMENT_ROWS = 4096;
/** Milliseconds after which the record is looked at even if no other tab has said that it wrote: it may have died. */
const TRUST = 1000;

interface Change {
  put: (Omit<Document, "number"> & Omit<Text, "full">)[];
  touch: [id: string, fields: Record<string, unknown>][];
  delete: string[];
}

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
  #staged: { change: Change; codes: Bytes; full: Bytes }[] = [];

  private constructor(private readonly name: string) {
    this.#db = new Database(NAME + name, () => (this.#stale = true));
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
    return this.#db.read(["meta"], async (tx) => {
      const meta = await tx.objectStore("meta").get("meta");
      return meta && JSON.stringify(meta);
    });
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

  changed(): boolean {
    return this.#stale || performance.now() - this.#asked > TRUST;
  }

  async news(epoch: number, rows: number, changes: number): Promise<News> {
    // Before anything is read: what is written meanwhile makes it stale again.
    this.#stale = false;
    this.#asked = performance.now();
    return this.#db.read(["meta", "segments", "dead"], async (tx) => {
      const meta = present(await tx.objectStore("meta").get("meta"));
      const reset = meta.epoch !== epoch;
      const known = reset ? 0 : rows;
      const range = above(reset ? 0 : changes);
      const wanted = meta.segments.filter(([first, count]) => first + count > known);
      const [lists, ...found] = await Promise.all([
        tx.objectStore("dead").getAll(range),
        ...wanted.map(([first]) => tx.objectStore("segments").get(first)),
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
      return { meta: JSON.stringify(meta), reset, parts, numbers, dead: join(lists), damaged };
    });
  }

  async find(ids: string): Promise<string> {
    return this.#db.read(["documents"], async (tx) => {
      const found = await Promise.all((JSON.parse(ids) as string[]).map((id) => tx.objectStore("documents").get(id)));
      return JSON.stringify(found.map((item) => item && [item.number, item.hash, item.rows, item.fields]));
    });
  }

  async texts(numbers: Int32Array): Promise<string> {
    return this.#db.read(["texts"], async (tx) => {
      const found = await Promise.all(Array.from(numbers, (number) => tx.objectStore("texts").get(number)));
      return JSON.stringify(found.map((t) => t && [t.id, t.title, t.text, t.cuts, t.hash, t.fields]));
    });
  }

  /** `rows`: number and position in the document, one pair after another. */
  async full(rows: Int32Array): Promise<Bytes | undefined> {
    return this.#db.read(["meta", "texts"], async (tx) => {
      const { full: size } = present(await tx.objectStore("meta").get("meta"));
      const count = rows.length / 2;
      const numbers = [...new Set(rows.filter((_, i) => i % 2 === 0))];
      const texts = new Map(
        await Promise.all(
          numbers.map(async (number) => [number, (await tx.objectStore("texts").get(number))?.full] as const),
        ),
      );
      const found = new Uint8Array(count * (size + 4));
      for (let i = 0; i < count; i++) {
        const data = texts.get(rows[2 * i]!);
        if (!data) return undefined;
        const at = rows[2 * i + 1]!;
        const shard = new Uint8Array(data);
        const split = (shard.length / (size + 4)) * size;
        found.set(shard.subarray(at * size, (at + 1) * size), i * size);
        found.set(shard.subarray(split + 4 * at, split + 4 * at + 4), count * size + 4 * i);
      }
      return found;
    });
  }

  /** Numbers, ascending, and for each name a list of values, as JSON. */
  async columns(names: string): Promise<{ numbers: Uint32Array; values: string }> {
    return this.#db.read(["documents"], async (tx) => {
      const all = (await tx.objectStore("documents").getAll()).sort((a, b) => a.number - b.number);
      const values = (JSON.parse(names) as string[]).map((name) => all.map(({ fields }) => fields[name] ?? null));
      return { numbers: Uint32Array.from(all, ({ number }) => number), values: JSON.stringify(values) };
    });
  }

  async commit(change: string, codes: Bytes, full: Bytes): Promise<string> {
    return this.#write(async (tx, old) => {
      const { meta, numbers, deleted } = await apply(tx, present(old), JSON.parse(change) as Change, codes, full);
      return [meta, JSON.stringify([meta.revision, numbers, deleted])];
    });
  }

  async fold(firsts: Int32Array): Promise<void> {
    await this.#write(async (tx, old) => {
      const meta = present(old);
      const run = meta.segments.filter(([first]) => firsts.includes(first));
      const segments = tx.objectStore("segments");
      const found = await Promise.all(run.map(([first]) => segments.get(first)));
      const parts = run.map(([, count], i) => take(found[i], count, meta.dim));
      if (run.length !== firsts.length || parts.includes(undefined)) return [meta, undefined];
      const rows = run.reduce((sum, [, count]) => sum + count, 0);
      const joined = new Builder(meta.dim);
      for (const part of parts) joined.add(part!.shard, part!.numbers, 0, part!.numbers.length);
      await Promise.all([
        ...run.slice(1).map(([first]) => segments.delete(first)),
        segments.put(joined.segment(), run[0]![0]),
      ]);
      const kept = meta.segments.filter(([first]) => !firsts.includes(first));
      const all = [...kept, [run[0]![0], rows] as [number, number]].sort((a, b) => a[0] - b[0]);
      return [{ ...meta, segments: all, revision: meta.revision + 1 }, undefined];
    });
  }

  async compact(): Promise<void> {
    await this.#write(async (tx, old) => {
      const meta = present(old);
      const dead = new Set(join(await tx.objectStore("dead").getAll()));
      const segments = tx.objectStore("segments");
      const written: [number, number][] = [];
      let builder = new Builder(meta.dim);
      let rows = 0;
      const flush = async (): Promise<void> => {
        if (!builder.count) return;
        await segments.put(builder.segment(), rows);
        written.push([rows, builder.count]);
        rows += builder.count;
        builder = new Builder(meta.dim);
      };
      for (const [first, count] of meta.segments) {
        const part = take(await segments.get(first), count, meta.dim);
        // Gone before anything is written under a key as large: what is written lies below what was read.
        await segments.delete(first);
        if (!part) continue;
        for (let start = 0; start < count;) {
          const number = part.numbers[start]!;
          let end = start + 1;
          while (end < count && part.numbers[end] === number) end++;
          if (!dead.has(number)) {
            if (builder.count >= SEGMENT_ROWS) await flush();
            builder.add(part.shard, part.numbers, start, end);
          }
          start = end;
        }
      }
      await flush();
      await tx.objectStore("dead").clear();
      const moved = { epoch: meta.epoch + 1, revision: meta.revision + 1, changes: 0 };
      return [{ ...meta, segments: written, rows, dead: 0, ...moved }, undefined];
    });
  }

  /** Codes and scales of a segment, and its numbers. Code: `collection-corrupt`. */
  async segment(first: number): Promise<{ shard: Bytes; numbers: Uint32Array }> {
    return this.#db.read(["meta", "segments"], async (tx) => {
      const meta = present(await tx.objectStore("meta").get("meta"));
      const count = meta.segments.find(([start]) => start === first)?.[1] ?? 0;
      const part = take(await tx.objectStore("segments").get(first), count, meta.dim);
      if (!part) {
        throw new InsituError("collection-corrupt", `The segment ${first} is damaged. Put its documents again.`);
      }
      return part;
    });
  }

  /** Hold a batch until `replace`. */
  stage(change: string, codes: Bytes, full: Bytes): void {
    this.#staged.push({ change: JSON.parse(change) as Change, codes, full });
  }

  /** All that is here goes, and what was staged is here; in one transaction. */
  async replace(meta: string): Promise<void> {
    const batches = this.#staged;
    this.#staged = [];
    await this.#write(async (tx, old) => {
      await Promise.all((["segments", "dead", "documents", "texts"] as const).map((s) => tx.objectStore(s).clear()));
      const fresh = JSON.parse(meta) as Meta;
      const base = old ?? fresh;
      // Numbers go on, so that nobody takes a new document for an old one.
      let next: Meta = { ...fresh, epoch: base.epoch + 1, next: base.next };
      for (const { change, codes, full } of batches)
        ({ meta: next } = await apply(tx, next, change, codes, full, true));
      return [{ ...next, revision: base.revision + 1 }, undefined];
    });
  }

  /** Forget what was staged. */
  unstage(): void {
    this.#staged = [];
  }

  /** One writer at a time, in all tabs. `ready` tells that it is ours; `release` gives it back, or stops the waiting. */
  lock(): { ready: Promise<void>; release: () => void } {
    if (!navigator.locks) return { ready: Promise.resolve(), release: () => undefined };
    const waiting = new AbortController();
    let release!: () => void;
    const held = new Promise<void>((done) => (release = done));
    const ready = new Promise<void>((ours, failed) => {
      navigator.locks
        .request(NAME + this.name, { signal: waiting.signal }, () => (ours(), held))
        .catch((error: unknown) => failed(error));
    });
    ready.catch(() => undefined); // who gave up does not look
    return { ready, release: () => (release(), waiting.abort()) };
  }

  async about(): Promise<string> {
    const { usage, quota } = (await navigator.storage?.estimate?.()) ?? {};
    const persisted = (await navigator.storage?.persisted?.()) ?? false;
    return JSON.stringify({ place: "indexeddb", usage, quota, persisted });
  }

  async room(): Promise<number | undefined> {
    const { usage, quota } = (await navigator.storage?.estimate?.()) ?? {};
    return usage === undefined || quota === undefined ? undefined : Math.max(0, quota - usage);
  }

  /** One transaction; then everybody is told. */
  async #write<T>(work: (tx: Write, meta: Meta | undefined) => Promise<[Meta, T]>): Promise<T> {
    const value = await this.#db.write(work);
    this.#stale = true;
    this.#channel?.postMessage("written");
    return value;
  }

  close(): void {
    this.#db.close();
    this.#channel?.close();
  }
}

/** The commit itself: documents, texts, one segment, the list of the dead. `empty`: no id can be there already. */
async function apply(
  tx: Write,
  meta: Meta,
  change: Change,
  codes: Bytes,
  full: Bytes,
  empty = false,
): Promise<{ meta: Meta; numbers: number[]; deleted: number }> {
  const documents = tx.objectStore("documents");
  const texts = tx.objectStore("texts");
  const next = { ...meta, revision: meta.revision + 1 };
  const ids = [...change.delete, ...change.put.map(({ id }) => id)];
  const old = empty ? [] : await Promise.all(ids.map((id) => documents.get(id)));
  const done: Promise<unknown>[] = [];
  const dead: number[] = [];
  let deleted = 0;
  old.forEach((document, i) => {
    if (!document) return;
    dead.push(document.number);
    next.dead += document.rows;
    next.bytes -= document.size;
    next.documents -= 1;
    done.push(texts.delete(document.number));
    if (i < change.delete.length) {
      deleted += 1;
      done.push(documents.delete(ids[i]!));
    }
  });
  const total = change.put.reduce((sum, { rows }) => sum + rows, 0);
  const rowNumbers = new Uint32Array(total);
  const numbers: number[] = [];
  let row = 0;
  for (const { id, hash, rows, size, fields, title, text, cuts } of change.put) {
    const number = next.next++;
    numbers.push(number);
    rowNumbers.fill(number, row, row + rows);
    const own = full.length ? rowsOf(full, total, row, rows).slice().buffer : new ArrayBuffer(0);
    done.push(documents.put({ number, hash, rows, size, fields }, id));
    done.push(texts.put({ id, title, text, cuts, hash, fields, full: own }, number));
    next.documents += 1;
    next.bytes += size;
    row += rows;
  }
  for (const [id, fields] of change.touch) {
    const document = await documents.get(id);
    const text = document && (await texts.get(document.number));
    if (!text) continue;
    done.push(documents.put({ ...document, fields }, id), texts.put({ ...text, fields }, document.number));
  }
  if (total) {
    const builder = new Builder(meta.dim);
    builder.add(codes, rowNumbers, 0, total);
    done.push(tx.objectStore("segments").put(builder.segment(), next.rows));
    next.segments = [...next.segments, [next.rows, total]];
    next.rows += total;
  }
  if (dead.length) done.push(tx.objectStore("dead").put(Uint32Array.from(dead), ++next.changes));
  await Promise.all(done);
  return { meta: next, numbers, deleted };
}

function present(meta: Meta | undefined): Meta {
  if (!meta) throw new InsituError("collection-corrupt", "The collection is gone: the browser or somebody removed it.");
  return meta;
}
