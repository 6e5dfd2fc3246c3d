// What an exported model is to who opens it: the files that it needs, and what may run it.

import type { Canary, Graph } from "./device.ts";
import type { Trust } from "./engine.ts";
import type { Bytes, FileRef } from "./files.ts";
import type { Assets } from "./pyodide.ts";
import type { Table } from "./rows.ts";
import type { Store } from "./store.ts";

/** The parts of `model.lock.json` that are used here. Python checks it whole. */
export interface Lock extends Table {
  data?: FileRef[];
  name: string;
  variant: string;
  weights: string;
  family: string;
  graph: FileRef;
  tokenizer: FileRef;
  vocabulary: FileRef | null;
  prompts: Record<string, string>;
  canary?: Canary[];
}

/**
 * Half the logical processors, at most 4: usually the physical cores. Two threads of one core share its vector units, so
 * that a second one gains little and a short run waits for both (DESIGN.md, "What holds the page back").
 */
export function threadCount(wanted: number | undefined): number {
  if (!crossOriginIsolated) return 1;
  const processors = navigator.hardwareConcurrency;
  return Math.max(1, Math.min(wanted ?? Math.min(4, Math.ceil(processors / 2)), processors));
}

/** Whether the encoder is likely to know the graph, so that onnxruntime need not be loaded beside it. */
export function isKnown({ family, variant }: Lock): boolean {
  return ["bert", "gemma"].includes(family) && ["int8", "q8", "q4"].includes(variant);
}

/** Remembers with the graph's file that this kernel gave the golden vectors in this browser. */
export function trust(store: Store, { graph }: Lock, assets: Promise<Assets>): Trust {
  const key = assets.then(({ encoder }) => `${graph.sha256}/${encoder}/${encodeURIComponent(navigator.userAgent)}`);
  return {
    known: async () => store.has(await key),
    keep: () => void key.then((name) => store.put(name, new Uint8Array())),
    forget: () => void key.then((name) => store.remove(name)),
  };
}

export async function compile(url: string): Promise<WebAssembly.Module> {
  return WebAssembly.compileStreaming(fetch(url));
}

export async function loadGraph(lock: Lock, loadFile: (ref: FileRef) => Promise<Bytes>): Promise<Graph> {
  const data = (lock.data ?? []).map(async (ref) => ({ path: ref.file, data: await loadFile(ref) }));
  return all({ bytes: loadFile(lock.graph), data: Promise.all(data) });
}

export function modelFiles(lock: Lock): FileRef[] {
  const table = lock.rows && lock.row_blocks ? [lock.rows, lock.row_blocks.hashes] : [];
  return [lock.graph, ...(lock.data ?? []), ...table, lock.vocabulary ?? lock.tokenizer];
}

export function hashes(files: FileRef[]): Set<string> {
  return new Set(files.map(({ sha256 }) => sha256));
}

export async function all<T extends Record<string, unknown>>(parts: T): Promise<{ [K in keyof T]: Awaited<T[K]> }> {
  const entries = await Promise.all(Object.entries(parts).map(async ([key, value]) => [key, await value] as const));
  return Object.fromEntries(entries) as { [K in keyof T]: Awaited<T[K]> };
}
