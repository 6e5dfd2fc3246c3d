// The database of a collection: opening, transactions, errors by name. The only module that touches IndexedDB.

import { openDB, type DBSchema, type IDBPDatabase, type IDBPTransaction } from "idb";
import { InsituError } from "./errors.ts";
import type { Segment } from "./segments.ts";

const VERSION = 1;

/** See `insitu.collection.store.Meta`. */
export interface Meta {
  version: number;
  dim: number;
  full: number;
  fields: Record<string, string>;
  epoch: number;
  revision: number;
  rows: number;
  dead: number;
  next: number;
  changes: number;
  documents: number;
  bytes: number;
  segments: [first: number, count: number][];
}

export interface Document {
  number: number;
  hash: string;
  rows: number;
  size: number;
  fields: Record<string, unknown>;
}

/** `hash` and `fields` are those of the document: an answer is one read. `full`: codes for rescoring of the document's passages, in the layout of a shard. */
export interface Text {
  id: string;
  title: string;
  text: string;
  cuts: number[];
  hash: string;
  fields: Record<string, unknown>;
  full: ArrayBuffer;
}

interface Schema extends DBSchema {
  meta: { key: "meta"; value: Meta };
  segments: { key: number; value: Segment };
  dead: { key: number; value: Uint32Array };
  documents: { key: string; value: Document };
  texts: { key: number; value: Text };
}
export const STORES = ["meta", "segments", "dead", "documents", "texts"] as const;
export type Write = IDBPTransaction<Schema, typeof STORES, "readwrite">;

type Name = (typeof STORES)[number];

export class Database {
  #db: IDBPDatabase<Schema> | undefined;
  #opening: Promise<IDBPDatabase<Schema>> | undefined;

  /** `onLost`: the database was closed, to be opened again when it is needed; others may have written meanwhile. */
  constructor(
    private readonly name: string,
    private readonly onLost: () => void,
  ) {}

  async open(): Promise<IDBPDatabase<Schema>> {
    if (this.#db) return this.#db;
    this.#opening ??= openDB<Schema>(this.name, VERSION, {
      upgrade(db) {
        for (const store of STORES) db.createObjectStore(store);
      },
      // A newer release in another tab wants to change the database: it must not wait for us. We open it again when we
      // need it, and are told then if we are too old.
      blocking: () => this.#forget(),
      terminated: () => this.#forget(),
    });
    try {
      this.#db = await this.#opening;
      return this.#db;
    } catch (error) {
      throw named(error);
    } finally {
      this.#opening = undefined;
    }
  }

  close(): void {
    this.#db?.close();
    this.#db = undefined;
  }

  #forget(): void {
    this.close();
    this.onLost();
  }

  async read<S extends Name, T>(
    stores: S[],
    work: (tx: IDBPTransaction<Schema, S[], "readonly">) => Promise<T>,
  ): Promise<T> {
    try {
      const tx = (await this.open()).transaction(stores, "readonly");
      tx.done.catch(() => undefined); // the request that failed says why
      return await work(tx);
    } catch (error) {
      throw named(error);
    }
  }

  /** `work` gives the new record, and what the call returns. It happens as a whole or not at all. */
  async write<T>(work: (tx: Write, meta: Meta | undefined) => Promise<[Meta, T]>): Promise<T> {
    let tx: Write | undefined;
    try {
      // Strict: acknowledged is what has reached the disk.
      tx = (await this.open()).transaction(STORES, "readwrite", { durability: "strict" });
      tx.done.catch(() => undefined);
      const old = await tx.objectStore("meta").get("meta");
      const [meta, value] = await work(tx, old);
      await tx.objectStore("meta").put(meta, "meta");
      await tx.done;
      return value;
    } catch (error) {
      try {
        tx?.abort();
      } catch {
        // it has ended
      }
      // A full disk shows as the reason of the transaction's end; its requests only say that it ended.
      const reason = tx && (await tx.done.catch((end: unknown) => end));
      throw named(isAbort(error) && reason ? reason : error);
    }
  }
}

/** Remove a database, whenever nobody has it open any more. */
export function dropDatabase(name: string): void {
  indexedDB.deleteDatabase(name);
}

/** Keys above `key`. */
export function above(key: number): IDBKeyRange {
  return IDBKeyRange.lowerBound(key, true);
}

function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}

/** What IndexedDB throws, by our names. */
function named(error: unknown): unknown {
  if (!(error instanceof DOMException)) return error;
  const cause = `${error.name}: ${error.message}`;
  switch (error.name) {
    case "QuotaExceededError":
      return new InsituError("disk-full", "The browser has no more space for this site. What was stored is whole.");
    case "VersionError":
      return new InsituError(
        "collection-version",
        "The collection was written by a newer release. Load the page again to get it.",
      );
    case "UnknownError":
    case "SecurityError":
    case "InvalidStateError":
    case "AbortError":
      return new InsituError("storage-unavailable", `The browser does not keep collections here (${cause}).`);
    default:
      return error;
  }
}
