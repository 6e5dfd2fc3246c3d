/** The npm package: `open()` as in `../src/index.ts`, with the files of the build where the bundler put them. */

import { open as openFrom, type Insitu, type OpenOptions } from "../src/index.ts";
import { addresses } from "./addresses.js";

export { InsituError } from "../src/index.ts";

/** See `open` in `../src/index.ts`. With `base` the files are those of a folder that you copied; else the bundler's. */
export function open(options: OpenOptions = {}): Promise<Insitu> {
  return openFrom(options.base === undefined ? { files: addresses(), ...options } : options);
}
