// Parts of the start that the public module does not show, bundled for test_start.py alone.
export { load } from "../../web/src/files.ts";
export { Store } from "../../web/src/store.ts";
export { pack, unpack } from "../../web/src/snapshot.ts";
export { checksum } from "../../web/src/checksum.ts";
