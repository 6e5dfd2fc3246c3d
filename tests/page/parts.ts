// Parts of the page that the public module does not show, bundled for the tests alone.
export { Heap } from "../../web/src/tokenizer_heap.ts";
export { readOtherTokenizer, readTokenizer } from "../../web/src/tokenizer.ts";
export { Scanner, coarse, fine } from "../../web/src/scan.ts";
export { release } from "../../web/src/release.ts";
export { readRow, recordBytes } from "../../web/src/row_codes.ts";
export { openRows } from "../../web/src/rows.ts";
export { Store } from "../../web/src/store.ts";
export { GrowingCodes } from "../../web/src/growing.ts";
export { Clusters } from "../../web/src/clusters.ts";
