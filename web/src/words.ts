// The word index of a collection in the page, with MiniSearch. A script of its own: only who asks for words loads it.
//
// The web half of `insitu.collection.words.WordIndex`. Terms are made in Python; here they are only counted.

import MiniSearch from "minisearch";

/** A passage has the number of its document times this, plus its position, as in insitu/collection/folder_words.py. */
const POSITIONS = 2 ** 20;

interface Passage {
  id: number;
  terms: string;
}

class Postings extends MiniSearch<Passage> {
  /** How many passages hold a term. */
  count(term: string): number {
    return this._index.get(term)?.get(this._fieldIds.terms!)?.size ?? 0;
  }
}

export class WordIndex {
  /** How many passages each document has. */
  #documents = new Map<number, number>();
  #index = new Postings({
    fields: ["terms"],
    tokenize: (terms) => terms.split(" "),
    processTerm: (term) => term,
    // The BM25 of SQLite's FTS5, which answers in CPython.
    searchOptions: { bm25: { k: 1.2, b: 0.75, d: 0 } },
  });

  numbers(): Uint32Array {
    return Uint32Array.from(this.#documents.keys());
  }

  /** `documents`: a JSON array of [number, terms of each passage]. */
  add(documents: string): void {
    for (const [number, passages] of JSON.parse(documents) as [number, string[]][]) {
      if (this.#documents.has(number)) continue;
      this.#index.addAll(passages.map((terms, at) => ({ id: number * POSITIONS + at, terms })));
      this.#documents.set(number, passages.length);
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
}
