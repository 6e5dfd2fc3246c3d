// The worker: starts the parts side by side, joins them, and answers the page.

import { openWebGpu, startEngine, type Canary } from "./device.ts";
import { InsituError, plainError } from "./errors.ts";
import { exportFile, importFile } from "./exchange.ts";
import { canVerify, fetchBytes, load, type Bytes, type FileRef } from "./files.ts";
import { Call, Host } from "./host.ts";
import { Engine } from "./ort.ts";
import { Progress } from "./progress.ts";
import type { Calls, Method, OpenArgs, PackedEmbeddings, Reply, Request, Stats } from "./protocol.ts";
import { startPython, type Assets, type Bridge } from "./pyodide.ts";
import { openRows, type Table } from "./rows.ts";
import { Scanner } from "./scan.ts";
import type { Snapshot } from "./snapshot.ts";
import { Store } from "./store.ts";
import { readOtherTokenizer, readTokenizer } from "./tokenizer.ts";

/** The parts of `index.json` and `model.lock.json` that are fetched ahead. Python checks them whole. */
interface Manifest {
  version: number;
  model: string;
  title: string;
  pages: FileRef;
  shards: { vectors: FileRef; full: FileRef }[];
  texts: FileRef[];
}
interface Lock extends Table {
  name: string;
  variant: string;
  graph: FileRef;
  tokenizer: FileRef;
  vocabulary: FileRef | null;
  prompts: Record<string, string>;
  canary?: Canary[];
}

interface Opened {
  bridge: Bridge;
  stats: () => Stats;
  settled: boolean;
}

let opened: Opened | undefined;

function post(reply: Reply, transfer: Transferable[] = []): void {
  self.postMessage(reply, { transfer });
}

/**
 * Half the logical processors, at most 4: usually the physical cores. Two threads of one core share its vector units, so
 * that a second one gains little and a short run waits for both (DESIGN.md, "What holds the page back").
 */
function threadCount(wanted: number | undefined): number {
  if (!crossOriginIsolated) return 1;
  const processors = navigator.hardwareConcurrency;
  return Math.max(1, Math.min(wanted ?? Math.min(4, Math.ceil(processors / 2)), processors));
}

