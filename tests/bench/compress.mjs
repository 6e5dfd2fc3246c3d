// The size of a file as a host may send it: a JSON array, [gzip -9, brotli -q 11].
import { readFileSync } from "node:fs";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

const bytes = readFileSync(process.argv[2]);
const params = {
  [constants.BROTLI_PARAM_QUALITY]: 11,
  [constants.BROTLI_PARAM_LGWIN]: 22,
  [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length,
};
console.log(JSON.stringify([gzipSync(bytes, { level: 9 }).length, brotliCompressSync(bytes, { params }).length]));
