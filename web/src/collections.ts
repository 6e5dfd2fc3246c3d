// The page's face of a collection. What a document, a filter or an answer is, Python decides; here are names and types.

import type { CallOptions, Client } from "./client.ts";
import { InsituError } from "./errors.ts";
import type { CollectionArgs } from "./protocol.ts";

export type FieldKind = "keyword" | "number";
export type FieldValue = string | number | null;

export interface CollectionOptions {
  /** The fields that documents may have. New ones may be added when the collection is opened again. */
  fields?: Record<string, FieldKind>;
  /** Components of the vectors that are scanned. Default: 128. Cannot be changed later. */
  dim?: number;
  /** Keep codes at the model's full size too (`true`, or that size), and let these order the best. Default: false. */
  rescore?: boolean | number;
  signal?: AbortSignal;
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
  /** Components of the codes for rescoring; 0: none. */
  rescore: number;
  fields: Record<string, FieldKind>;
  revision: number;
  place: string;
  /** Of the whole site, as the browser tells it, in bytes. */
  usage?: number;
  quota?: number;
  /** Whether the browser promised not to remove it when space is short. */
  persisted: boolean;
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
  /** The `k` best documents (1 to 1,000, default 10), each with its best passage. Without a query: those put last first. */
  search(
    query?: string | null,
    options?: { k?: number; where?: Where; signal?: AbortSignal },
  ): Promise<CollectionHit[]>;
  stats(): Promise<CollectionStats>;
  /** All of it as one file, sealed if a passphrase is given. Other tabs wait with what they write until it is made. */
  export(options?: ExportOptions): Promise<Blob>;
}

export interface ExportOptions {
  /** Encrypts the file. Who forgets it cannot read the file any more; nor can anybody else. */
  passphrase?: string;
  signal?: AbortSignal;
  /** (documents done, in all). */
  onProgress?: (done: number, total: number) => void;
}

/** Replace the collection `name` by an export. The whole file is checked before anything is replaced. */
export async function importCollection(
  client: Client,
  name: string,
  file: Blob,
  { passphrase, signal, onProgress }: ExportOptions,
): Promise<Collection> {
  checkName(name);
  if (!(file instanceof Blob)) throw new InsituError("invalid-argument", "import() takes a name and a Blob or File.");
  await client.call("import", { name, file, passphrase: checkPassphrase(passphrase) }, { signal, onProgress });
  return openCollection(client, name, {});
}

/** Codes: `invalid-argument`, `space-mismatch`, `collection-version`, `collection-corrupt`, `storage-unavailable`. */
export async function openCollection(
  client: Client,
  name: string,
  { signal, ...options }: CollectionOptions,
): Promise<Collection> {
  checkName(name);
  const call = async <T>(act: CollectionArgs["act"], given: object, more: CallOptions = {}): Promise<T> =>
    JSON.parse(await client.call("collection", { name, act, given: pack(given) }, more)) as T;
  /** After a commit, while nobody waits. What goes wrong is tried again after the next. */
  const tidy = (): void => void call("tidy", {}).catch(() => undefined);
  const { made } = await call<{ made: boolean }>("open", options, { signal });
  const mark = new Mark(name);
  const evicted = made && mark.there;
  let asked = false;
  return {
    name,
    async put(documents, { signal, onProgress } = {}) {
      if (!asked) {
        // The first time that there is something to lose. Some browsers ask the visitor.
        asked = true;
        void navigator.storage?.persist?.().catch(() => undefined);
      }
      const done = await call<PutResult>("put", { documents }, { signal, onProgress });
      mark.set();
      tidy();
      return done;
    },
    async delete(ids) {
      const gone = await call<number>("delete", { ids });
      if (gone) tidy();
      return gone;
    },
    search: (query, { k = 10, where, signal } = {}) => call("search", { query, k, where }, { signal }),
    stats: async () => ({ ...(await call<CollectionStats>("stats", {})), evicted }),
    export: async ({ passphrase, signal, onProgress } = {}) =>
      client.call("export", { name, passphrase: checkPassphrase(passphrase) }, { signal, onProgress }),
  };
}

/** That documents were stored, kept where browsers leave it when they remove large things to make room. */
class Mark {
  readonly #key: string;

  constructor(name: string) {
    this.#key = `insitu collection ${name}`;
  }

  get there(): boolean {
    try {
      return localStorage.getItem(this.#key) !== null;
    } catch {
      return false; // the visitor allows no storage
    }
  }

  set(): void {
    try {
      localStorage.setItem(this.#key, "stored");
    } catch {
      // then an eviction is not recognised
    }
  }
}

function checkName(name: string): void {
  if (typeof name !== "string" || !name) {
    throw new InsituError("invalid-argument", "A collection has a name, a string that is not empty.");
  }
}

function checkPassphrase(passphrase: string | undefined): string | undefined {
  if (passphrase !== undefined && (typeof passphrase !== "string" || !passphrase)) {
    throw new InsituError("invalid-argument", "The passphrase is no string, or an empty one. Leave it out for none.");
  }
  return passphrase;
}

/** JSON in which a number that JSON lacks does not become null: Python is to refuse it, not to take it for "no value". */
function pack(given: object): string {
  try {
    return JSON.stringify(given, (_, value: unknown) => {
      const lost = (typeof value === "number" && !Number.isFinite(value)) || typeof value === "bigint";
      return lost ? String(value) : value;
    });
  } catch (error) {
    throw new InsituError("invalid-document", `What was given cannot be written as JSON: ${(error as Error).message}`);
  }
}
