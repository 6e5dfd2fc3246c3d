// The kinds of tokenizers that have no compact vocabulary, with `@huggingface/tokenizers`. A script of its own.

import { Tokenizer as Reader } from "@huggingface/tokenizers";
import { InsituError } from "./errors.ts";
import type { Tokenizer } from "./tokenizer.ts";

/** From the text of a tokenizer.json. Code: `model-corrupt`. */
export function readOther(json: string): Tokenizer {
  let reader: Reader;
  try {
    reader = new Reader(JSON.parse(json) as object, {});
  } catch (error) {
    throw new InsituError(
      "model-corrupt",
      `tokenizer.json cannot be read (${(error as Error).message}). Export the model again.`,
    );
  }
  return {
    encode(text, ids) {
      for (const id of reader.encode(text, { add_special_tokens: false }).ids) ids.push(id);
    },
  };
}