async function open(args: OpenArgs): Promise<void> {
  const progress = new Progress((loading) => post({ type: "loading", loading }), args.clock);
  const { base } = args;
  const owner = args.index ?? args.model ?? base;
  const threads = threadCount(args.threads);
  const assets = progress.step("assets", fetchJson<Assets>(new URL("assets.json", base).href));
  const parts = assets.then(({ bytes }) => {
    progress.expect("python", bytes.python);
    progress.expect("engine", bytes.engine);
  });
  const python = startPython(base, assets, Store.open("insitu-python"), (step) => progress.mark(step)).then(
    (started) => {
      progress.complete("python");
      return started;
    },
  );
  const startWasm = () => progress.step("engine", startEngine(base, threads)).then(() => progress.complete("engine"));
  const gpu = args.device === "webgpu";
  const engine = gpu ? undefined : startWasm();
  const scanner = Scanner.open(base);
  const opening = Store.open("insitu-files");

  const entry = args.index === undefined ? undefined : fetchEntry(args.index);
  const check = async (manifest: Bytes): Promise<void> => {
    const call = new Call<undefined>();
    (await python).bridge.check(call, manifest);
    await call.done;
  };
  const files = (async () => {
    const manifestBytes = await entry;
    const manifest = manifestBytes && peek(manifestBytes);
    const store = await opening;
    // What Python would refuse is not worth loading: let it say why.
    if (manifestBytes && !manifest) await check(manifestBytes);
    const lockUrl = args.model ?? (manifest?.model ? new URL(manifest.model, args.index).href : undefined);
    if (lockUrl === undefined) {
      throw new InsituError("model-not-found", "The index names no model. Give open() a `model`, or index again.");
    }
    const coming = new Map<string, Promise<Bytes>>();
    const ahead = manifest ? [manifest.pages, ...manifest.shards.flatMap(({ vectors, full }) => [vectors, full])] : [];
    for (const ref of ahead) {
      progress.expect("index", ref.bytes);
      const options = { onBytes: (count: number) => progress.add("index", count) };
      const file = load(ref, args.index!, "index-corrupt", store, options);
      file.catch(() => undefined); // whoever reads it is told
      coming.set(ref.sha256, file);
    }
    const lockBytes = await fetchBytes(lockUrl, { cache: "no-cache" });
    const lock = JSON.parse(new TextDecoder().decode(lockBytes)) as Lock;
    void store.claim(owner, hashes([...modelFiles(lock), ...refs(manifest)]));
    const model = (ref: FileRef): Promise<Bytes> => {
      progress.expect("model", ref.bytes);
      const onBytes = (count: number): void => progress.add("model", count);
      return load(ref, lockUrl, "model-corrupt", store, { onBytes });
    };
    const graph = progress.step("graph", model(lock.graph));
    const rows = progress.step(
      "rows",
      openRows({
        table: lock,
        base: lockUrl,
        mode: args.rows,
        usual: args.index === undefined ? "all" : "stream",
        owner: args.index ?? lockUrl,
        store,
        expect: (bytes) => progress.expect("model", bytes),
        onBytes: (count) => progress.add("model", count),
      }),
    );
    const tokenizer = progress.step(
      "tokenizer",
      lock.vocabulary
        ? model(lock.vocabulary).then(readTokenizer)
        : model(lock.tokenizer).then((bytes) => readOtherTokenizer(bytes, base)),
    );
    const again = (): Promise<Bytes> => load(lock.graph, lockUrl, "model-corrupt", store);
    const loadedFiles = await all({ graph, rows, tokenizer });
    return { manifest, manifestBytes, store, coming, lockBytes, lock, again, ...loadedFiles };
  })();
  const session = progress.step("model", files).then(({ graph, rows, lock, again }) => {
    const other = gpu ? (graph: Bytes) => openWebGpu(base, graph, threads) : undefined;
    const options = { graph, rows, dim: lock.full_dim, canaries: lock.canary ?? [], other, again };
    return progress.step("session", Engine.open({ ...options, startWasm: () => engine ?? startWasm() }));
  });

  const [{ bridge: bridgeModule, snapshot }, loaded, model, kernel] = await Promise.all([
    python,
    files,
    session,
    scanner,
    parts,
    engine,
  ]);
  const host = new Host(
    loaded.tokenizer,
    model,
    kernel,
    loaded.store,
    loaded.lock.full_dim,
    args.index ?? base,
    loaded.coming,
  );
  const call = new Call<Bridge>();
  bridgeModule.start(call, host, loaded.lockBytes, loaded.manifestBytes);
  const bridge = await progress.step("index", call.done);
  bridgeModule.destroy();

  const { store, lock, manifest } = loaded;
  const texts = manifest?.texts ?? [];
  for (const ref of texts) progress.expect("texts", ref.bytes);
  opened = {
    bridge,
    settled: false,
    stats: () => ({
      threads,
      isolated: crossOriginIsolated,
      kernel: kernel.name,
      model: `${lock.name}-${lock.variant}`,
      dim: lock.full_dim,
      title: manifest?.title ?? "",
      count: bridge.count,
      steps: progress.steps,
      cache: { works: store.works, reason: store.reason, hits: store.hits, misses: store.misses },
      snapshot: { state: snapshot.state, reason: snapshot.reason },
      verified: canVerify,
      device: model.device,
      runs: model.runs,
      rows: loaded.rows.stats,
      pending: progress.pending("texts"),
      settled: opened!.settled,
    }),
  };
  void finish(host, owner, texts, progress, store, snapshot).then(() =>
    loaded.rows.fetchAhead(host.tokenize(everyday(lock), lock.row_count).ids),
  );
}

/** What every question may hold: the prompts, and the characters of a keyboard, whose tokens are not the frequent ones. */
function everyday(lock: Lock): string[] {
  const characters = Array.from({ length: 95 }, (_, i) => String.fromCharCode(32 + i));
  return [...Object.values(lock.prompts), ...characters, characters.join(" ")];
}

/** After the first answer can be given: fetch what later answers need, then drop files that nobody names any more. */
async function finish(
  host: Host,
  owner: string,
  texts: FileRef[],
  progress: Progress,
  store: Store,
  snapshot: Snapshot,
): Promise<void> {
  for (const ref of texts) {
    try {
      await host.ahead(ref, (count) => progress.add("texts", count));
    } catch (error) {
      // The search that needs this file will try again and say what is wrong.
      console.warn(`insitu: ${owner}: ${(error as Error).message}`);
    }
  }
  await store.sweep(owner);
  await snapshot.save();
  opened!.settled = true;
}

