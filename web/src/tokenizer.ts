// Texts to token ids: from the compact vocabulary where the model has one, else with `@huggingface/tokenizers`.

import type { Bytes } from "./download.ts";
import { InsituError } from "./errors.ts";
import type { Place } from "./place.ts";
import { Bpe } from "./tokenizer_bpe.ts";
import { Vocabulary } from "./tokenizer_vocabulary.ts";
import { WordPiece } from "./tokenizer_wordpiece.ts";

export interface Tokenizer {
  /**
   * Append the ids of `text` to `ids`. Special tokens are not added, but found where the text spells them. What follows
   * the first `limit` ids of the text may be left out; those are the same without it.
   */
  encode(text: string, ids: number[], limit?: number): void;
}

/** From a vocabulary file; its kernel is fetched beside it. Code: `model-corrupt`. */
export async function readTokenizer(file: Promise<Bytes>, place: Place): Promise<Tokenizer> {
  const [bytes, kernel] = await Promise.all([file, Vocabulary.kernel(place)]);
  const vocabulary = await Vocabulary.read(bytes, kernel);
  const { kind } = vocabulary.header;
  if (kind === "bpe") return new Bpe(vocabulary);
  if (kind === "wordpiece") return new WordPiece(vocabulary);
  throw new InsituError("model-corrupt", `The vocabulary is of the kind ${kind}, which this release does not know.`);
}

/**
 * From a tokenizer.json, for kinds that the vocabulary file does not hold. The library lies in a file of its own, so
 * that only who needs it loads it. Code: `model-corrupt`.
 */
export async function readOtherTokenizer(bytes: Uint8Array, place: Place): Promise<Tokenizer> {
  const url = place("tokenizer_other.js");
  const { readOther } = (await import(/* @vite-ignore */ url)) as typeof import("./tokenizer_other.ts");
  return readOther(new TextDecoder().decode(bytes));
}
