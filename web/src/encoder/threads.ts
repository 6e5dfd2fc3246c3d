// The threads of the encoder: this worker, and helpers that sleep inside the kernel until there is a tape.

import type { Place } from "../place.ts";
import type { Kernel } from "./kernel.ts";

/** What a helper gets first; it answers with one message when it stands. */
export interface Start extends Shared {
  thread: number;
  threads: number;
}

/** What all threads have. `state`: the address of 16 bytes, zeros at first. */
interface Shared {
  module: WebAssembly.Module;
  memory: WebAssembly.Memory;
  state: number;
}

/** Milliseconds after which a helper that does not stand is done without. */
const PATIENCE = 10_000;

export class Threads {
  #kernel: Kernel;
  #helpers: Worker[];
  #state: number;

  private constructor(kernel: Kernel, helpers: Worker[], state: number) {
    this.#kernel = kernel;
    this.#helpers = helpers;
    this.#state = state;
  }

  get count(): number {
    return this.#helpers.length + 1;
  }

  /** Up to `wanted` threads: one where helpers cannot be had. */
  static async start(kernel: Kernel, shared: Shared, place: Place, wanted: number): Promise<Threads> {
    const helpers = Array.from({ length: wanted - 1 }, () => {
      return new Worker(place("encoder_thread.js"), { type: "module", name: "insitu encoder" });
    });
    try {
      await Promise.all(
        helpers.map((helper, i) => {
          helper.postMessage({ ...shared, thread: i + 1, threads: wanted } satisfies Start);
          return new Promise((resolve, reject) => {
            helper.onmessage = resolve;
            helper.onerror = (event) => (event.preventDefault(), reject(new Error(event.message)));
            setTimeout(reject, PATIENCE, new Error("a thread did not start"));
          });
        }),
      );
    } catch (error) {
      console.warn(`insitu: one thread instead of ${wanted}: ${(error as Error).message}`);
      for (const helper of helpers.splice(0)) helper.terminate();
    }
    return new Threads(kernel, helpers, shared.state);
  }

  /** Run the tape at this address with all threads. Throws an Error if one is dead. */
  run(tape: number): void {
    if (this.count > 1) this.#kernel.wake(this.#state, tape, this.count);
    if (!this.#kernel.run(tape, this.#state, 0, this.count)) throw new Error("a thread of the encoder does not answer");
  }

  close(): void {
    for (const helper of this.#helpers) helper.terminate();
  }
}
