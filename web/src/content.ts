// What commits, folding and compaction do to the stores of one side, inside a transaction.
//
// Nothing is awaited here but requests of the transaction: it would be over.

import type { Bytes } from "./download.ts";
import type { Entries, Meta, Text, Write } from "./database.ts";
import { Listing, setFields, type Ids } from "./entries.ts";
import { InsituError } from "./errors.ts";
import { Builder, join, rowsOf, take } from "./segments.ts";
import { Texts } from "./texts.ts";

/** Rows of a segment that compaction writes. */
const SEGMENT_ROWS = 4096;
/** Numbers whose texts are changed at once: what a large delete holds in memory. */
const AT_ONCE = 4096;

/** See `insitu.collection.store.Change`. */
export interface Change {
  put: (Omit<Text, "full"> & { rows: number })[];
  touch: [id: string, fields: Record<string, unknown>][];
  delete: string[];
  space: string;
  full: number;
}

/** What a commit did to documents, by their numbers. */
export interface Changed {
  gone: number[];
  touched: [number: number, fields: Record<string, unknown>][];
  put: [number: number, document: Change["put"][number]][];
}

export async function apply(
  stores: Write,
  ids: Ids,
  meta: Meta,
  change: Change,
  codes: Bytes,
  full: Bytes,
): Promise<{ meta: Meta; deleted: number; changed: Changed }> {
  if (change.put.length && (change.space !== meta.space || change.full !== meta.full)) {
    throw new InsituError(
      "space-mismatch",
      `The collection holds vectors of the space '${meta.space}' by now, and these are of '${change.space}'. Open it again.`,
    );
  }
  await ids.sync(stores, meta);
  const there = (found: string[]): number[] => found.map((id) => ids.find(id)).filter((number) => number !== undefined);
  const deleted = there(change.delete);
  const gone = [...deleted, ...there(change.put.map(({ id }) => id))].sort((a, b) => a - b);
  const next = { ...meta, revision: meta.revision + 1, documents: meta.documents - gone.length };
  const texts = new Texts(stores);
  const done: Promise<unknown>[] = [];
  for (let start = 0; start < gone.length; start += AT_ONCE) {
    const part = gone.slice(start, start + AT_ONCE);
    await texts.load(part);
    for (const number of part) {
      const old = await texts.get(number);
      next.dead += (old?.cuts.length ?? 0) / 2;
      next.bytes -= old?.size ?? 0;
      texts.remove(number);
    }
    await texts.flush();
  }
  const touched = await touch(stores, ids, texts, change.touch);
  const total = change.put.reduce((sum, { rows }) => sum + rows, 0);
  const rowNumbers = new Uint32Array(total);
  const put: Changed["put"] = [];
  const listing = new Listing();
  let row = 0;
  await texts.load(total ? [next.next] : []); // the others' blocks are new
  for (const item of change.put) {
    const { rows, ...document } = item;
    const number = next.next++;
    put.push([number, item]);
    rowNumbers.fill(number, row, row + rows);
    const own = full.length ? rowsOf(full, total, row, rows).slice().buffer : new ArrayBuffer(0);
    texts.set(number, { ...document, full: own });
    listing.add(document.id, number, document.hash, document.fields);
    next.documents += 1;
    next.bytes += document.size;
    row += rows;
  }
  done.push(texts.flush());
  if (total) {
    const builder = new Builder(meta.dim);
    builder.add(codes, rowNumbers, 0, total);
    done.push(stores.get("segments").put(builder.segment(), next.rows));
    done.push(stores.get("entries").put(listing.block(), next.rows));
    next.segments = [...next.segments, [next.rows, total]];
    next.rows += total;
  }
  if (gone.length) done.push(stores.get("dead").put(Uint32Array.from(gone), ++next.changes));
  await Promise.all(done);
  return { meta: next, deleted: deleted.length, changed: { gone, touched, put } };
}

