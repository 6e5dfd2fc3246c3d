// The page's end of the worker. Every call ends: by its result, an error, an abort, the worker's death, or a worker that
// gives no sign of life while it starts.

import { InsituError, aborted } from "./errors.ts";
import type { Calls, Loading, Method, Reply, Request } from "./protocol.ts";

interface Pending {
  resolve(value: unknown): void;
  reject(error: unknown): void;
  onProgress: ((done: number, total: number) => void) | undefined;
}

export interface CallOptions {
  signal?: AbortSignal | undefined;
  onProgress?: ((done: number, total: number) => void) | undefined;
}

export class Client {
  #worker: Worker;
  #pending = new Map<number, Pending>();
  #nextId = 1;
  #dead: InsituError | undefined;
  #watch: ReturnType<typeof setTimeout> | undefined;
  #silence: number;
  #onLoading: (loading: Loading) => void;

  /** `silence`: milliseconds without a message from the worker, while it starts, after which it counts as failed. */
  constructor(url: string, silence: number, onLoading: (loading: Loading) => void) {
    this.#silence = silence;
    this.#onLoading = onLoading;
    this.#worker = new Worker(url, { type: "module", name: "insitu" });
    this.#worker.onmessage = (event: MessageEvent<Reply>) => this.#receive(event.data);
    this.#worker.onmessageerror = () => this.#die("worker-died", "A message of the worker could not be read.");
    this.#worker.onerror = (event) => {
      event.preventDefault();
      // A script that cannot be loaded gives an event without a message.
      const cause = event.message || `${url} could not be loaded`;
      this.#die("runtime-unavailable", `The worker failed: ${cause}. Check that all files of the build are served.`);
    };
    this.#sign();
  }

  /** Ends the watch for signs of life: from here on a call may take as long as it takes. */
  started(): void {
    clearTimeout(this.#watch);
    this.#watch = undefined;
    this.#silence = 0;
  }

  call<M extends Method>(method: M, args: Calls[M]["args"], options: CallOptions = {}): Promise<Calls[M]["result"]> {
    const { signal, onProgress } = options;
    if (this.#dead) return Promise.reject(this.#dead);
    if (signal?.aborted) return Promise.reject(aborted());
    const id = this.#nextId++;
    return new Promise<unknown>((resolve, reject) => {
      const onAbort = (): void => {
        this.#pending.get(id)?.reject(aborted());
        this.#post({ type: "cancel", id });
      };
      const end = (): void => {
        signal?.removeEventListener("abort", onAbort);
        this.#pending.delete(id);
      };
      this.#pending.set(id, {
        resolve: (value) => (end(), resolve(value)),
        reject: (error) => (end(), reject(error)),
        onProgress,
      });
      signal?.addEventListener("abort", onAbort);
      this.#post({ type: "call", id, method, args } as Request);
    }) as Promise<Calls[M]["result"]>;
  }

  close(): void {
    this.#die("closed", "This was closed. Open it again.");
  }

  #post(request: Request): void {
    this.#worker.postMessage(request);
  }

  #receive(reply: Reply): void {
    this.#sign();
    switch (reply.type) {
      case "hello":
        if (reply.lock) this.#watchLock(reply.lock);
        return;
      case "loading":
        return this.#onLoading(reply.loading);
      case "progress":
        return this.#pending.get(reply.id)?.onProgress?.(reply.done, reply.total);
      case "result":
        return this.#pending.get(reply.id)?.resolve(reply.value);
      case "error": {
        const { code, message, name } = reply.error;
        return this.#pending.get(reply.id)?.reject(new InsituError(code, message, name));
      }
    }
  }

  /** The worker holds a lock as long as it lives; that we get it is the only certain sign that it is gone. */
  #watchLock(name: string): void {
    navigator.locks
      .request(name, () => this.#die("worker-died", "The worker ended, perhaps for lack of memory. Open it again."))
      .catch(() => undefined); // the page itself is going away
  }

  #sign(): void {
    clearTimeout(this.#watch);
    if (this.#silence === 0 || this.#dead) return;
    const seconds = this.#silence / 1000;
    const message = `The worker gave no sign of life for ${seconds} s while it started. Load the page again.`;
    this.#watch = setTimeout(() => this.#die("runtime-unavailable", message), this.#silence);
  }

  #die(code: string, message: string): void {
    if (this.#dead) return;
    this.#dead = new InsituError(code, message);
    clearTimeout(this.#watch);
    this.#worker.terminate();
    for (const call of [...this.#pending.values()]) call.reject(this.#dead);
  }
}
