// Files in IndexedDB, by their SHA-256. The only module that touches IndexedDB.
//
// It is a cache: when it fails, or the disk is full, the page goes on without it and says why.

import { openDB, type IDBPDatabase } from "idb";

const FILES = "files";

export class Store {
  hits = 0;
  misses = 0;
  /** Why the store is not used; empty while it works. */
  reason = "";
  #db: IDBPDatabase | undefined;

  private constructor() {}

  /** The store named `name`: one for each index, so that two sites of one origin leave each other's files alone. */
  static async open(name: string): Promise<Store> {
    const store = new Store();
    try {
      store.#db = await openDB(name, 1, {
        upgrade: (db) => void db.createObjectStore(FILES),
        // Another tab wants to upgrade or delete the database: let it.
        blocking: () => store.#fail(new Error("another tab took the database")),
        terminated: () => store.#fail(new Error("the browser closed the database")),
      });
    } catch (error) {
      store.#fail(error);
    }
    return store;
  }

  get works(): boolean {
    return this.#db !== undefined;
  }

  async get(sha256: string): Promise<Uint8Array<ArrayBuffer> | undefined> {
    try {
      const value: unknown = await this.#db?.get(FILES, sha256);
      if (value instanceof ArrayBuffer) {
        this.hits++;
        return new Uint8Array(value);
      }
    } catch (error) {
      this.#fail(error);
    }
    this.misses++;
    return undefined;
  }

  /** Whether this file is stored. Transactions run in order, so a `put` before this call has ended. */
  async has(sha256: string): Promise<boolean> {
    try {
      return ((await this.#db?.count(FILES, sha256)) ?? 0) > 0;
    } catch (error) {
      this.#fail(error);
      return false;
    }
  }

  async put(sha256: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    try {
      const whole = bytes.length === bytes.buffer.byteLength ? bytes.buffer : bytes.slice().buffer;
      await this.#db?.put(FILES, whole, sha256);
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Drop every file but those in `wanted`. */
  async keep(wanted: ReadonlySet<string>): Promise<void> {
    try {
      for (const key of (await this.#db?.getAllKeys(FILES)) ?? []) {
        if (!wanted.has(key as string)) await this.#db?.delete(FILES, key);
      }
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(error: unknown): void {
    this.reason ||= error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    this.#db?.close();
    this.#db = undefined;
  }
}
