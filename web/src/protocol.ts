// The wire between the page and its worker. Types only: no behaviour, nothing at run time.

/** The parts that load side by side. `texts` goes on after `open()` is done. */
export type Part = "python" | "engine" | "model" | "index" | "texts";

/** `loaded` of `total` bytes of one part. */
export interface Loading {
  part: Part;
  loaded: number;
  total: number;
}

export interface OpenArgs {
  /** Absolute URLs. `files`: of the files of the build, by their names there; else they lie in `base`. */
  base: string;
  files?: Record<string, string>;
  index?: string;
  model?: string;
  /** Wanted threads of the model; fewer where the page cannot have them. */
  threads?: number;
  /** The time origin of the page (in Unix time), and when `open()` was called, since then, in milliseconds. */
  clock: { origin: number; opened: number };
  /** The variant of the model, or `auto`. */
  variant?: string;
  /** Where the model runs, if it gives right answers there. */
  device?: "wasm" | "webgpu";
  /** What runs it. */
  engine?: "insitu" | "onnxruntime";
  /** Whether token rows are all loaded, or as texts need them. */
  rows?: "all" | "stream";
}

export interface EmbedArgs {
  texts: string[];
  task: string;
  dim: number | "auto" | undefined;
}

export interface SearchArgs {
  query: string;
  k: number;
}

/** Vectors as they cross: one buffer of count x dim float32, transferred. */
export interface PackedEmbeddings {
  vectors: Float32Array<ArrayBuffer>;
  dim: number;
  truncated: boolean[];
}

export interface Hit {
  /** Relative to the root of the site, with its anchor. */
  url: string;
  title: string;
  heading: string;
  /** The passage, as plain text. */
  text: string;
  /** Cosine of the passage to the query, -1 to 1. */
  score: number;
}

/** What `open()` found and how long its steps took, in milliseconds from the start of the page's navigation. */
export interface Stats {
  /** Threads of the model. More than one needs a cross-origin isolated page. */
  threads: number;
  isolated: boolean;
  /** The scan kernel in use. */
  kernel: "relaxed" | "plain";
  /** The name of the model, its variant and its largest vector. */
  model: string;
  dim: number;
  /** The variant of the model, and why this one, if `open()` was asked to choose. */
  variant: { used: string; reason: string };
  /** The title of the index; empty without one. */
  title: string;
  /** Vectors in the index; 0 without one. */
  count: number;
  /** When each step of `open()` began and how long it took. Most run side by side; `worker` is the start of the worker. */
  steps: Record<string, { start: number; took: number }>;
  /** The cache of files: how many it held, how many the network gave, or why it is not used. */
  cache: { works: boolean; reason: string; hits: number; misses: number };
  /**
   * The snapshot that Python starts from. `used`: this start did; `made`: in this visit, for the next one; `refused`: there was
   * one, and it was no good, for this `reason`; `none`.
   */
  snapshot: { state: "none" | "used" | "made" | "refused"; reason: string };
  /** Whether SHA-256 was checked; it cannot be outside secure contexts (https, localhost). */
  verified: boolean;
  /**
   * Where the model runs, and what runs it: insitu's own encoder or onnxruntime-web. `reason`: why not where and by what was
   * asked for. `checked`: whether golden texts came out right there since `open()`.
   */
  device: {
    used: "wasm" | "webgpu";
    engine: "insitu" | "onnxruntime";
    threads: number;
    reason: string;
    checked: boolean;
  };
  /** What the model ran so far, and the milliseconds it took: the rest of a call is ours. */
  runs: { batches: number; took: number };
  /**
   * The token rows: all here or as texts need them; kept in memory, or on disk with `held` bytes in memory; why they are not
   * kept as they might be; requests so far and the bytes that came by them; whether the server answers ranges.
   */
  rows: {
    mode: "all" | "stream";
    place: "memory" | "disk";
    reason: string;
    held: number;
    requests: number;
    bytes: number;
    ranges: boolean;
  };
  /** What `dim: "auto"` chose last, for an embedding or for a new collection, and why no larger size; null before. */
  auto: { dim: number; reason: string } | null;
  /** Texts of the index still to come, in bytes. */
  pending: number;
  /** Whether all that goes on after `open()` is done: loading texts, storing what the next visit needs. */
  settled: boolean;
}

/** A call on a collection, for Python (`insitu.collection.calls`): its arguments and its result are JSON. */
export interface CollectionArgs {
  name: string;
  act: "open" | "put" | "delete" | "search" | "stats" | "tidy";
  given: string;
}

export interface Calls {
  open: { args: OpenArgs; result: undefined };
  embed: { args: EmbedArgs; result: PackedEmbeddings };
  search: { args: SearchArgs; result: Hit[] };
  stats: { args: undefined; result: Stats };
  collection: { args: CollectionArgs; result: string };
  export: { args: { name: string; passphrase: string | undefined }; result: Blob };
  import: { args: { name: string; file: Blob; passphrase: string | undefined }; result: undefined };
}

export type Method = keyof Calls;

export interface PlainError {
  name: string;
  message: string;
  code: string;
}

/** Page to worker. */
export type Request =
  | { [M in Method]: { type: "call"; id: number; method: M; args: Calls[M]["args"] } }[Method]
  | { type: "cancel"; id: number };

/** Worker to page. `hello` is its first message; `lock` the name of the Web Lock that it holds until it dies. */
export type Reply =
  | { type: "hello"; lock: string | undefined }
  | { type: "result"; id: number; value: unknown }
  | { type: "error"; id: number; error: PlainError }
  | { type: "progress"; id: number; done: number; total: number }
  | { type: "loading"; loading: Loading };
