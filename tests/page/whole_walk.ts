// Random operations on a collection through the whole page, by two tabs, each with a worker of its own, held to a map. What
// each operation may have come to is known before it is looked at; scores are those that the same texts have in a collection
// that nobody changed. Driven by a seed: all that is done is drawn from it, but for how far a killed put had come.
import { chanceOf } from "./chance.ts";
import { list, listed, put, QUERIES, question, same, TAGS, TEXTS, without, type Model, type Scores } from "./whole_questions.ts";
import type { Collection, Insitu, NewDocument } from "../../web/src/index.ts";

/** A tab, and the collection there. */
interface Hand {
  tab: Window & typeof globalThis;
  insitu: Insitu;
  notes: Collection;
}

const IDS = Array.from({ length: 24 }, (_, i) => (i ? `id ${i}` : "__proto__"));
const FIELDS = { tag: "keyword", date: "number" } as const;
/** Milliseconds after which a tab has seen what another one wrote. */
const SEEN = 1000;
const KEPT = 4;

const wait = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms));

/** How often each operation was done; throws what went wrong first, with the last operations. */
export async function walk(name: string, seed: number, count: number): Promise<Record<string, number>> {
  const steps: string[] = [];
  const note = (step: string): void => void (steps.push(step), steps.length > 30 && steps.shift());
  try {
    return await new Walk(name, seed, note).run(count);
  } catch (error) {
    throw new Error(`seed ${seed}: ${(error as Error).stack}\nLast operations:\n${steps.join("\n")}`);
  }
}

class Walk {
  readonly #chance;
  readonly #hands: Hand[] = [];
  #model: Model = new Map();
  #dim = 128;
  #scores = new Map<number, Scores>();
  #passages = new Map<string, number>();
  /** Exports with what they hold. */
  #files: { file: Blob; passphrase: string | undefined; model: Model; dim: number }[] = [];
  /** The hand that wrote last, when that was, and what was there in the seconds before. */
  #writer: Hand | undefined;
  #wrote = 0;
  #past: [until: number, model: Model][] = [];
  /** Questions that found the texts in memory. */
  #fromMemory = 0;

  constructor(
    private readonly name: string,
    seed: number,
    private readonly note: (step: string) => void,
  ) {
    this.#chance = chanceOf(seed);
  }

