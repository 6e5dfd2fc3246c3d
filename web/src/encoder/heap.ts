// The memory of the encoder kernel: weights that stay, and behind them what one batch needs.

const PAGE = 65536;
/** Every piece begins at a cache line. */
const ALIGN = 64;

export class Heap {
  readonly memory: WebAssembly.Memory;
  #end = 0;

  /** `most`: bytes it may ever have. Shared memory, so that threads can have it too. */
  constructor(most: number) {
    this.memory = new WebAssembly.Memory({ initial: 1, maximum: Math.ceil(most / PAGE), shared: true });
  }

  /** The address of `bytes` more. Throws a RangeError when there is no memory. */
  allocate(bytes: number): number {
    const start = Math.ceil(this.#end / ALIGN) * ALIGN;
    this.#end = start + bytes;
    const missing = this.#end - this.memory.buffer.byteLength;
    if (missing > 0) this.memory.grow(Math.ceil(missing / PAGE));
    return start;
  }

  /** What was allocated so far; `release` forgets what comes after it. */
  mark(): number {
    return this.#end;
  }

  release(mark: number): void {
    this.#end = mark;
  }

  get bytes(): Uint8Array<ArrayBuffer> {
    // The kernel's memory is shared; TypeScript tells such buffers from others, the typed arrays do not.
    return new Uint8Array(this.memory.buffer as unknown as ArrayBuffer);
  }

  floats(address: number, count: number): Float32Array<ArrayBuffer> {
    return new Float32Array(this.memory.buffer as unknown as ArrayBuffer, address, count);
  }

  ints(address: number, count: number): Int32Array<ArrayBuffer> {
    return new Int32Array(this.memory.buffer as unknown as ArrayBuffer, address, count);
  }

  /** The address of a copy of `values`. */
  put(values: Float32Array): number {
    const address = this.allocate(values.byteLength);
    this.floats(address, values.length).set(values);
    return address;
  }
}
