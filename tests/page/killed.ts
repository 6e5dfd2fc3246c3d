// What a tab does to a collection through the whole page until it is killed, and all that must be true of it afterwards.
// test_collection_kills.py knows what was acknowledged, and so which documents may be there.
import type { Collection, Insitu, NewDocument } from "../../web/src/index.ts";

const NAME = "killed";
const IDS = 150;
const FIELDS = { stamp: "keyword", key: "keyword" } as const;
const THINGS = ["cat", "car", "income tax", "fish tank", "chess", "garden", "violin", "train"];
const PLACES = ["in the kitchen", "behind the town hall", "at my aunt's", "under the bridge", "by the sea", "in Rome", "on the roof"];
/** Documents whose texts are searched for. */
const ASKED = 15;
/** What a short text scores for itself, with the loss of int8 codes. */
const SAME = 0.98;

/** Passages of a long text: one has up to 160 tokens, and two of its paragraphs are more. */
const LONG = 3;

const wait = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms));
const isLong = (id: string): boolean => Number(id) % 30 === 0;

/** A text names its document and its stamp, in each of its passages. */
function document(id: string, stamp: string): NewDocument & { text: string; title: string } {
  const at = Number(id);
  const short = `${THINGS[at % 8]} ${PLACES[at % 7]}, number ${id}, ${stamp}.`;
  const text = isLong(id) ? Array<string>(LONG).fill(`${short} ${"A long note goes on. ".repeat(20)}`).join("\n\n") : short;
  return { id, text, title: `title of ${id}, ${stamp}`, fields: { stamp, key: id } };
}

/** The steps of `act`, again and again; "done" is logged when the page has acknowledged one. */
export async function write(insitu: Insitu, notes: Collection, act: string, seed: number): Promise<never> {
  const done = (): void => console.log("done");
  const start = act.includes("import") ? await notes.export() : new Blob();
  const steps: Record<string, (ids: string[], stamp: string) => Promise<unknown>> = {
    put: (ids, stamp) => notes.put(ids.map((id) => document(id, stamp))),
    one: (ids, stamp) => notes.put(ids.slice(0, 1).map((id) => document(id, stamp))),
    // More than one commit: the first of 128 documents is acknowledged by itself.
    all: (ids, stamp) => {
      const given = Array.from({ length: IDS }, (_, i) => document(String((Number(ids[0]) + i) % IDS), stamp));
      return notes.put(given, { onProgress: (count) => count === 128 && done() });
    },
    delete: (ids) => notes.delete(ids.slice(0, 2)),
    // Goes on by itself after the page was answered; ends if nothing is left that calls for it.
    tidy: async () => {
      for (;;) {
        const { dead, passages, segments } = await notes.stats();
        if (dead < Math.max(64, (dead + passages) / 4) && segments < 32) return;
        await wait(5);
      }
    },
    import: () => insitu.import(NAME, start),
    reembed: async () => notes.reembed({ dim: 192 - (await notes.stats()).dim }),
  };
  for (let i = 0; ; i++) {
    const ids = Array.from({ length: 4 }, (_, j) => String((seed * 7 + i * 13 + j) % IDS));
    for (const step of act.split(" ")) {
      await steps[step]!(ids, `${seed}.${i}`);
      done();
    }
  }
}

export async function openNotes(insitu: Insitu): Promise<Collection> {
  return insitu.collection(NAME, { fields: FIELDS });
}

/** What is not as it should be, in words, and each document's stamp. */
export async function examine(notes: Collection, seed: number): Promise<{ wrong: string[]; stamps: Record<string, string> }> {
  const wrong: string[] = [];
  const say = (holds: boolean, what: string): void => void (holds || wrong.push(what));
  const stats = await notes.stats();
  const listed = await notes.search(null, { k: 1000, where: {} });
  const ids = listed.map(({ id }) => id);
  say(new Set(ids).size === ids.length, `listed twice: ${ids}`);
  say(stats.documents === ids.length, `${ids.length} are listed, stats() has ${stats.documents}`);
  say(stats.missing === 0 && stats.damaged.length === 0 && !stats.evicted, JSON.stringify(stats));
  const stamps: Record<string, string> = {};
  for (const { id, text, title, fields } of listed) {
    const stamp = (stamps[id] = fields.stamp as string);
    const whole = document(id, stamp);
    say(text === whole.text && title === whole.title && fields.key === id, `${id} is half of two: ${title}, ${stamp}`);
  }
  const passages = ids.reduce((sum, id) => sum + (isLong(id) ? LONG : 1), 0);
  say(stats.passages === passages, `${stats.passages} passages, not ${passages}`);
  // Each has the vector of its own text, and is found among all.
  for (let i = 0; i < Math.min(ASKED, ids.length); i++) {
    const id = ids[(seed + i * 7) % ids.length]!;
    const { text, title } = document(id, stamps[id]!);
    const embedded = `${title}\n${text}`;
    const own = await notes.search(embedded, { where: { key: id } });
    say(own.length === 1 && own[0]!.id === id && text.includes(own[0]!.text), `${id} is not the one of its key`);
    say(isLong(id) || own[0]!.score! > SAME, `${id} scores ${own[0]?.score} for its own text`);
    const found = await notes.search(embedded);
    say(found.length === Math.min(10, ids.length), `${found.length} hits of ${ids.length}`);
    say(isLong(id) || found[0]!.score! >= own[0]!.score!, `${id} is not found among all`);
    for (const hit of found) say(document(hit.id, stamps[hit.id] ?? "").text.includes(hit.text), `${hit.id}: ${hit.text}`);
  }
  return { wrong, stamps };
}
