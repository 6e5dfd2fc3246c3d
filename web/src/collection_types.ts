// What a page says to a collection and hears of it. Types only.

import type { Stats } from "./protocol.ts";

export type FieldKind = "keyword" | "number";
export type FieldValue = string | number | null;

export interface CollectionOptions {
  /** The fields that documents may have. New ones may be added when the collection is opened again. */
  fields?: Record<string, FieldKind>;
  /**
   * Components of the vectors that are scanned. Changed by `reembed` only. `auto`: when the collection is made, the largest of
   * the model's sizes that suits the device; later what the collection has. Default: 128.
   */
  dim?: number | "auto";
  /** Keep codes at the model's full size too (`true`, or that size), and let these order the best. Default: false. */
  rescore?: boolean | number;
  /** If the vectors are of another model, or of another `dim` or `rescore`, embed all texts anew first. See `reembed`. */
  reembed?: boolean;
  signal?: AbortSignal;
  /** Of embedding anew: (documents done, in all). */
  onProgress?: (done: number, total: number) => void;
}

export interface NewDocument {
  /** Any string. A document whose id is there already is replaced. */
  id: string;
  text: string;
  title?: string;
  fields?: Record<string, FieldValue>;
}

export interface Operators {
  eq?: FieldValue;
  ne?: FieldValue;
  in?: FieldValue[];
  gt?: string | number;
  gte?: string | number;
  lt?: string | number;
  lte?: string | number;
}

/** `{field: value}` or `{field: {gte: 1, lt: 5}}`; several names must all hold; `and`, `or` and `not` take filters. */
export type Where = { and?: Where[]; or?: Where[]; not?: Where } | { [field: string]: FieldValue | Operators };

export interface CollectionSearchOptions {
  /** 1 to 1,000. Default: 10. */
  k?: number;
  /** Which documents to look at. Default: all. */
  where?: Where;
  /** What the words of the query weigh beside its meaning: 0 (meaning only) to 1 (words only). Default: 0. */
  words?: number;
  /** Compare all of a million and more vectors too, not those of the nearest clusters only. Default: false. */
  exact?: boolean;
  signal?: AbortSignal;
}

export interface CollectionHit {
  id: string;
  title: string;
  /** The passage that matched, as plain text; without a query all of the text. */
  text: string;
  /** Cosine of passage and query, -1 to 1; null without a query. */
  score: number | null;
  fields: Record<string, string | number>;
}

export interface PutResult {
  /** Documents whose text was embedded; those whose text was there already. */
  embedded: number;
  unchanged: number;
  passages: number;
}

export interface CollectionStats {
  documents: number;
  passages: number;
  /** Of vectors, texts, fields and codes for rescoring. */
  bytes: number;
  segments: number;
  /** Vectors of documents that are gone, until the next compaction. */
  dead: number;
  /** Documents whose vectors are damaged: put them again. `damaged`: the segments concerned. */
  missing: number;
  damaged: number[];
  space: string;
  dim: number;
  /** Why this size, if `dim: "auto"` chose it in this opening; else empty. */
  auto: string;
  /** Components of the codes for rescoring; 0: none. */
  rescore: number;
  fields: Record<string, FieldKind>;
  revision: number;
  /** Where the model of the collection runs. */
  device: Stats["device"];
  place: string;
  /** Of the whole site, as the browser tells it, in bytes. */
  usage?: number;
  quota?: number;
  /** Whether the browser promised not to remove it when space is short. */
  persisted: boolean;
  /** Bytes of texts that this page has in memory, so that a search need not read them; 0: not yet, or there are too many. */
  held: number;
  /** Whether this page once stored documents here, and the browser or the visitor has removed them since. */
  evicted: boolean;
}

/** Documents kept in this browser, found by meaning and by their fields. Errors are `InsituError`s with a `code`. */
export interface Collection {
  readonly name: string;
  /**
   * Add or replace documents. Up to 128 are one transaction; of more, what was stored before an error, an abort or a crash
   * stays, and putting all again goes on from there: a text that did not change is not embedded again.
   */
  put(
    documents: NewDocument[],
    options?: { signal?: AbortSignal; onProgress?: (done: number, total: number) => void },
  ): Promise<PutResult>;
  /** Take documents away, in one transaction; gives how many there were. */
  delete(ids: string[]): Promise<number>;
  /** The `k` best documents, each with its best passage. Without a query: those put last first. */
  search(query?: string | null, options?: CollectionSearchOptions): Promise<CollectionHit[]>;
  stats(): Promise<CollectionStats>;
  /** All of it as one file, sealed if a passphrase is given. Other tabs wait with what they write until it is made. */
  export(options?: ExportOptions): Promise<Blob>;
  /**
   * Have another model embed all texts anew, in the background: until that is complete the collection answers as before, then
   * one transaction changes over, with all that was put and deleted meanwhile. An abort leaves the collection as it was; what
   * was embedded until then is kept for the next call.
   */
  reembed(options?: ReembedOptions): Promise<void>;
}

export interface ReembedOptions {
  /** The URL of the model's `model.lock.json`. It runs in a worker of its own. Default: the model that is open. */
  model?: string | URL;
  /** Default: as the collection has them. */
  dim?: number;
  rescore?: boolean | number;
  signal?: AbortSignal;
  /** (documents done, in all). */
  onProgress?: (done: number, total: number) => void;
}

export interface ExportOptions {
  /** Encrypts the file. Who forgets it cannot read the file any more; nor can anybody else. */
  passphrase?: string;
  signal?: AbortSignal;
  /** (documents done, in all). */
  onProgress?: (done: number, total: number) => void;
}
