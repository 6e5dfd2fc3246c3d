/** Search by meaning, in the page. `open()` is where to start. */

import { Client } from "./client.ts";
import { importCollection, openCollection, type Start } from "./collections.ts";
import type { Collection, CollectionOptions, ExportOptions } from "./collection_types.ts";
import { InsituError } from "./errors.ts";
import { placeOf } from "./place.ts";
import type { Hit, Loading, OpenArgs, Part, Stats } from "./protocol.ts";

export { InsituError };
export type { Hit, Loading, Part, Stats };
export type {
  Collection,
  CollectionHit,
  CollectionOptions,
  CollectionSearchOptions,
  ReembedOptions,
  CollectionStats,
  ExportOptions,
  FieldKind,
  FieldValue,
  NewDocument,
  Operators,
  PutResult,
  Where,
} from "./collection_types.ts";

export interface OpenOptions {
  /** URL of the folder with the files of the build. Default: the folder of this module. */
  base?: string | URL;
  /**
   * The URL of each file of the build, by its name there, where they are not in one folder: a bundler gives them names of
   * its own. The npm package knows them, unless there is `base`.
   */
  files?: Record<string, string>;
  /** URL of an index entry. Default: `index.json` in `base`, unless `model` or `files` is given. */
  index?: string | URL;
  /** URL of a `model.lock.json`: another place of the index's model, or a model without an index. */
  model?: string | URL;
  /**
   * The variant of the model, of those that the index offers (`insitu index --ask q4`) or that lie beside `model`, in folders called
   * NAME-VARIANT. `auto`: with an index `q4`, the smallest, as the page asks only; with a `model` `int8`, the quickest to embed
   * with, or `q4` on WebGPU; where that one is not there, the usual one. `stats().variant` says which and why. Default: the one
   * that made the index, or that `model` names.
   */
  variant?: string;
  /** Threads of the model, at most. Default: half the processors, up to 4, where the page is cross-origin isolated; 1 where not. */
  threads?: number;
  /**
   * `webgpu` runs the model there if the browser can and two golden texts come out right; else, and when the device is lost,
   * it runs on WASM, and `stats().device` says why. Default: `wasm`.
   */
  device?: "wasm" | "webgpu";
  /**
   * What runs the model on WASM: insitu's own encoder, for the graphs that it knows, or `onnxruntime` (onnxruntime-web). Default:
   * `insitu`, and onnxruntime-web for all other graphs; `stats().device` says which and why.
   */
  engine?: "insitu" | "onnxruntime";
  /**
   * Token rows: `all` loads them before `open()` is done, `stream` as texts need them. Default: `all` for a small model, or
   * without an index; else `stream`, which tells the host of the model something about the questions (docs/offline.md).
   */
  rows?: "all" | "stream";
  /** Ends the opening; the worker ends with it. */
  signal?: AbortSignal;
  /** What is loaded, by part, in bytes. The texts of an index go on loading after `open()` is done. */
  onProgress?: (loading: Loading) => void;
  /** Milliseconds without any sign of life of the worker after which opening fails. Default: 120,000. */
  startTimeout?: number;
}

export interface EmbedOptions {
  /** `query`, `document` (default), `none`, or another task of the model. */
  task?: string;
  /**
   * Components of a vector, 1 to the model's full size. `auto`: those of the open index; without one, the largest of the
   * model's sizes that suits the device, which `stats().auto` tells. Default: the model's.
   */
  dim?: number | "auto";
  signal?: AbortSignal;
  /** Called with (texts done, texts in all) after each batch. */
  onProgress?: (done: number, total: number) => void;
}

export interface SearchOptions {
  /** How many hits at most. Default: 10. */
  k?: number;
  signal?: AbortSignal;
}

/** One unit vector for each text, in order. `truncated[i]`: text i was cut at the model's longest input. */
export type Embeddings = Float32Array[] & { readonly truncated: boolean[]; readonly dim: number };

