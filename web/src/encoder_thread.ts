// A helper of the encoder: lives inside the kernel from its first message on, until its worker ends it.

import { instantiate } from "./encoder/kernel.ts";
import type { Start } from "./encoder/threads.ts";

self.onmessage = ({ data }: MessageEvent<Start>) => {
  const { module, memory, state, thread, threads } = data;
  const kernel = instantiate(module, memory);
  self.postMessage("ready");
  kernel.serve(state, thread, threads);
};
