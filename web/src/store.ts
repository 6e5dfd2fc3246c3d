// Files in Cache Storage, by their SHA-256. The only module that touches Cache Storage.
//
// It is a cache: when it fails, or the disk is full, the page goes on without it and says why. Cache Storage wants addresses
// as keys, so they are made of our origin; nothing ever asks the network for them.

import { checksum } from "./checksum.ts";
import { dropDatabase } from "./database.ts";
import type { Bytes } from "./download.ts";

/** An index that was not opened for so long no longer keeps its files, in milliseconds. */
const FORGOTTEN = 90 * 24 * 3600 * 1000;

export interface Piece {
  bytes: Bytes;
  /** What was put with it: of a piece of a file, the strong ETag of its response, empty if it had none. */
  note: string;
}

export class Store {
  /** Files found whole and right; files that the network had to give. */
  hits = 0;
  misses = 0;
  /** Why the store is not used; empty while it works. */
  reason = "";
  #cache: Cache | undefined;

  private constructor() {}

  /** `insitu-files`: of indexes and models; `insitu-python`: the interpreter's snapshot. One of each for an origin. */
  static async open(name: "insitu-files" | "insitu-python"): Promise<Store> {
    const store = new Store();
    try {
      if (!("caches" in globalThis)) throw new Error("Cache Storage needs https or localhost");
      store.#cache = await caches.open(name);
    } catch (error) {
      store.#fail(error);
    }
    return store;
  }

  get works(): boolean {
    return this.#cache !== undefined;
  }

  /** What is stored under `key` (the SHA-256 of a file, a slash, the name of a piece) if it is as it was put. */
  async get(key: string): Promise<Piece | undefined> {
    try {
      const found = await this.#cache?.match(address(key));
      if (!found) return undefined;
      const bytes = new Uint8Array(await found.arrayBuffer());
      if (checksum(bytes) !== found.headers.get(SUM)) return undefined;
      return { bytes, note: found.headers.get(NOTE) ?? "" };
    } catch (error) {
      return this.#fail(error);
    }
  }

  /** What is stored, with its key, if it is one thing: for a store whose key is not known yet. */
  async only(): Promise<{ key: string; piece: Piece } | undefined> {
    try {
      const [request, second] = (await this.#cache?.keys()) ?? [];
      if (!request || second) return undefined;
      const key = new URL(request.url).pathname.slice(ROOT.length);
      const piece = await this.get(key);
      return piece && { key, piece };
    } catch (error) {
      return this.#fail(error);
    }
  }

  async has(key: string): Promise<boolean> {
    try {
      return (await this.#cache?.match(address(key))) !== undefined;
    } catch (error) {
      this.#fail(error);
      return false;
    }
  }

  async put(key: string, bytes: Bytes, note = ""): Promise<void> {
    try {
      await this.#cache?.put(address(key), new Response(bytes, { headers: { [NOTE]: note, [SUM]: checksum(bytes) } }));
    } catch (error) {
      this.#fail(error);
    }
  }

  async remove(key: string): Promise<void> {
    await this.#dropAll((_, url) => url === address(key));
  }

  /** Drop all pieces of a file. */
  async drop(sha256: string): Promise<void> {
    await this.#dropAll((name) => name === sha256);
  }

  /** Drop everything else. */
  async keepOnly(key: string): Promise<void> {
    await this.#dropAll((_, url) => url !== address(key));
  }

  /** `owner` (the address of an index or a model) needs these files: no other owner's `sweep` drops them. */
  async claim(owner: string, files: ReadonlySet<string>): Promise<void> {
    const list = new TextEncoder().encode(JSON.stringify({ at: Date.now(), files: [...files] }));
    await this.put(`${CLAIMS}/${encodeURIComponent(owner)}`, list);
  }

  /** Drop each file that nobody claims any more, and the database where the first release kept those of `owner`. */
  async sweep(owner: string): Promise<void> {
    try {
      dropDatabase(`insitu ${owner}`);
      const wanted = new Set([CLAIMS, DEVICE]);
      for (const request of (await this.#cache?.keys()) ?? []) {
        if (fileOf(request) !== CLAIMS) continue;
        const claim = (await (await this.#cache!.match(request))?.json()) as
          { at: number; files: string[] } | undefined;
        if (claim && Date.now() - claim.at < FORGOTTEN) claim.files.forEach((file) => wanted.add(file));
        else await this.#cache!.delete(request);
      }
      await this.#dropAll((name) => !wanted.has(name));
    } catch (error) {
      this.#fail(error);
    }
  }

  async #dropAll(unwanted: (sha256: string, url: string) => boolean): Promise<void> {
    try {
      for (const request of (await this.#cache?.keys()) ?? []) {
        if (unwanted(fileOf(request), request.url)) await this.#cache?.delete(request);
      }
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(error: unknown): undefined {
    this.reason ||= error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    this.#cache = undefined;
  }
}

const SUM = "x-insitu-sum";
const NOTE = "x-insitu-note";
const ROOT = "/insitu-files/";
const CLAIMS = "claims";
/** What was measured of the device: no file, kept whoever comes and goes. */
export const DEVICE = "device";

function address(key: string): string {
  return new URL(ROOT + key, location.origin).href;
}

function fileOf(request: Request): string {
  return new URL(request.url).pathname.slice(ROOT.length).split("/", 1)[0]!;
}