function modelFiles(lock: Lock): FileRef[] {
  return [lock.graph, lock.rows, lock.row_blocks.hashes, lock.vocabulary ?? lock.tokenizer];
}

function hashes(files: FileRef[]): Set<string> {
  return new Set(files.map(({ sha256 }) => sha256));
}

function refs(manifest: Manifest | undefined): FileRef[] {
  if (!manifest) return [];
  return [manifest.pages, ...manifest.texts, ...manifest.shards.flatMap(({ vectors, full }) => [vectors, full])];
}

async function fetchJson<T>(url: string): Promise<T> {
  const bytes = await fetchBytes(url, { cache: "no-cache" });
  return JSON.parse(new TextDecoder().decode(bytes)) as T;
}

async function fetchEntry(url: string): Promise<Bytes> {
  try {
    return await fetchBytes(url, { cache: "no-cache" });
  } catch (error) {
    if (!(error instanceof InsituError) || error.code !== "fetch-failed") throw error;
    throw new InsituError("index-not-found", `There is no index: ${error.message} Make one: insitu index DIR.`);
  }
}

/** `index.json` if it looks like one that this release reads, enough to fetch ahead. */
function peek(bytes: Bytes): Manifest | undefined {
  try {
    const data = JSON.parse(new TextDecoder().decode(bytes)) as Manifest;
    const whole =
      data.version === 1 && [data.pages, ...data.texts, ...data.shards.map((s) => s.full)].every((r) => r.file);
    return whole ? data : undefined;
  } catch {
    return undefined;
  }
}

async function all<T extends Record<string, unknown>>(parts: T): Promise<{ [K in keyof T]: Awaited<T[K]> }> {
  const entries = await Promise.all(Object.entries(parts).map(async ([key, value]) => [key, await value] as const));
  return Object.fromEntries(entries) as { [K in keyof T]: Awaited<T[K]> };
}

function ready(): Opened {
  if (!opened) throw new InsituError("runtime-unavailable", "The worker is not open yet.");
  return opened;
}

const methods: { [M in Method]: (args: Calls[M]["args"], id: number) => Promise<Calls[M]["result"]> } = {
  open: (args) => open(args) as Promise<undefined>,
  async embed({ texts, task, dim }, id) {
    const call = new Call<[{ vectors: Float32Array<ArrayBuffer>; dim: number }, boolean[]]>((done, total) =>
      post({ type: "progress", id, done, total }),
    );
    ready().bridge.embed(call as never, id, texts, task, dim);
    const [block, truncated] = await call.done;
    return { vectors: block.vectors, dim: block.dim, truncated } satisfies PackedEmbeddings;
  },
  async search({ query, k }, id) {
    const call = new Call<string>();
    ready().bridge.search(call, id, query, k);
    return JSON.parse(await call.done) as Calls["search"]["result"];
  },
  stats: async () => ready().stats(),
  async collection({ name, act, given }, id) {
    const call = new Call<string>((done, total) => post({ type: "progress", id, done, total }));
    ready().bridge.collection(call, id, name, act, given);
    return call.done;
  },
  export: ({ name, passphrase }, id) =>
    exportFile(ready().bridge, id, name, passphrase, (done, total) => post({ type: "progress", id, done, total })),
  import: ({ name, file, passphrase }, id) =>
    importFile(ready().bridge, id, name, file, passphrase, (done, total) =>
      post({ type: "progress", id, done, total }),
    ),
};

self.onmessage = async ({ data }: MessageEvent<Request>) => {
  if (data.type === "cancel") {
    opened?.bridge.cancel(data.id);
    return;
  }
  const { id } = data;
  try {
    const value = await (methods[data.method] as (args: unknown, id: number) => Promise<unknown>)(data.args, id);
    const vectors = (value as PackedEmbeddings | undefined)?.vectors;
    post({ type: "result", id, value }, vectors ? [vectors.buffer] : []);
  } catch (error) {
    post({ type: "error", id, error: plainError(error) });
  }
};

// Held until this worker dies, however it dies. There are no Web Locks outside secure contexts.
const lock = `insitu ${crypto.getRandomValues(new Uint32Array(4)).join("-")}`;
if (navigator.locks) {
  void navigator.locks.request(lock, () => {
    post({ type: "hello", lock });
    return new Promise(() => undefined);
  });
} else {
  post({ type: "hello", lock: undefined });
}
