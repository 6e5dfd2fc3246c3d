// A helper of the encoder: lives inside the kernel from its first message on, until its worker ends it.

import type { Kernel } from "./encoder/encoder.ts";
import type { Start } from "./encoder/threads.ts";

self.onmessage = ({ data }: MessageEvent<Start>) => {
  const { module, memory, state, thread, threads } = data;
  const kernel = new WebAssembly.Instance(module, { env: { memory } }).exports as unknown as Kernel;
  self.postMessage("ready");
  kernel.serve(state, thread, threads);
};
