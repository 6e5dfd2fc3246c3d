/** The URL of each file that the worker may load, by its name in the build. Written by `build.mjs`, for bundlers to read. */
export function addresses(): Record<string, string>;
