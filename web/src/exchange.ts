// Files of collections in the worker: Python writes and reads them, here are their bytes, sealed if wanted.

import type { Bytes } from "./download.ts";
import { Call } from "./host.ts";
import type { Bridge } from "./pyodide.ts";
import { seal, unseal } from "./seal.ts";

/** A file as Python reads it. */
export interface Source {
  size: number;
  read(start: number, end: number): Promise<Bytes>;
}

type Progress = (done: number, total: number) => void;

export async function exportFile(
  bridge: Bridge,
  id: number,
  name: string,
  passphrase: string | undefined,
  onProgress: Progress,
): Promise<Blob> {
  const pieces: Blob[] = [];
  const call = new Call<undefined>(onProgress);
  // A Blob of each piece: the browser may keep it outside of this process.
  bridge.export(call, id, name, (piece) => pieces.push(new Blob([piece])));
  await call.done;
  const file = new Blob(pieces, { type: "application/octet-stream" });
  return passphrase === undefined ? file : seal(file, passphrase);
}

export async function importFile(
  bridge: Bridge,
  id: number,
  name: string,
  given: Blob,
  passphrase: string | undefined,
  onProgress: Progress,
): Promise<undefined> {
  const file = await unseal(given, passphrase);
  const call = new Call<undefined>(onProgress);
  bridge.restore(call, id, name, {
    size: file.size,
    read: async (start, end) => new Uint8Array(await file.slice(start, end).arrayBuffer()),
  });
  return call.done;
}
