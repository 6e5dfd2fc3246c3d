// What the walk through the whole page asks, and the answers that a map says are right. See whole_walk.ts.
import type { Chance } from "./chance.ts";
import type { Collection, CollectionHit, NewDocument, Where } from "../../web/src/index.ts";

export interface Document {
  text: string;
  tag: string | null;
  date: number | null;
}
/** By id, those put last last. */
export type Model = Map<string, Document>;
/** What a passage of each text scores for each query: [passage, score]. */
export type Scores = Map<string, Map<string, [string, number]>>;
/** What the answers rest on: the collection's dimensions, what each text scores with them, and how many passages it has. */
export interface Known {
  dim: number;
  scores: Scores;
  passages: ReadonlyMap<string, number>;
}
/** What is asked, how, and the answer that a state must give. */
export type Question = [string, (notes: Collection) => Promise<unknown>, (model: Model) => unknown];

const THINGS = ["cat", "car", "income tax", "fish tank", "chess"];
const LONG = Array.from({ length: 24 }, (_, i) => `Paragraph ${i} of a long note tells of the ${THINGS[i % 5]} once more.`);
export const TEXTS = [...THINGS.flatMap((thing) => [`my ${thing}`, `the old ${thing}`, `no ${thing} here`, `${thing}?`]), LONG.join("\n\n")];
export const QUERIES = ["a pet", "where did I park", "chess", "what must I pay"];
export const TAGS = [null, "home", "work"];

export const put = (model: Model, given: NewDocument[]): Model => {
  const after = new Map(model);
  for (const { id, text, fields } of given) {
    // A text that is there stays where it is, and its document gets the new fields.
    if (after.get(id)?.text !== text) after.delete(id);
    after.set(id, { text, tag: fields!.tag as string | null, date: fields!.date as number | null });
  }
  return after;
};
export const without = (model: Model, ids: string[]): Model => new Map([...model].filter(([id]) => !ids.includes(id)));
const fieldsOf = ({ tag, date }: Document): object => ({ ...(tag === null ? {} : { tag }), ...(date === null ? {} : { date }) });
export const same = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);
const sorted = (fields: object): object => Object.fromEntries(Object.entries(fields).sort(([a], [b]) => (a < b ? -1 : 1)));

/** Hits, and what a listing of a state gives, in one shape. */
export const listed = (hits: CollectionHit[]): unknown[] =>
  hits.map(({ id, text, fields, score }) => [id, text, sorted(fields), score]);
export const list = (model: Model): unknown[] =>
  [...model].reverse().map(([id, one]) => [id, one.text, sorted(fieldsOf(one)), null]);

/** One that chance decides. */
export function question(chance: Chance, { dim, scores, passages }: Known): Question {
  const query = QUERIES[chance(QUERIES.length)]!;
  const [where, passes] = filter(chance);
  const kind = chance(12);
  const scored = (model: Model, only: boolean): [string, string, object, number][] =>
    [...model]
      .filter(([, one]) => !only || passes(one))
      .map(([id, one]) => {
        const [passage, score] = scores.get(query)!.get(one.text)!;
        return [id, passage, sorted(fieldsOf(one)), score];
      });
  const byId = (rows: unknown[]): unknown[] => (rows as [string][]).sort(([a], [b]) => (a < b ? -1 : 1));
  const hits = async (asked: Promise<CollectionHit[]>): Promise<unknown[]> => listed(await asked);
  if (kind < 3) {
    return ["list", (notes) => hits(notes.search(null, { k: 100, where: {} })), (model) => list(model)];
  }
  if (kind < 5) {
    const say = `list ${JSON.stringify(where)}`;
    const wanted = (model: Model): unknown => list(new Map([...model].filter(([, one]) => passes(one))));
    return [say, (notes) => hits(notes.search(null, { k: 100, where })), wanted];
  }
  if (kind < 7) {
    const ask = async (notes: Collection): Promise<unknown> => {
      const found = await notes.search(query, { k: 100 });
      const scores = found.map(({ score }) => score!);
      if (scores.some((score, i) => i && score > scores[i - 1]!)) throw new Error(`not in order: ${scores.join(" ")}`);
      return byId(listed(found));
    };
    return [`"${query}"`, ask, (model) => byId(scored(model, false))];
  }
  if (kind < 8) {
    const ask = async (notes: Collection): Promise<unknown> => byId(await hits(notes.search(query, { k: 100, where })));
    return [`"${query}" ${JSON.stringify(where)}`, ask, (model) => byId(scored(model, true))];
  }
  if (kind < 9) {
    const ask = async (notes: Collection): Promise<unknown> =>
      (await notes.search(query, { k: 3 })).map(({ score }) => score);
    const best = (model: Model): unknown =>
      scored(model, false)
        .map(([, , , score]) => score)
        .sort((a, b) => b - a)
        .slice(0, 3);
    return [`the best 3 for "${query}"`, ask, best];
  }
  if (kind < 10) {
    const word = ["cat", "chess", "old", "here"][chance(4)]!;
    const ask = async (notes: Collection): Promise<unknown> =>
      (await notes.search(word, { k: 100, words: 1 })).map(({ id }) => id).sort();
    const holding = (model: Model): unknown =>
      [...model].filter(([, one]) => one.text.split(/[^a-z]+/).includes(word)).map(([id]) => id).sort();
    return [`the word ${word}`, ask, holding];
  }
  if (kind < 11) {
    const ask = async (notes: Collection): Promise<unknown> =>
      byId(await hits(notes.search(query, { k: 100, words: 0.3 }))).map((row) => (row as unknown[])[0]);
    return [`"${query}" with words`, ask, (model) => [...model.keys()].sort()];
  }
  const ask = async (notes: Collection): Promise<unknown> => {
    const { documents, passages, missing, damaged, dim } = await notes.stats();
    return { documents, passages, missing, damaged, dim };
  };
  const counted = (model: Model): unknown => ({
    documents: model.size,
    passages: [...model.values()].reduce((sum, { text }) => sum + passages.get(text)!, 0),
    missing: 0,
    damaged: [],
    dim,
  });
  return ["stats", ask, counted];
}

function filter(chance: Chance): [Where, (one: Document) => boolean] {
  const tag = TAGS[chance(3)]!;
  const least = chance(10) - 5;
  const filters: [Where, (one: Document) => boolean][] = [
    [{ tag }, (one) => one.tag === tag],
    [{ tag: { ne: tag } }, (one) => one.tag !== tag],
    [{ date: { gte: least } }, ({ date }) => date !== null && date >= least],
    [{ date: { gte: least, lt: least + 3 }, tag }, (one) => one.tag === tag && one.date !== null && one.date >= least && one.date < least + 3],
    [{ or: [{ tag: "home" }, { date: { in: [least, 0] } }] }, ({ tag, date }) => tag === "home" || date === least || date === 0],
    [{ not: { and: [{ tag: "work" }, { date: { lte: least } }] } }, ({ tag, date }) => !(tag === "work" && date !== null && date <= least)],
  ];
  return filters[chance(filters.length)]!;
}