/** An opened model, with an index or without. Errors are `InsituError`s with a `code`. */
export interface Insitu {
  /** Texts to unit vectors. Lone surrogates count as U+FFFD; an empty text is embedded as it is. */
  embed(texts: string[], options?: EmbedOptions): Promise<Embeddings>;
  /** The passages nearest to `query`, best first. */
  search(query: string, options?: SearchOptions): Promise<Hit[]>;
  /** Open the collection `name` of this site, made if it is not there: documents kept in this browser. */
  collection(name: string, options?: CollectionOptions): Promise<Collection>;
  /** Replace the collection `name` by an export of one, after the whole file was checked; it is made if it is not there. */
  import(name: string, file: Blob, options?: ExportOptions): Promise<Collection>;
  stats(): Promise<Stats>;
  /** Ends the worker. Calls under way end with the code `closed`. */
  close(): void;
}

/**
 * Start the worker and load Python, the ONNX runtime, the model and the index, side by side.
 *
 * Codes of its errors: `runtime-unavailable`, `fetch-failed`, `model-corrupt`, `index-not-found`, `index-corrupt`,
 * `index-version`, `space-mismatch`, `aborted`.
 */
export async function open(options: OpenOptions = {}): Promise<Insitu> {
  const base = folder(new URL(options.base ?? ".", options.base ? document.baseURI : import.meta.url));
  const at = (url: string | URL): string => new URL(url, document.baseURI).href;
  const args: OpenArgs = { base, clock: { origin: performance.timeOrigin, opened: performance.now() } };
  if (options.files)
    args.files = Object.fromEntries(Object.entries(options.files).map(([name, url]) => [name, at(url)]));
  if (options.model !== undefined) args.model = at(options.model);
  if (options.index !== undefined) args.index = at(options.index);
  else if (options.model === undefined) {
    if (options.files) throw new InsituError("invalid-argument", "open() needs the URL of a `model` or of an `index`.");
    args.index = new URL("index.json", base).href;
  }
  if (options.variant !== undefined) args.variant = options.variant;
  if (options.threads !== undefined) args.threads = options.threads;
  if (options.device !== undefined) args.device = options.device;
  if (!["wasm", "webgpu", undefined].includes(args.device)) {
    throw new InsituError("invalid-argument", `device: '${args.device}'. Choose 'wasm' or 'webgpu'.`);
  }
  if (options.engine !== undefined) args.engine = options.engine;
  if (!["insitu", "onnxruntime", undefined].includes(args.engine)) {
    throw new InsituError("invalid-argument", `engine: '${args.engine}'. Choose 'insitu' or 'onnxruntime'.`);
  }
  if (options.rows !== undefined) args.rows = options.rows;
  if (!["all", "stream", undefined].includes(args.rows)) {
    throw new InsituError("invalid-argument", `rows: '${args.rows}'. Choose 'all' or 'stream'.`);
  }

  const clients: Client[] = [];
  const start = async (
    given: OpenArgs,
    signal: AbortSignal | undefined,
    onProgress: OpenOptions["onProgress"],
  ): Promise<Client> => {
    const client = new Client(
      placeOf(base, args.files)("worker.js"),
      options.startTimeout ?? 120_000,
      onProgress ?? (() => undefined),
    );
    try {
      await client.call("open", given, { signal });
    } catch (error) {
      client.close();
      throw error;
    }
    client.started();
    clients.push(client);
    return client;
  };
  const client = await start(args, options.signal, options.onProgress);
  const { index: _, variant: __, ...bare } = args;
  const another: Start = (model, signal) => start({ ...bare, model: at(model) }, signal, undefined);

  return {
    async embed(texts, { task = "document", dim, signal, onProgress } = {}) {
      if (!Array.isArray(texts) || !texts.every((text) => typeof text === "string")) {
        throw new InsituError("invalid-argument", "embed() takes an array of strings; for one text write [text].");
      }
      const packed = await client.call("embed", { texts, task, dim }, { signal, onProgress });
      const vectors = texts.map((_, i) => packed.vectors.slice(i * packed.dim, (i + 1) * packed.dim));
      return Object.assign(vectors, { truncated: packed.truncated, dim: packed.dim });
    },
    async search(query, { k = 10, signal } = {}) {
      if (typeof query !== "string") throw new InsituError("invalid-argument", "search() takes a string.");
      return client.call("search", { query, k }, { signal });
    },
    collection: (name, options = {}) => openCollection(client, name, options, another),
    import: (name, file, options = {}) => importCollection(client, name, file, options, another),
    stats: () => client.call("stats", undefined),
    close: () => clients.forEach((one) => one.close()),
  };
}

function folder(url: URL): string {
  if (!url.pathname.endsWith("/")) url.pathname += "/";
  return url.href;
}
