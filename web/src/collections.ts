// The page's face of a collection. What a document, a filter or an answer is, Python decides.

import type { CallOptions, Client } from "./client.ts";
import type { Collection, CollectionOptions, CollectionStats, ExportOptions, PutResult } from "./collection_types.ts";
import { InsituError } from "./errors.ts";
import type { CollectionArgs } from "./protocol.ts";

/** Replace the collection `name` by an export. The whole file is checked before anything is replaced. */
export async function importCollection(
  client: Client,
  name: string,
  file: Blob,
  { passphrase, signal, onProgress }: ExportOptions,
  start: Start,
): Promise<Collection> {
  checkName(name);
  // By its tag: a Blob of a frame or another window is of no class of this one.
  if (!["Blob", "File"].includes(Object(file)[Symbol.toStringTag])) {
    throw new InsituError("invalid-argument", "import() takes a name and a Blob or File.");
  }
  await client.call("import", { name, file, passphrase: checkPassphrase(passphrase) }, { signal, onProgress });
  return openCollection(client, name, {}, start);
}

/** Start a worker with another model. */
export type Start = (model: string | URL, signal: AbortSignal | undefined) => Promise<Client>;

/** Codes: `invalid-argument`, `space-mismatch`, `collection-version`, `collection-corrupt`, `storage-unavailable`. */
export async function openCollection(
  opened: Client,
  name: string,
  { signal, onProgress, ...options }: CollectionOptions,
  start: Start,
): Promise<Collection> {
  checkName(name);
  /** Whose model made the vectors. */
  let client = opened;
  /** While another one embeds them anew. */
  let moving: Promise<void> | undefined;
  /** How often that is done: the answer to what was asked before may come after. */
  let moves = 0;
  /** What comes too late for the old vectors is asked of the new ones. */
  const steady = async <T>(ask: () => Promise<T>): Promise<T> => {
    const before = moves;
    try {
      return await ask();
    } catch (error) {
      if ((error as InsituError).code !== "space-mismatch" || (!moving && moves === before)) throw error;
      await moving?.catch(() => undefined);
      return ask();
    }
  };
  const ask = async <T>(of: Client, act: CollectionArgs["act"], given: object, more: CallOptions): Promise<T> =>
    JSON.parse(await of.call("collection", { name, act, given: pack(given) }, more)) as T;
  const call = <T>(act: CollectionArgs["act"], given: object, more: CallOptions = {}): Promise<T> =>
    steady(() => ask<T>(client, act, given, more));
  /** After a commit, while nobody waits. What goes wrong is tried again after the next. */
  const tidy = (): void => void call("tidy", {}).catch(() => undefined);
  const { made } = await call<{ made: boolean }>("open", options, { signal, onProgress });
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
    search: (query, { k = 10, where, words, exact, signal } = {}) =>
      call("search", { query, k, where, words, exact }, { signal }),
    stats: async () => ({ ...(await call<CollectionStats>("stats", {})), evicted }),
    export: async ({ passphrase, signal, onProgress } = {}) =>
      steady(() => client.call("export", { name, passphrase: checkPassphrase(passphrase) }, { signal, onProgress })),
    async reembed({ model, dim, rescore, signal, onProgress } = {}) {
      const move = async (): Promise<void> => {
        const next = model === undefined ? client : await start(model, signal);
        try {
          await ask(next, "open", { dim, rescore, reembed: true }, { signal, onProgress });
        } catch (error) {
          if (next !== client) next.close();
          throw error;
        }
        if (![opened, next].includes(client)) client.close(); // it was started by an earlier call
        client = next;
        moves += 1;
        tidy();
      };
      if (moving) throw new InsituError("invalid-argument", "reembed() runs already. Wait for it, or abort it.");
      moving = move();
      try {
        await moving;
      } finally {
        moving = undefined;
      }
    },
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
