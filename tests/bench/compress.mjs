// Sizes of files as a host may send them: one JSON array of [gzip -9, brotli -q 11] for the files named, in order.
import { readFileSync } from "node:fs";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

const sizes = process.argv.slice(2).map((file) => {
  const bytes = readFileSync(file);
  const params = {
    [constants.BROTLI_PARAM_QUALITY]: 11,
    [constants.BROTLI_PARAM_LGWIN]: 22,
    [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length,
  };
  return [gzipSync(bytes, { level: 9 }).length, brotliCompressSync(bytes, { params }).length];
});
console.log(JSON.stringify(sizes));
