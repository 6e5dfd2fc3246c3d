// The word index of a collection in the page, with MiniSearch. A script of its own: only who asks for words loads it.
//
// The web half of `insitu.collection.words.WordIndex`. Terms are made in Python; here they are only counted.

import MiniSearch, { type Options } from "minisearch";

/** A passage has the number of its document times this, plus its position, as in insitu/collection/folder_words.py. */
const POSITIONS = 2 ** 20;
/** It is kept when so many documents are new, and so large a share of all: to make a smaller one anew takes no time. */
const KEPT_LEAST = 1000;
const KEPT_SHARE = 1 / 8;
/** Milliseconds without a change until it is written: that holds the worker for a while. */
const QUIET = 2000;

interface Passage {
  id: number;
  terms: string;
}

/** An index as the database keeps it. `documents`: number and passages of each; `data`: MiniSearch's JSON, gzipped. */
export interface Kept {
  version: number;
  documents: [number: number, passages: number][];
  data: Blob;
}

/** Where an index is kept. What fails there costs time and nothing else: the index is made of the texts. */
export interface Place {
  keptWords(): Promise<Kept | undefined>;
  keepWords(kept: Kept): Promise<void>;
}

const OPTIONS: Options<Passage> = {
  fields: ["terms"],
  tokenize: (terms) => terms.split(" "),
  processTerm: (term) => term,
  // The BM25 of SQLite's FTS5, which answers in CPython.
  searchOptions: { bm25: { k: 1.2, b: 0.75, d: 0 } },
};

class Postings extends MiniSearch<Passage> {
  /** How many passages hold a term. */
  count(term: string): number {
    return this._index.get(term)?.get(this._fieldIds.terms!)?.size ?? 0;
  }
}

export class WordIndex {
  #documents = new Map<number, number>();
  #index = new Postings(OPTIONS);
  /** Documents that are not kept yet. */
  #fresh = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  private constructor(
    private readonly place: Place,
    private readonly version: number,
  ) {}

  /** The index that was kept, or an empty one. `version`: of the terms. */
  static async open(place: Place, version: number): Promise<WordIndex> {
    const opened = new WordIndex(place, version);
    try {
      const kept = await place.keptWords();
      if (kept?.version === version) {
        const json = await new Response(kept.data.stream().pipeThrough(new DecompressionStream("gzip"))).text();
        // It makes a MiniSearch, whatever class it is asked of.
        opened.#index = Object.setPrototypeOf(await MiniSearch.loadJSONAsync(json, OPTIONS), Postings.prototype);
        opened.#documents = new Map(kept.documents);
      }
    } catch (error) {
      console.info(`insitu: the word index is made anew (${(error as Error).message})`);
    }
    return opened;
  }

  numbers(): Uint32Array {
    return Uint32Array.from(this.#documents.keys());
  }

  /** `documents`: a JSON array of [number, terms of each passage]. */
  add(documents: string): void {
    for (const [number, passages] of JSON.parse(documents) as [number, string[]][]) {
      if (this.#documents.has(number)) continue;
      this.#index.addAll(passages.map((terms, at) => ({ id: number * POSITIONS + at, terms })));
      this.#documents.set(number, passages.length);
      this.#fresh += 1;
    }
    clearTimeout(this.#timer);
    if (this.#fresh >= Math.max(KEPT_LEAST, KEPT_SHARE * this.#documents.size)) {
      this.#timer = setTimeout(() => void this.#keep(), QUIET);
    }
  }

  remove(numbers: Uint32Array): void {
    for (const number of numbers) {
      const ids = Array.from({ length: this.#documents.get(number) ?? 0 }, (_, at) => number * POSITIONS + at);
      this.#index.discardAll(ids);
      this.#documents.delete(number);
    }
  }

  count(terms: string): Uint32Array {
    return Uint32Array.from(terms.split(" "), (term) => this.#index.count(term));
  }

  /** Number and position of the `k` best passages, one pair after another. */
  find(terms: string, k: number, among?: Uint32Array): Float64Array {
    const allowed = among && new Set(among);
    const filter = ({ id }: { id: number }): boolean => !allowed || allowed.has(Math.floor(id / POSITIONS));
    const found = this.#index.search(terms, { filter }).map(({ id, score, queryTerms }) => ({
      id: id as number,
      // MiniSearch multiplies BM25 by the number of terms that a passage has. The order that fusion takes is BM25's.
      score: score / queryTerms.length,
    }));
    found.sort((a, b) => b.score - a.score || a.id - b.id);
    return Float64Array.from(found.slice(0, k).flatMap(({ id }) => [Math.floor(id / POSITIONS), id % POSITIONS]));
  }

  async #keep(): Promise<void> {
    try {
      const documents = [...this.#documents];
      const json = new Blob([JSON.stringify(this.#index)]);
      this.#fresh = 0;
      const data = await new Response(json.stream().pipeThrough(new CompressionStream("gzip"))).blob();
      await this.place.keepWords({ version: this.version, documents, data });
    } catch (error) {
      console.info(`insitu: the word index is not kept (${(error as Error).message})`);
    }
  }
}
