// Token rows: where they are, and how the rows of some ids are found. See DESIGN.md, "Rows on demand".

import { InsituError } from "./errors.ts";
import { load, type Bytes, type FileRef, type OnBytes } from "./files.ts";
import { InGraph } from "./ids.ts";
import { checkIds, RowBlocks, storageUnavailable } from "./row_blocks.ts";
import { recordBytes } from "./row_codes.ts";
import { RowDisk } from "./row_disk.ts";
import type { Stats } from "./protocol.ts";
import type { Store } from "./store.ts";

/**
 * What a model lock says of its rows: `row_count` records of full_dim values and a float32 scale; see row_codes.ts. A published
 * graph holds them itself, and then no file does.
 */
export interface Table {
  full_dim: number;
  row_count: number;
  row_bits: number;
  rows: FileRef | null;
  row_blocks: { rows: number; hashes: FileRef } | null;
}

export interface Rows {
  /** Records of one part. */
  readonly perPart: number;
  /** Bytes of one record. */
  readonly record: number;
  /** The parts of the table that hold `ids`, by number. Codes: `model-corrupt`, `fetch-failed`, `range-unsupported`. */
  load(ids: Int32Array): Promise<ReadonlyMap<number, Bytes>>;
  /**
   * Fetch the rows of `ids`, and in idle time what texts are likely to need. Ends by itself, and never by an error. Whether those
   * of `ids` are here: not where data is to be saved, or the network is gone.
   */
  fetchAhead(ids: Int32Array): Promise<boolean>;
  readonly stats: Stats["rows"];
}

export type RowMode = "all" | "stream";

/** A table up to this size is loaded whole and stays in memory: as much as blocks may take there. */
export const SMALL = 16e6;
/** The largest table that is taken into memory where nothing can be kept on disk. */
const MOST_MEMORY = 128e6;

export interface RowsOptions {
  table: Table;
  /** Where the files of the lock are named from. */
  base: string;
  /** What the page asked for; else `usual`. */
  mode: RowMode | undefined;
  usual: RowMode;
  /** Whose files these are, for the disk: others of the same owner are dropped. */
  owner: string;
  store: Store;
  expect(bytes: number): void;
  onBytes: OnBytes;
}

/** Open the token rows; in the mode `all` they are all there when it resolves. Code, besides: `storage-unavailable`. */
export async function openRows(options: RowsOptions): Promise<Rows> {
  const { table, base, store, onBytes } = options;
  const { rows, row_blocks: blocks, row_count: count } = table;
  if (!rows) return new InGraph(count);
  const record = recordBytes(table.full_dim, table.row_bits);
  if (!record || !blocks) throw corrupt("is laid out as this release cannot read it");
  if (rows.bytes !== count * record) throw corrupt(`does not hold ${count} rows`);
  const mode = options.mode ?? (rows.bytes <= SMALL ? "all" : options.usual);
  const whole = async (reason = ""): Promise<Rows> => {
    options.expect(rows.bytes);
    return new WholeRows(await load(rows, base, "model-corrupt", store, { onBytes }), count, record, reason);
  };
  if (mode === "all" && rows.bytes <= SMALL) return whole();

  options.expect(blocks.hashes.bytes);
  const blockBytes = blocks.rows * record;
  const parts = Math.ceil(count / blocks.rows);
  let reason = "";
  const disk = RowDisk.open(options.owner, `${rows.sha256.slice(0, 16)}-${blockBytes}`, parts, blockBytes);
  const [place, hashes] = await Promise.all([
    disk.catch((error: Error) => void (reason = `${error.name}: ${error.message}`)),
    load(blocks.hashes, base, "model-corrupt", store, { onBytes }),
  ]);
  const url = new URL(rows.file, base).href;
  const layout = { url, bytes: rows.bytes, blockBytes, count: parts, hashes };
  if (mode === "stream" || place) {
    const found = new RowBlocks(layout, record, count, mode, place ?? undefined, reason);
    if (mode === "stream") return found;
    try {
      await found.fill(options.expect, onBytes);
    } catch (error) {
      if (options.mode || (error as InsituError).code !== "storage-unavailable") throw error;
      found.stream();
    }
    return found;
  }
  if (rows.bytes <= MOST_MEMORY) return whole(reason);
  if (options.mode === undefined) return new RowBlocks(layout, record, count, "stream", undefined, reason);
  throw storageUnavailable(rows.bytes, reason);

  function corrupt(how: string): InsituError {
    return new InsituError("model-corrupt", `${rows?.file} ${how}. Export the model again.`);
  }
}

/** The whole table in memory. */
class WholeRows implements Rows {
  readonly perPart: number;
  readonly stats: Stats["rows"];
  #parts: ReadonlyMap<number, Bytes>;

  constructor(
    table: Bytes,
    count: number,
    readonly record: number,
    reason: string,
  ) {
    this.perPart = count;
    this.#parts = new Map([[0, table]]);
    this.stats = { mode: "all", place: "memory", reason, held: table.length, requests: 0, bytes: 0, ranges: true };
  }

  async load(ids: Int32Array): Promise<ReadonlyMap<number, Bytes>> {
    checkIds(ids, this.perPart);
    return this.#parts;
  }

  async fetchAhead(): Promise<boolean> {
    return true;
  }
}
