import type { Loading, Part, Stats } from "./protocol.ts";

/** What is loaded, by part, and when each step began and ended. */
export class Progress {
  readonly steps: Stats["steps"] = {};
  #parts = new Map<Part, Loading>();
  #onChange: (loading: Loading) => void;
  #origin: number;
  #lastMark: number;

  /** `clock`: that of the page, on which all steps are told; the worker's own begins later. */
  constructor(onChange: (loading: Loading) => void, clock: { origin: number; opened: number }) {
    this.#onChange = onChange;
    this.#origin = clock.origin;
    this.#lastMark = clock.opened;
    this.mark("worker");
  }

  /** `bytes` more belong to `part`. */
  expect(part: Part, bytes: number): void {
    this.#of(part).total += bytes;
    this.#tell(part);
  }

  add(part: Part, bytes: number): void {
    this.#of(part).loaded += bytes;
    this.#tell(part);
  }

  /** All of `part` is there: for parts whose bytes cannot be watched as they come. */
  complete(part: Part): void {
    this.#of(part).loaded = this.#of(part).total;
    this.#tell(part);
  }

  pending(part: Part): number {
    const { loaded, total } = this.#of(part);
    return total - loaded;
  }

  /** Records when `work` ends. */
  async step<T>(name: string, work: Promise<T>): Promise<T> {
    const start = this.#now();
    const value = await work;
    this.steps[name] = { start, took: this.#now() - start };
    return value;
  }

  /** A step of a row, each of which begins where the one before ended. */
  mark(name: string): void {
    const now = this.#now();
    this.steps[name] = { start: this.#lastMark, took: now - this.#lastMark };
    this.#lastMark = now;
  }

  #now(): number {
    return performance.timeOrigin + performance.now() - this.#origin;
  }

  #of(part: Part): Loading {
    let loading = this.#parts.get(part);
    if (!loading) this.#parts.set(part, (loading = { part, loaded: 0, total: 0 }));
    return loading;
  }

  #tell(part: Part): void {
    this.#onChange({ ...this.#of(part) });
  }
}
