// Blocks of token rows on the visitor's disk, in the origin private file system. The only module that touches it.
//
// One file for each table: a slot number for each block (uint32, 0: not here), then the slots, in the order in which they
// came: a file that a few blocks have reached takes their space alone. Two tabs may write at once and take each other's
// slot, and a crash may leave anything: whoever reads a block checks its hash.

import type { Bytes } from "./files.ts";

/** What TypeScript's DOM library lacks: these exist in workers only. */
interface Access {
  read(into: AllowSharedBufferSource, options: { at: number }): number;
  write(from: AllowSharedBufferSource, options: { at: number }): number;
  getSize(): number;
  truncate(size: number): void;
  flush(): void;
}
type FileHandle = FileSystemFileHandle & {
  createSyncAccessHandle?(options: { mode: "readwrite-unsafe" }): Promise<Access>;
};

const FOLDER = "insitu-rows";
/** Blocks that come one after another are written together, so many bytes at most, and so many milliseconds after the first. */
const TOGETHER = 1e6;
const HELD = 1000;

export class RowDisk {
  /** Whether blocks are kept; if not, those that are here can be read all the same. */
  writes: boolean;
  #file: FileHandle;
  /** None while another tab of a browser that lets only one have it does: then blocks are read in another way. */
  #access: Access | undefined;
  #slots: Uint32Array<ArrayBuffer>;
  #blockBytes: number;
  /** Blocks that are not written yet, and their bytes, each in a slot of its own. */
  #held: number[] = [];
  #heldBytes: Bytes | undefined;
  #heldSince = 0;

  private constructor(
    readonly name: string,
    file: FileHandle,
    access: Access | undefined,
    slots: number,
    blockBytes: number,
  ) {
    this.#file = file;
    this.#access = access;
    this.writes = access !== undefined;
    this.#slots = new Uint32Array(slots);
    this.#blockBytes = blockBytes;
  }

  /**
   * The file `name` of `owner`; other files of this owner are removed. `blocks` of `blockBytes` each, the last one may be
   * shorter. Rejects where there is no such file system, or no right to it.
   */
  static async open(owner: string, name: string, blocks: number, blockBytes: number): Promise<RowDisk> {
    if (!navigator.storage?.getDirectory) throw new Error("this browser or page has no private file system");
    const root = await navigator.storage.getDirectory();
    const all = await root.getDirectoryHandle(FOLDER, { create: true });
    const folder = await all.getDirectoryHandle(await hash(owner), { create: true });
    const file = (await folder.getFileHandle(name, { create: true })) as FileHandle;
    if (!file.createSyncAccessHandle) throw new Error("this browser reads no file in parts");
    let access: Access | undefined;
    try {
      // Browsers that do not know the mode give the file to one tab alone.
      access = await file.createSyncAccessHandle({ mode: "readwrite-unsafe" });
    } catch (error) {
      if ((error as Error).name !== "NoModificationAllowedError") throw error;
    }
    const disk = new RowDisk(`${folder.name}/${name}`, file, access, blocks, blockBytes);
    if (access && access.getSize() < disk.#slots.byteLength) access.truncate(disk.#slots.byteLength);
    await disk.refresh();
    for await (const other of (folder as unknown as { keys(): AsyncIterable<string> }).keys()) {
      if (other !== name) await folder.removeEntry(other).catch(() => undefined); // another tab has it open
    }
    return disk;
  }

  /** Learn which blocks other tabs have written. */
  async refresh(): Promise<void> {
    const slots = await this.#read(0, this.#slots.byteLength);
    if (slots.length === this.#slots.byteLength) this.#slots.set(new Uint32Array(slots.buffer));
  }

  /** Whether a block is held, or was written, here or, before the last `refresh`, in another tab. */
  has(block: number): boolean {
    return this.#slots[block] !== 0 || this.#held.includes(block);
  }

  /** What lies in the place of a block, `length` bytes: nothing if there is none, anything if it was damaged. */
  async read(block: number, length: number): Promise<Bytes | undefined> {
    const slot = this.#slots[block]!;
    if (slot === 0) return undefined;
    const bytes = await this.#read(this.#at(slot), length);
    return bytes.length === length ? bytes : undefined;
  }

  /** Only while `writes`. Throws (QuotaExceededError, most likely) if it cannot be written. */
  write(block: number, bytes: Bytes): void {
    this.#write([block], bytes);
  }

  /** As `write`, but with others; until `writeHeld` at the latest. If it throws, none of these is here. */
  hold(block: number, bytes: Bytes): void {
    const held = this.#held;
    this.#heldBytes ??= new Uint8Array(Math.max(1, Math.floor(TOGETHER / this.#blockBytes)) * this.#blockBytes);
    if (held.length === 0) this.#heldSince = performance.now();
    this.#heldBytes.set(bytes, held.length * this.#blockBytes);
    held.push(block);
    const full = held.length * this.#blockBytes === this.#heldBytes.length;
    // The table's last block is shorter: what follows it in its slot would be of another.
    const last = bytes.length < this.#blockBytes;
    if (full || last || performance.now() - this.#heldSince >= HELD) this.#writeHeld(bytes.length);
  }

  /** Write the blocks that are held. */
  writeHeld(): void {
    this.#writeHeld(this.#blockBytes);
  }

  #writeHeld(last: number): void {
    const blocks = this.#held;
    this.#held = [];
    if (blocks.length) this.#write(blocks, this.#heldBytes!.subarray(0, (blocks.length - 1) * this.#blockBytes + last));
  }

  /** `bytes`: of the blocks, one after another, all but the last one as long as a slot. */
  #write(blocks: number[], bytes: Bytes): void {
    const access = this.#access!;
    const used = Math.max(0, access.getSize() - this.#slots.byteLength);
    const slot = Math.ceil(used / this.#blockBytes) + 1;
    if (access.write(bytes, { at: this.#at(slot) }) !== bytes.length) {
      throw new DOMException("the blocks were not written whole", "QuotaExceededError");
    }
    blocks.forEach((block, i) => (this.#slots[block] = slot + i));
    // The slot numbers of neighbours at once; not of those between, which other tabs may have written since.
    for (let from = 0, to = 1; from < blocks.length; from = to++) {
      while (to < blocks.length && blocks[to] === blocks[to - 1]! + 1) to++;
      const first = blocks[from]!;
      access.write(this.#slots.subarray(first, first + to - from), { at: 4 * first });
    }
  }

  /** This block is damaged: it counts as absent, and is written anew when it comes. */
  drop(block: number): void {
    this.#slots[block] = 0;
  }

  /** No more blocks are to be held. */
  flush(): void {
    this.#heldBytes = undefined;
    this.#access?.flush();
  }

  #at(slot: number): number {
    return this.#slots.byteLength + (slot - 1) * this.#blockBytes;
  }

  /** `length` bytes at `start`, or fewer at the end of the file. */
  async #read(start: number, length: number): Promise<Bytes> {
    if (this.#access) {
      const bytes = new Uint8Array(length);
      const read = this.#access.read(bytes, { at: start });
      return read === length ? bytes : bytes.slice(0, read);
    }
    const file = await this.#file.getFile();
    return new Uint8Array(await file.slice(start, start + length).arrayBuffer());
  }
}

/** A folder name for any text. */
async function hash(text: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return Array.from(new Uint8Array(digest, 0, 8), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
