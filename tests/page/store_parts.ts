// The store of collections alone, and commits made without a model, for tests that must do many of them.
import { CollectionStore } from "../../web/src/collection_store.ts";
export { CollectionStore };

const DIM = 16;
const META = {
  space: "test", dim: DIM, full: 0, fields: {}, version: 1, epoch: 1, revision: 0, rows: 0, dead: 0, next: 1,
  changes: 0, documents: 0, bytes: 0, segments: [],
};

export async function openStore(name: string): Promise<CollectionStore> {
  const store = await CollectionStore.open(name);
  if (!(await store.meta())) await store.declare(JSON.stringify(META));
  return store;
}

/** Documents `ids` whose text says `stamp`, of 1 to 3 rows each, and what a commit of them takes. */
export function batch(ids: string[], stamp: string): [string, Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>] {
  const put = ids.map((id, i) => ({
    id, hash: stamp, rows: 1 + (i % 3), size: 1, fields: { stamp }, title: "", text: `${id} ${stamp}`,
    cuts: Array.from({ length: 2 + 2 * (i % 3) }, (_, at) => at),
  }));
  const rows = put.reduce((sum, document) => sum + document.rows, 0);
  const codes = new Uint8Array(rows * (DIM + 4)).fill(1);
  return [JSON.stringify({ put, touch: [], delete: [], space: "test", full: 0 }), codes, new Uint8Array(0)];
}

/** What embedding anew does: all that lacks into the other content, then that takes its place. */
export async function renew(store: CollectionStore): Promise<void> {
  const meta = JSON.parse((await store.meta())!) as typeof META;
  await store.stage(JSON.stringify({ ...META, next: meta.next }), true);
  const none = new Int32Array(0);
  for (let lacking; (lacking = await store.swap(true, none)).length;) {
    for (let start = 0; start < lacking.length; start += 20) {
      const found = JSON.parse(await store.texts(Int32Array.from(lacking.subarray(start, start + 20)))) as string[][];
      for (const stamp of new Set(found.map((text) => text[4]!))) {
        const ids = found.filter((text) => text[4] === stamp).map((text) => text[0]!);
        await store.commitNext(...batch(ids, stamp));
      }
    }
  }
}

/** Everything that must agree, or a sentence that says what does not; and each document's stamp. */
export async function examine(store: CollectionStore): Promise<{ wrong: string[]; stamps: Record<string, string> }> {
  const wrong: string[] = [];
  const say = (holds: boolean, what: string): void => void (holds || wrong.push(what));
  const news = await store.news(0, 0, 0);
  const meta = JSON.parse(news.meta) as typeof META;
  const dead = new Set(news.dead);
  const alive = new Map<number, number>();
  for (const number of news.numbers) if (!dead.has(number)) alive.set(number, (alive.get(number) ?? 0) + 1);
  const numbers = [...alive.keys()];
  say(news.damaged.length === 0, `damaged: ${news.damaged}`);
  say(numbers.length === meta.documents, `${numbers.length} documents have vectors, the record says ${meta.documents}`);
  say(meta.rows === news.numbers.length, `${news.numbers.length} rows, the record says ${meta.rows}`);
  const deadRows = [...news.numbers].filter((number) => dead.has(number)).length;
  say(meta.dead === deadRows, `${deadRows} rows are dead, the record says ${meta.dead}`);
  say(meta.bytes === meta.documents, `${meta.bytes} bytes of ${meta.documents} documents`);
  const texts = JSON.parse(await store.texts(Int32Array.from(numbers))) as [string, string, string, number[], string][];
  const stamps: Record<string, string> = {};
  texts.forEach((text, i) => {
    if (!text) return say(false, `document ${numbers[i]} has no text`);
    const [id, , words, cuts, hash] = text;
    say(words === `${id} ${hash}`, `${id} is half of two documents: ${words}, ${hash}`);
    say(alive.get(numbers[i]!) === cuts.length / 2, `${id} lacks vectors`);
    stamps[id] = hash;
  });
  const { numbers: listed } = await store.columns("[]", new Uint32Array(0));
  say(listed.length === meta.documents, `${listed.length} ids, the record says ${meta.documents}`);
  return { wrong, stamps };
}
