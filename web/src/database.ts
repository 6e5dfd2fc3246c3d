// The database of a collection: opening, transactions, errors by name. The only module that touches IndexedDB.

import { openDB, type DBSchema, type IDBPDatabase, type IDBPObjectStore, type IDBPTransaction } from "idb";
import { InsituError } from "./errors.ts";
import type { Segment } from "./segments.ts";
import type { Kept } from "./words.ts";

/** 2: entries and texts in blocks, and room for a content that is made while another one answers. */
const VERSION = 2;

/** See `insitu.collection.store.Meta`. `side`: where the content lies; Python does not know of it. */
export interface Meta {
  version: number;
  space: string;
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
  side?: Side;
}

/** Of the documents of one segment, in order: what a put asks, and what filters are made of. `fields` are columns. */
export interface Entries {
  ids: string[];
  numbers: Uint32Array;
  hashes: string[];
  fields: Record<string, unknown[]>;
}

/** A document: what an answer needs. `full`: codes for rescoring of its passages, in the layout of a shard. */
export interface Text {
  id: string;
  title: string;
  text: string;
  cuts: number[];
  hash: string;
  size: number;
  fields: Record<string, unknown>;
  full: ArrayBuffer;
}

/** One of two sets of stores: one holds what answers, the other what will take its place. */
export type Side = "" | " 2";
const PARTS = ["segments", "dead", "entries", "texts"] as const;
export type Part = (typeof PARTS)[number];

interface Content {
  segments: { key: number; value: Segment };
  dead: { key: number; value: Uint32Array };
  entries: { key: number; value: Entries };
  /** A block of documents under their numbers' common key, or one long document under its negative number. */
  texts: { key: number; value: Block | Text };
}
/** 16 places; `null`: this one is long, and kept apart. */
export type Block = (Text | null | undefined)[];
interface Schema extends DBSchema, Content {
  /** What answers. */
  meta: { key: "meta"; value: Meta };
  /** What is made beside it. A store of its own, so that nobody who reads waits for who makes it. */
  next: { key: "meta"; value: Meta };
  /** The word index, for the next opening. No commit knows of it. */
  words: { key: "index"; value: Kept };
}
type Store = "meta" | "next" | Part;
const STORES = ["meta", "next", ...PARTS, ...PARTS.map((part) => `${part} 2`)] as Store[];

/** The stores of one side in a transaction. */
export class Stores<Mode extends IDBTransactionMode = "readonly" | "readwrite"> {
  constructor(
    readonly tx: IDBPTransaction<Schema, Store[], Mode>,
    readonly side: Side,
  ) {}

  get<P extends Part>(part: P): IDBPObjectStore<Schema, Store[], P, Mode> {
    // Both sides are alike.
    return this.tx.objectStore((part + this.side) as P);
  }
}
export type Write = Stores<"readwrite">;

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
        for (const store of [...STORES, "words" as const]) db.createObjectStore(store);
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

  async keptWords(): Promise<Kept | undefined> {
    return (await this.open()).get("words", "index");
  }

  async keepWords(kept: Kept): Promise<void> {
    await (await this.open()).put("words", kept, "index");
  }

  /**
   * `side`: where the content was last. `work` is told where it is now, in its record; it may have moved. What it asks for before
   * it waits for the record comes together with it.
   */
  async read<T>(
    parts: Part[],
    side: Side,
    work: (stores: Stores<"readonly">, meta: Promise<Meta | undefined>) => Promise<T>,
  ): Promise<T> {
    try {
      const tx = (await this.open()).transaction(["meta", ...on(side, parts)], "readonly");
      tx.done.catch(() => undefined); // the request that failed says why
      const meta = tx.objectStore("meta").get("meta");
      meta.catch(() => undefined); // who waits for it is told
      return await work(new Stores(tx, side), meta);
    } catch (error) {
      throw named(error);
    }
  }

  /** Change what is at `side`, with its record in `which`. `work` gives the new record, and what the call returns. */
  async write<T>(
    which: "meta" | "next",
    side: Side,
    work: (stores: Write, meta: Meta | undefined) => Promise<[Meta, T]>,
  ): Promise<T> {
    return this.#change([which, ...on(side, [...PARTS])], async (tx) => {
      const old = await tx.objectStore(which).get("meta");
      const [meta, value] = await work(new Stores(tx, side), old);
      await tx.objectStore(which).put(meta, "meta");
      return value;
    });
  }

  /** Change both sides. `work` gives the new records (none for none), and what the call returns. */
  async writeBoth<T>(
    work: (
      tx: (side: Side) => Write,
      meta: Meta | undefined,
      next: Meta | undefined,
    ) => Promise<[Meta | undefined, Meta | undefined, T]>,
  ): Promise<T> {
    return this.#change(STORES, async (tx) => {
      const [meta, next] = [tx.objectStore("meta"), tx.objectStore("next")];
      const given = await work((side) => new Stores(tx, side), await meta.get("meta"), await next.get("meta"));
      if (given[0]) await meta.put(given[0], "meta");
      await (given[1] ? next.put(given[1], "meta") : next.delete("meta"));
      return given[2];
    });
  }

  /** One transaction: it happens as a whole or not at all. */
  async #change<T>(
    stores: Store[],
    work: (tx: IDBPTransaction<Schema, Store[], "readwrite">) => Promise<T>,
  ): Promise<T> {
    let tx: IDBPTransaction<Schema, Store[], "readwrite"> | undefined;
    try {
      // Strict: acknowledged is what has reached the disk.
      tx = (await this.open()).transaction(stores, "readwrite", { durability: "strict" });
      tx.done.catch(() => undefined);
      const value = await work(tx);
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

function on(side: Side, parts: Part[]): Store[] {
  return parts.map((part) => (part + side) as Part);
}

/** All of one side goes. */
export async function clear(stores: Write): Promise<void> {
  await Promise.all(PARTS.map((part) => stores.get(part).clear()));
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