  async run(count: number): Promise<Record<string, number>> {
    this.#hands.push(await this.#open(window), await this.#open(await anotherTab()));
    for (const dim of [128, 64]) await this.#learn(dim);
    const bag = Object.entries(this.#acts).flatMap(([name, [weight]]) => Array<string>(weight).fill(name));
    const done: Record<string, number> = {};
    for (let i = 0; i < count; i++) {
      const act = bag[this.#chance(bag.length)]!;
      const who = this.#chance(2);
      const [hand, other] = [this.#hands[who]!, this.#hands[1 - who]!];
      this.note(`${i} tab ${who}: ${act}`);
      await this.#acts[act]![1](hand, other);
      done[act] = (done[act] ?? 0) + 1;
      await this.#look(this.#hands[this.#chance(2)]!);
    }
    if (this.#fromMemory < count / 50) throw new Error(`${this.#fromMemory} questions were answered from memory`);
    for (const { insitu } of this.#hands) insitu.close();
    this.#hands[1]!.tab.close();
    return done;
  }

  readonly #acts: Record<string, [weight: number, act: (hand: Hand, other: Hand) => Promise<unknown>]> = {
    put: [380, (hand) => this.#put(hand, this.#documents(1 + this.#chance(4)))],
    "put many": [4, (hand) => this.#put(hand, this.#documents(20))],
    touch: [
      180,
      (hand) => {
        const given = this.#documents(1 + this.#chance(6));
        return this.#put(hand, given.map((one) => ({ ...one, text: this.#model.get(one.id)?.text ?? one.text })));
      },
    ],
    delete: [200, (hand) => this.#delete(hand, this.#ids(1 + this.#chance(3)))],
    "delete many": [4, (hand) => this.#delete(hand, this.#ids(20))],
    search: [150, (hand) => this.#look(hand)],
    "a pause": [
      30,
      async (hand) => {
        await this.#look(hand);
        await wait(50); // texts are read into memory when nobody writes
      },
    ],
    "search while the other tab puts": [
      20,
      async (hand, other) => {
        const given = this.#documents(1 + this.#chance(4));
        const after = put(this.#model, given);
        const [hits] = await Promise.all([hand.notes.search(null, { k: 100, where: {} }), other.notes.put(given)]);
        const found = listed(hits);
        const possible = [after, this.#model, ...this.#past.map(([, model]) => model)];
        if (!possible.some((model) => same(found, list(model)))) throw this.#strange(found, possible);
        this.#became(after, other);
      },
    ],
    "both tabs write": [
      20,
      async (hand, other) => {
        const [given, gone] = [this.#documents(1 + this.#chance(4)), this.#ids(3)];
        await Promise.all([hand.notes.put(given), other.notes.delete(gone)]);
        const [left, right] = [put(this.#model, given), without(this.#model, gone)];
        await this.#settle(hand, [put(right, given), without(left, gone)], [this.#model, left, right]);
      },
    ],
    "both tabs put": [
      20,
      async (hand, other) => {
        const [given, others] = [this.#documents(1 + this.#chance(4)), this.#documents(1 + this.#chance(4))];
        await Promise.all([hand.notes.put(given), other.notes.put(others)]);
        const [left, right] = [put(this.#model, given), put(this.#model, others)];
        await this.#settle(other, [put(left, others), put(right, given)], [this.#model, left, right]);
      },
    ],
    "put, given up": [
      10,
      async (hand) => {
        const given = this.#documents(1 + this.#chance(4));
        const stop = new AbortController();
        const ms = this.#chance(30);
        const putting = hand.notes.put(given, { signal: stop.signal }).then(() => "done", (error: Error & { code: string }) => error.code);
        await wait(ms);
        stop.abort();
        const code = await putting;
        if (code === "done") return this.#became(put(this.#model, given), hand);
        if (code !== "aborted") throw new Error(code);
        await this.#settle(hand, [this.#model, put(this.#model, given)], [this.#model]);
      },
    ],
    "collection again": [40, async (hand) => void (hand.notes = await this.#collection(hand.insitu))],
    export: [
      3,
      async (hand) => {
        const passphrase = this.#chance(6) ? undefined : "correct horse";
        const file = await hand.notes.export(passphrase ? { passphrase } : {});
        const possible = [this.#model, ...(hand === this.#writer ? [] : this.#past.map(([, model]) => model))];
        const copy = await hand.insitu.import(`${this.name}, copy`, file, passphrase ? { passphrase } : {});
        const [found, model] = await this.#state(copy, possible);
        if (!model) throw this.#strange(found, possible);
        this.#files = [...this.#files, { file, passphrase, model, dim: this.#dim }].slice(-KEPT);
      },
    ],
    import: [
      3,
      async (hand) => {
        const kept = this.#files.filter(({ dim }) => dim === this.#dim);
        const at = this.#chance(KEPT);
        const chosen = kept[at % Math.max(1, kept.length)];
        if (!chosen) return;
        const { file, passphrase, model } = chosen;
        hand.notes = await hand.insitu.import(this.name, file, passphrase ? { passphrase } : {});
        this.#became(model, hand);
      },
    ],
    reembed: [
      1,
      async (hand, other) => {
        await hand.notes.reembed({ dim: (this.#dim = 192 - this.#dim) });
        this.#became(this.#model, hand);
        other.notes = await this.#collection(other.insitu); // the vectors are others by now, and so it must
      },
    ],
    "page again": [
      1,
      async (hand) => {
        hand.insitu.close();
        await this.#again(hand);
      },
    ],
    "killed while it puts": [
      1,
      async (hand, other) => {
        const given = this.#documents(1 + this.#chance(4));
        const putting = hand.notes.put(given).catch(() => undefined);
        await wait(this.#chance(40));
        hand.insitu.close();
        await putting;
        await this.#again(hand);
        await this.#settle(other, [this.#model, put(this.#model, given)], [this.#model]);
      },
    ],
  };

  // --- what is done ----------------------------------------------------------------------------------------------

  async #put(hand: Hand, given: NewDocument[]): Promise<void> {
    const done = await hand.notes.put(given);
    const fresh = given.filter(({ id, text }) => this.#model.get(id)?.text !== text);
    const wanted = {
      embedded: fresh.length,
      unchanged: given.length - fresh.length,
      passages: fresh.reduce((sum, { text }) => sum + this.#passages.get(text)!, 0),
    };
    if (!same(done, wanted)) throw new Error(`put: ${JSON.stringify(done)}, not ${JSON.stringify(wanted)}`);
    this.#became(put(this.#model, given), hand);
  }

  async #delete(hand: Hand, ids: string[]): Promise<void> {
    const deleted = await hand.notes.delete(ids);
    const there = ids.filter((id) => this.#model.has(id)).length;
    if (deleted !== there) throw new Error(`delete: ${deleted}, not ${there}`);
    this.#became(without(this.#model, ids), hand);
  }

  /** The tab with a worker of its own that begins anew; the second tab is another tab. */
  async #again(hand: Hand): Promise<void> {
    if (hand.tab !== window) {
      hand.tab.close();
      hand.tab = await anotherTab();
    }
    Object.assign(hand, await this.#open(hand.tab));
  }

  async #open(tab: Hand["tab"]): Promise<Hand> {
    const { open } = (await (tab as unknown as { load: () => Promise<unknown> }).load?.() ?? (await import(MODULE))) as typeof import("../../web/src/index.ts");
    const insitu = await open();
    return { tab, insitu, notes: await this.#collection(insitu) };
  }

  #collection(insitu: Insitu): Promise<Collection> {
    return insitu.collection(this.name, { fields: FIELDS });
  }

  #ids(most: number): string[] {
    const ids = [...new Set(Array.from({ length: most }, () => IDS[this.#chance(IDS.length)]!))];
    this.note(`    ids ${JSON.stringify(ids)}`);
    return ids;
  }

  #documents(most: number): NewDocument[] {
    const documents = this.#ids(most).map((id) => ({
      id,
      text: TEXTS[this.#chance(100) ? this.#chance(TEXTS.length - 1) : TEXTS.length - 1]!,
      fields: { tag: TAGS[this.#chance(3)]!, date: this.#chance(5) ? this.#chance(10) - 5 : null },
    }));
    this.note(`    drawn ${JSON.stringify(documents.map(({ text, fields }) => [text.slice(0, 20), fields]))}`);
    return documents;
  }

  /** What each text scores for each query, in a collection of its own. */
  async #learn(dim: number): Promise<void> {
    const [{ insitu }] = this.#hands as [Hand];
    const notes = await insitu.collection(`${this.name}, ${dim}`, { dim });
    for (const text of TEXTS) this.#passages.set(text, (await notes.put([{ id: text, text }])).passages);
    const scores: Scores = new Map();
    for (const query of QUERIES) {
      const hits = await notes.search(query, { k: 100 });
      scores.set(query, new Map(hits.map(({ id, text, score }) => [id, [text, score!]])));
    }
    this.#scores.set(dim, scores);
  }

  // --- what is there ---------------------------------------------------------------------------------------------

  #became(model: Model, writer: Hand | undefined): void {
    const now = performance.now();
    this.#past = [...this.#past.filter(([until]) => now - until < 2 * SEEN), [now, this.#model]];
    [this.#model, this.#writer, this.#wrote] = [model, writer, now];
  }

  /** Find out which of some states it has come to; `before`: what may still be seen in this tab, for a second. */
  async #settle(hand: Hand, possible: Model[], before: Model[]): Promise<void> {
    const end = performance.now() + SEEN + 50;
    for (;;) {
      const late = performance.now() > end;
      const [found, model] = await this.#state(hand.notes, possible);
      if (model && (late || !before.some((one) => same(found, list(one))))) return this.#became(model, undefined);
      if (late) throw this.#strange(found, possible);
      await wait(10);
    }
  }

  /** What is listed, and which of some states that is. */
  async #state(notes: Collection, possible: Model[]): Promise<[unknown[], Model | undefined]> {
    const found = listed(await notes.search(null, { k: 100, where: {} }));
    return [found, possible.find((one) => same(found, list(one)))];
  }

  #strange(found: unknown[], possible: Model[]): Error {
    const wanted = possible.map((one) => JSON.stringify(list(one))).join(" or ");
    return new Error(`listed: ${JSON.stringify(found)}, not ${wanted}`);
  }

  /** Ask something. It must be true of now, or, in a tab that did not write last, of a moment less than a second ago. */
  async #look(hand: Hand): Promise<void> {
    const known = { dim: this.#dim, scores: this.#scores.get(this.#dim)!, passages: this.#passages };
    const [say, ask, wanted] = question(this.#chance, known);
    const mine = hand === this.#writer;
    for (;;) {
      const start = performance.now();
      const held = (await hand.notes.stats()).held > 0;
      const found = JSON.stringify(await ask(hand.notes));
      if (found === JSON.stringify(wanted(this.#model))) return void (this.#fromMemory += Number(held));
      const past = this.#past.filter(([until]) => start - until < SEEN + 50).map(([, model]) => model);
      if (mine || start - this.#wrote > SEEN + 50 || !past.some((model) => found === JSON.stringify(wanted(model)))) {
        const late = `${(start - this.#wrote).toFixed()} ms after the last write`;
        throw new Error(`${say}, ${mine ? "the writer" : late}: ${found}, not ${JSON.stringify(wanted(this.#model))}`);
      }
      await wait(5);
    }
  }
}

const MODULE = "/insitu/insitu.js";

/** A tab whose `load()` imports the page's module there, so that the worker is its own. */
async function anotherTab(): Promise<Window & typeof globalThis> {
  const tab = window.open("/empty.html") as Window & typeof globalThis;
  while (tab.location.href === "about:blank" || tab.document.readyState !== "complete") await wait(10);
  const script = tab.document.createElement("script");
  script.textContent = `globalThis.load = () => import("${MODULE}");`;
  tab.document.head.append(script);
  return tab;
}
