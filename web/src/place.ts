// Where the files of the build are.

/** The address of a file of the build, by its name there (`ort/ort-wasm-simd-threaded.wasm`). */
export type Place = (file: string) => string;

/** `files` has an address for each file, as a bundler gives them; without it all lie in the folder `base`. */
export function placeOf(base: string, files: Readonly<Record<string, string>> | undefined): Place {
  return (file) => new URL(files?.[file] ?? file, base).href;
}
