// Random operations on the store of collections, held to a map. Seed-driven, so that a failure happens again.
import { chanceOf } from "./chance.ts";
import { batch, examine, openStore, renew } from "./store_parts.ts";
import type { CollectionStore } from "../../web/src/collection_store.ts";

const IDS = Array.from({ length: 60 }, (_, i) => `id ${i}`);
const NOTHING = new Uint8Array(0);
const BARE = { rows: 0, dead: 0, documents: 0, changes: 0, bytes: 0, segments: [] };

interface Document {
  stamp: string;
  field: string;
}

/** How often each operation was done, and `held`, how often all texts were in memory then; or what went wrong first. */
export async function walk(name: string, seed: number, count: number): Promise<Record<string, number> | string> {
  const chance = chanceOf(seed);
  const model = new Map<string, Document>();
  const done: Record<string, number> = { held: 0 };
  const handles = [await openStore(name), await openStore(name)] as [CollectionStore, CollectionStore];
  const some = (most: number): string[] => [...new Set(Array.from({ length: 1 + chance(most) }, () => IDS[chance(60)]!))];
  const meta = async () => JSON.parse((await handles[0].meta())!) as { segments: [number, number][]; dead: number };
  const put = (ids: string[], stamp: string): void => ids.forEach((id) => model.set(id, { stamp, field: stamp }));
  const acts: Record<string, (store: CollectionStore, stamp: string) => Promise<unknown>> = {
    async put(store, stamp) {
      const ids = some(chance(10) ? 4 : 30);
      await store.commit(...batch(ids, stamp));
      put(ids, stamp);
    },
    async delete(store) {
      const ids = some(chance(10) ? 3 : 30);
      const change = { put: [], touch: [], delete: ids, space: "test", full: 0 };
      const [, , deleted] = JSON.parse(await store.commit(JSON.stringify(change), NOTHING, NOTHING)) as number[];
      const there = ids.filter((id) => model.delete(id)).length;
      if (deleted !== there) throw new Error(`${deleted} were deleted, ${there} were there`);
    },
    async touch(store, stamp) {
      const ids = some(5);
      const change = { put: [], touch: ids.map((id) => [id, { stamp }]), delete: [], space: "test", full: 0 };
      await store.commit(JSON.stringify(change), NOTHING, NOTHING);
      for (const id of ids) if (model.has(id)) model.get(id)!.field = stamp;
    },
    async fold(store) {
      const { segments } = await meta();
      const start = chance(Math.max(1, segments.length - 1));
      const run = segments.slice(start, start + 2 + chance(8));
      if (run.length > 1) await store.fold(Int32Array.from(run, ([first]) => first));
    },
    compact: (store) => store.compact(),
    async import(store, stamp) {
      await store.stage(JSON.stringify({ ...JSON.parse((await store.meta())!), ...BARE }), false);
      const ids = some(40);
      await store.commitNext(...batch(ids.slice(0, 20), stamp));
      if (ids.length > 20) await store.commitNext(...batch(ids.slice(20), stamp));
      if (chance(3) === 0) return store.unstage(); // the file was no good
      await store.swap(false, new Int32Array(0));
      model.clear();
      put(ids, stamp);
    },
    reembed: (store) => renew(store),
    /** Texts are read into memory when nobody writes. */
    async pause(store) {
      await passages(store, IDS);
      await new Promise((done) => setTimeout(done, 30));
    },
    async reopen(store) {
      store.close();
      handles[handles.indexOf(store)] = await openStore(name);
    },
  };
  const bag = [
    ...Array(40).fill("put"), ...Array(20).fill("delete"), ...Array(10).fill("touch"), ...Array(8).fill("fold"),
    ...Array(5).fill("reopen"), ...Array(10).fill("pause"), "compact", "compact", "import", "reembed",
  ] as string[];
  for (let i = 0; i < count; i++) {
    const act = bag[chance(bag.length)]!;
    try {
      await acts[act]!(handles[chance(2)]!, `stamp ${i}`);
      done[act] = (done[act] ?? 0) + 1;
      const asked = handles[chance(2)]!;
      const wrong = await compare(asked, model, i % 10 === 0);
      if (wrong) return `${i} ${act}: ${wrong}`;
      const { here, there } = await passages(asked, IDS);
      if (here !== undefined && here !== there) return `${i} ${act}: in memory are ${here}, stored are ${there}`;
      done["held"]! += Number(here !== undefined);
    } catch (error) {
      return `${i} ${act}: ${(error as Error).stack}`;
    }
  }
  for (const store of handles) store.close();
  return done;
}

/** What an answer would show of documents, and of some that are gone: from memory, if it is there, and as it is stored. */
async function passages(store: CollectionStore, ids: string[]): Promise<{ here: string | undefined; there: string }> {
  const { revision } = JSON.parse((await store.news(0, 0, 0)).meta) as { revision: number };
  const found = JSON.parse(await store.find(JSON.stringify(ids))) as ([number: number, hash: string, rows: number] | null)[];
  const places = found.flatMap((one) => (one ? [one[0] - 1, 0, one[0], one[2] - 1] : []));
  const here = store.held(Int32Array.from(places), revision);
  return { here, there: await store.passages(Int32Array.from(places), revision) };
}

/** What does not agree. */
async function compare(store: CollectionStore, model: Map<string, Document>, whole: boolean): Promise<string> {
  const found = JSON.parse(await store.find(JSON.stringify(IDS))) as ([number, string, number, Document] | null)[];
  for (const [i, id] of IDS.entries()) {
    const [here, wanted] = [found[i], model.get(id)];
    if (here?.[1] !== wanted?.stamp) return `${id} is of ${here?.[1]}, not of ${wanted?.stamp}`;
    if (here && here[3].stamp !== wanted!.field) return `${id} has the field ${here[3].stamp}, not ${wanted!.field}`;
  }
  if (!whole) return "";
  const { wrong, stamps } = await examine(store);
  if (wrong.length) return wrong.join("; ");
  if (Object.keys(stamps).length !== model.size) return `${Object.keys(stamps).length} of ${model.size} documents`;
  const { numbers, values, ranks } = await store.columns('["stamp"]', new Uint32Array(0));
  const [stamped] = JSON.parse(values) as [string[]];
  const column = Array.from(ranks[0]!, (rank) => stamped[rank - 1]);
  const byNumber = new Map(found.filter((one) => one !== null).map((one) => [one[0], one[3].stamp]));
  for (const [i, number] of numbers.entries()) {
    if (byNumber.get(number) !== column[i]) return `column: ${number} has ${column[i]}, not ${byNumber.get(number)}`;
  }
  return "";
}
