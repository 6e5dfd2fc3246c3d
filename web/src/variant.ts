// Which variant of a model is opened. Those of one model may ask the same vectors (DESIGN.md, "Which variant").

import { InsituError } from "./errors.ts";
import { fetchBytes, type Bytes } from "./files.ts";
import type { Lock } from "./model.ts";
import type { OpenArgs } from "./protocol.ts";

/** The model that is opened: the URL of its `model.lock.json`, that file, what it says, and why this variant. */
export interface Chosen {
  lockUrl: string;
  lockBytes: Bytes;
  lock: Lock;
  reason: string;
}

/**
 * Without a `variant` it is that of `own`; but on WebGPU not int8 where q4 is there. `own`: the URL of the lock that was named, or of
 * the model that made the index. `offered`: those of other variants, by name, that the index has beside it; undefined where a model
 * was named, whose variants lie in folders beside its own. Codes: `variant-unsupported`, `fetch-failed`.
 */
export async function openLock(
  { variant: asked, device }: Pick<OpenArgs, "variant" | "device">,
  own: string,
  offered: Record<string, string> | undefined,
): Promise<Chosen> {
  const named = asked === undefined ? await read(own) : undefined;
  // Integer products are not among those that WebGPU has: they would go to and fro between it and WASM.
  const moves = device === "webgpu" && named?.lock.variant === "int8" && named.lock.family === "gemma";
  if (named && !moves) return { ...named, reason: "" };
  const variant = asked ?? "auto";
  const [wanted, reason] = choose(variant, device, offered !== undefined);
  const there = offered?.[wanted];
  if (there !== undefined) return { ...(await read(there)), reason };
  const first = named ?? (await read(own));
  if (first.lock.variant === wanted) return { ...first, reason };
  const beside = offered ? undefined : sibling(own, first.lock.variant, wanted);
  const other = beside && (await read(beside).catch(() => undefined));
  if (other && other.lock.weights === first.lock.weights) return { ...other, reason };
  if (variant === "auto") return { ...first, reason: `there is no ${wanted} beside it` };
  const has = [first.lock.variant, ...Object.keys(offered ?? {})].join(", ");
  throw new InsituError(
    "variant-unsupported",
    `variant: '${wanted}'. At ${own} there is ${has}. Choose that, or export the other one and put it beside.`,
  );
}

/** The variant that is wanted, and why. */
function choose(variant: string, device: OpenArgs["device"], asks: boolean): [string, string] {
  if (variant !== "auto") return [variant, ""];
  if (device === "webgpu") return ["q4", "the one that WebGPU runs"];
  if (asks) return ["q4", "the smallest, for a page that asks an index"];
  return ["int8", "the quickest to embed documents with on WASM"];
}

async function read(lockUrl: string): Promise<Omit<Chosen, "reason">> {
  const lockBytes = await fetchBytes(lockUrl, { cache: "no-cache" });
  return { lockUrl, lockBytes, lock: JSON.parse(new TextDecoder().decode(lockBytes)) as Lock };
}

/** `.../minilm-l6-int8/model.lock.json` -> `.../minilm-l6-q4/model.lock.json`; undefined for a folder of another kind of name. */
function sibling(url: string, variant: string, wanted: string): string | undefined {
  const end = `-${variant}/model.lock.json`;
  return url.endsWith(end) ? `${url.slice(0, -end.length)}-${wanted}/model.lock.json` : undefined;
}
