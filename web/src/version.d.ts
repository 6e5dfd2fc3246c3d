/** The release, written in by `build.mjs`. */
declare const VERSION: string;