/** New fields of documents whose text stays; which ones. */
export async function touch(
  stores: Write,
  ids: Ids,
  texts: Texts,
  changes: Change["touch"],
): Promise<Changed["touched"]> {
  const touched: Changed["touched"] = [];
  const blocks = new Map<number, [number, Record<string, unknown>][]>();
  for (const [id, fields] of changes) {
    const number = ids.find(id);
    if (number === undefined) continue;
    touched.push([number, fields]);
    await texts.load([number]);
    const text = await texts.get(number);
    if (text) texts.set(number, { ...text, fields });
    const key = ids.block(number);
    blocks.set(key, [...(blocks.get(key) ?? []), [number, fields]]);
  }
  const entries = stores.get("entries");
  for (const [key, fresh] of blocks) {
    const block = await entries.get(key);
    if (!block) continue;
    for (const [number, fields] of fresh) setFields(block, block.numbers.indexOf(number), fields);
    await entries.put(block, key);
  }
  return touched;
}

export async function fold(stores: Write, meta: Meta, firsts: Int32Array): Promise<Meta> {
  const run = meta.segments.filter(([first]) => firsts.includes(first));
  const [segments, entries] = [stores.get("segments"), stores.get("entries")];
  const found = await Promise.all(run.map(([first]) => segments.get(first)));
  const listed = await Promise.all(run.map(([first]) => entries.get(first)));
  const parts = run.map(([, count], i) => take(found[i], count, meta.dim));
  if (run.length !== firsts.length || parts.includes(undefined)) return meta;
  const rows = run.reduce((sum, [, count]) => sum + count, 0);
  const [joined, listing] = [new Builder(meta.dim), new Listing()];
  for (const part of parts) joined.add(part!.shard, part!.numbers, 0, part!.numbers.length);
  for (const block of listed) block?.ids.forEach((_, i) => listing.take(block, i));
  const first = run[0]![0];
  await Promise.all([
    ...run.slice(1).flatMap(([other]) => [segments.delete(other), entries.delete(other)]),
    segments.put(joined.segment(), first),
    entries.put(listing.block(), first),
  ]);
  const kept = meta.segments.filter(([other]) => !firsts.includes(other));
  const all = [...kept, [first, rows] as [number, number]].sort((a, b) => a[0] - b[0]);
  return { ...meta, segments: all, revision: meta.revision + 1 };
}

/** Code: `collection-corrupt`, if a damaged segment holds documents that were not put again: they would be lost. */
export async function compact(stores: Write, meta: Meta): Promise<Meta> {
  const dead = new Set(join(await stores.get("dead").getAll()));
  const [segments, entries] = [stores.get("segments"), stores.get("entries")];
  const written: [number, number][] = [];
  let [builder, listing] = [new Builder(meta.dim), new Listing()];
  let rows = 0;
  const flush = async (): Promise<void> => {
    if (!builder.count) return;
    await Promise.all([segments.put(builder.segment(), rows), entries.put(listing.block(), rows)]);
    written.push([rows, builder.count]);
    rows += builder.count;
    [builder, listing] = [new Builder(meta.dim), new Listing()];
  };
  for (const [first, count] of meta.segments) {
    const part = take(await segments.get(first), count, meta.dim);
    const listed: Entries | undefined = await entries.get(first);
    // Gone before anything is written under a key as large: what is written lies below what was read.
    await Promise.all([segments.delete(first), entries.delete(first)]);
    if (!part || !listed) {
      if (listed?.numbers.every((number) => dead.has(number))) continue;
      throw new InsituError("collection-corrupt", `The segment ${first} is damaged. Put its documents again.`);
    }
    let entry = 0;
    for (let start = 0; start < count;) {
      const number = part.numbers[start]!;
      let end = start + 1;
      while (end < count && part.numbers[end] === number) end++;
      while (listed.numbers[entry]! < number) entry++;
      if (!dead.has(number)) {
        if (builder.count >= SEGMENT_ROWS) await flush();
        builder.add(part.shard, part.numbers, start, end);
        listing.take(listed, entry);
      }
      start = end;
    }
  }
  await flush();
  await stores.get("dead").clear();
  const moved = { epoch: meta.epoch + 1, revision: meta.revision + 1, changes: 0 };
  return { ...meta, segments: written, rows, dead: 0, ...moved };
}
