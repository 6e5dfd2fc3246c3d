// The kernel as TypeScript sees it: the exports of web/kernel/encoder.ts. Addresses and counts.

export interface Kernel {
  heapBase(): number;
  packColumns(from: number, to: number, inputs: number, outputs: number, halves: boolean): void;
  packBytes(from: number, to: number, sums: number, inputs: number, outputs: number, halves: boolean): void;
  /** See `Bytes` of web/kernel/ops.ts. `at`: 32 bytes of room. */
  byteKind(at: number): number;
  packBlocks(
    from: number,
    scales: number,
    to: number,
    blocks: number,
    outputs: number,
    bits: number,
    halves: boolean,
  ): void;
  run(tape: number, state: number, thread: number, threads: number): number;
  serve(state: number, thread: number, threads: number): void;
  wake(state: number, tape: number, threads: number): void;
}

export function instantiate(module: WebAssembly.Module, memory: WebAssembly.Memory): Kernel {
  return new WebAssembly.Instance(module, { env: { memory } }).exports as unknown as Kernel;
}
