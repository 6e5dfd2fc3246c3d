// The worker: starts the parts side by side, joins them, and answers the page.

import { openEncoder, openWasm, openWebGpu, startEngine, type Device, type Graph } from "./device.ts";
import { Engine, type EngineOptions } from "./engine.ts";
import { InsituError, plainError } from "./errors.ts";
import { exportFile, importFile } from "./exchange.ts";
import { canVerify, fetchBytes, load, type Bytes, type FileRef } from "./files.ts";
import { Call, Host } from "./host.ts";

import { all, compile, hashes, isKnown, loadGraph, modelFiles, threadCount, trust, type Lock } from "./model.ts";
import { placeOf } from "./place.ts";
import { Progress } from "./progress.ts";
import type { Calls, Method, OpenArgs, PackedEmbeddings, Reply, Request, Stats } from "./protocol.ts";
import { startPython, type Assets, type Bridge } from "./pyodide.ts";
import { openRows, type Rows } from "./rows.ts";
import { Scanner } from "./scan.ts";
import { SIMD } from "./simd.ts";
import type { Snapshot } from "./snapshot.ts";
import { Store } from "./store.ts";
import { openLock } from "./variant.ts";
import { readOtherTokenizer, readTokenizer } from "./tokenizer.ts";

/** The parts of `index.json` that are fetched ahead. Python checks them whole. */
interface Manifest {
  version: number;
  model: string;
  asks?: Record<string, string>;
  title: string;
  pages: FileRef;
  shards: { vectors: FileRef; full: FileRef }[];
  texts: FileRef[];
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

async function open(args: OpenArgs): Promise<void> {
  const progress = new Progress((loading) => post({ type: "loading", loading }), args.clock);
  const { base } = args;
  const place = placeOf(base, args.files);
  const owner = args.index ?? args.model ?? base;
  const threads = threadCount(args.threads);
  const assets = progress.step("assets", fetchJson<Assets>(place("assets.json")));
  const parts = assets.then(({ bytes }) => progress.expect("python", bytes.python));
  // The first start of Python has the thread for itself for seconds: the model is on its way before.
  let begin!: () => void;
  const begun = new Promise<void>((resolve) => (begin = resolve));
  const pythonStore = Store.open("insitu-python");
  const python = startPython(place, assets, pythonStore, begun, (step) => progress.mark(step)).then((started) => {
    progress.complete("python");
    return started;
  });
  const loadEngine = async <T>(bytes: keyof Assets["bytes"], work: Promise<T>): Promise<T> => {
    progress.expect("engine", (await assets).bytes[bytes]);
    const engine = await progress.step("engine", work);
    progress.complete("engine");
    return engine;
  };
  let ort: Promise<void> | undefined;
  const startOrt = (): Promise<void> => (ort ??= loadEngine("engine", startEngine(place, threads)));
  const gpu = args.device === "webgpu";
  const own = !gpu && args.engine !== "onnxruntime";
  const kernel = own ? loadEngine("encoder", compile(place(`encoder.${SIMD}.wasm`))) : undefined;
  kernel?.catch(() => undefined); // whoever opens the encoder is told
  const scanner = Scanner.open(place);
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
    if (manifestBytes && !manifest) {
      begin();
      await check(manifestBytes);
    }
    const below = (path: string): string => new URL(path, args.index).href;
    const named = args.model ?? (manifest?.model ? below(manifest.model) : undefined);
    if (named === undefined) {
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
    const asks = Object.entries(manifest?.asks ?? {}).map(([variant, path]) => [variant, below(path)]);
    const offered = args.model === undefined ? (Object.fromEntries(asks) as Record<string, string>) : undefined;
    const { lockUrl, lockBytes, lock, reason } = await openLock(args, named, offered);
    void store.claim(owner, hashes([...modelFiles(lock), ...refs(manifest)]));
    if (!gpu && !(own && isKnown(lock))) startOrt().catch(() => undefined); // whoever opens the model is told
    const model = (ref: FileRef): Promise<Bytes> => {
      progress.expect("model", ref.bytes);
      const onBytes = (count: number): void => {
        progress.add("model", count);
        begin();
      };
      return load(ref, lockUrl, "model-corrupt", store, { onBytes });
    };
    const graph = progress.step("graph", loadGraph(lock, model));
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
        ? readTokenizer(model(lock.vocabulary), place)
        : model(lock.tokenizer).then((bytes) => readOtherTokenizer(bytes, place)),
    );
    const last = (graph: Graph): Promise<Device> => startOrt().then(() => openWasm(graph, threads));
    let first: ((graph: Graph) => Promise<Device>) | undefined;
    if (gpu) first = (graph) => openWebGpu(place, graph, threads);
    else if (kernel && isKnown(lock)) first = (graph) => openEncoder(place, kernel, graph.bytes, threads);
    const engine = openEngine(progress, graph, rows, {
      dim: lock.full_dim,
      canaries: lock.canary ?? [],
      first,
      trusted: gpu ? undefined : trust(store, lock, assets),
      last,
      again: () => loadGraph(lock, (ref) => load(ref, lockUrl, "model-corrupt", store)),
    });
    const variant = { used: lock.variant, reason };
    return {
      manifest,
      manifestBytes,
      store,
      coming,
      lockBytes,
      lock,
      variant,
      ...(await all({ rows, tokenizer, engine })),
    };
  })();

  files.then(begin, begin);
  const [{ bridge: bridgeModule, snapshot }, loaded, scan] = await Promise.all([python, files, scanner, parts]);
  const { store, lock, manifest, engine, rows } = loaded;
  const host = new Host(loaded.tokenizer, engine, scan, store, lock.full_dim, args.index ?? base, loaded.coming, place);
  const call = new Call<Bridge>();
  bridgeModule.start(call, host, loaded.lockBytes, loaded.manifestBytes);
  const bridge = await progress.step("index", call.done);
  bridgeModule.destroy();

  const texts = manifest?.texts ?? [];
  for (const ref of texts) progress.expect("texts", ref.bytes);
  opened = {
    bridge,
    settled: false,
    stats: () => ({
      threads: engine.device.threads,
      isolated: crossOriginIsolated,
      kernel: scan.name,
      model: `${lock.name}-${lock.variant}`,
      variant: loaded.variant,
      dim: lock.full_dim,
      title: manifest?.title ?? "",
      count: bridge.count,
      steps: progress.steps,
      cache: { works: store.works, reason: store.reason, hits: store.hits, misses: store.misses },
      snapshot: { state: snapshot.state, reason: snapshot.reason },
      verified: canVerify,
      device: engine.device,
      runs: engine.runs,
      rows: rows.stats,
      auto: chosen(bridge),
      pending: progress.pending("texts"),
      settled: opened!.settled,
    }),
  };
  void finish(host, owner, texts, progress, store, snapshot)
    .then(() => {
      const { ids } = host.tokenize(everyday(lock), lock.row_count);
      return rows.fetchAhead(Int32Array.from([...ids, ...engine.unproven]));
    })
    .then(() => engine.prove());
}

/** A function of its own, so that nothing that lives on holds the graph: a large one is as much memory as its weights. */
async function openEngine(
  progress: Progress,
  graph: Promise<Graph>,
  rows: Promise<Rows>,
  options: Omit<EngineOptions, "rows">,
): Promise<Engine> {
  const [bytes, table] = await progress.step("model", Promise.all([graph, rows]));
  return progress.step("session", Engine.open(bytes, { ...options, rows: table }));
}

/** What every question may hold: the prompts, and the characters of a keyboard, whose tokens are not the frequent ones. */
function everyday(lock: Lock): string[] {
  const characters = Array.from({ length: 95 }, (_, i) => String.fromCharCode(32 + i));
  return [...Object.values(lock.prompts), ...characters, characters.join(" ")];
}

function chosen({ auto }: Bridge): Stats["auto"] {
  const found = JSON.parse(auto) as [number, string] | null;
  return found && { dim: found[0], reason: found[1] };
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
