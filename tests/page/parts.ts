// Parts of the page that the public module does not show, bundled for the tests alone.
export { readOtherTokenizer, readTokenizer } from "../../web/src/tokenizer.ts";
export { Scanner } from "../../web/src/scan.ts";
