// A content that was made beside the one that answers takes its place, in one transaction.

import { clear, type Meta, type Side, type Write } from "./database.ts";
import { Ids, alive, fieldsOf } from "./entries.ts";
import { apply, touch } from "./content.ts";
import { InsituError } from "./errors.ts";
import { Texts } from "./texts.ts";

type Adopted = [meta: Meta | undefined, next: Meta | undefined, lacking: Uint32Array];

/** See `insitu.collection.store.Store.swap`. */
export async function adopt(
  stores: (side: Side) => Write,
  old: Meta | undefined,
  made: Meta | undefined,
  follow: boolean,
  lost: Int32Array,
): Promise<Adopted> {
  if (!made) throw new InsituError("write-failed", "Somebody else has taken it away. Try again.");
  const [from, to] = [stores(old?.side ?? ""), stores(made.side!)];
  let next = made;
  if (follow && old) {
    const [wanted, there] = [await documentsOf(from), await documentsOf(to)];
    const lacking: number[] = [];
    const fresh: [string, Record<string, unknown>][] = [];
    for (const [id, { number, hash, fields }] of wanted) {
      const found = there.get(id);
      if (found?.hash !== hash) lacking.push(number);
      else if (!same(found.fields, fields)) fresh.push([id, fields]);
    }
    const missing = Uint32Array.from(lacking.filter((number) => !lost.includes(number))).sort();
    if (missing.length) return [old, made, missing];
    // What is lacking still has lost its text: a version of it that is older must not come back.
    const gone = [...there.keys()].filter((id) => wanted.get(id)?.hash !== there.get(id)!.hash);
    const ids = new Ids();
    const nothing = new Uint8Array();
    const change = { put: [], touch: [], delete: gone, space: made.space, full: made.full };
    ({ meta: next } = await apply(to, ids, made, change, nothing, nothing));
    const texts = new Texts(to);
    await touch(to, ids, texts, fresh);
    await texts.flush();
    next = { ...next, fields: old.fields };
  }
  await clear(from);
  const { epoch, revision } = old ?? made;
  const above = Math.max(next.next, old?.next ?? 0);
  return [{ ...next, epoch: epoch + 1, revision: revision + 1, next: above }, undefined, new Uint32Array()];
}

async function documentsOf(
  stores: Write,
): Promise<Map<string, { number: number; hash: string; fields: Record<string, unknown> }>> {
  const found = new Map();
  for (const { block, places } of (await alive(stores)).blocks) {
    for (const place of places) {
      const [number, hash] = [block.numbers[place]!, block.hashes[place]!];
      found.set(block.ids[place]!, { number, hash, fields: fieldsOf(block, place) });
    }
  }
  return found;
}

function same(a: Record<string, unknown>, b: Record<string, unknown>): boolean {
  const names = Object.keys(a);
  return names.length === Object.keys(b).length && names.every((name) => a[name] === b[name]);
}
