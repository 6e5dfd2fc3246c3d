"""Write web/src/bert_classes.ts: what the reference tokenizer takes each Unicode character for.

The classes come from the Unicode tables inside `tokenizers`, which differ from those of a browser; so they are asked
of the reference itself, one character at a time.

    python web/tools/make_bert_classes.py > web/src/bert_classes.ts
"""

from __future__ import annotations

import tokenizers
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

WORD, DROP, SPACE, PUNCTUATION, IDEOGRAPH = range(5)

# Accents are stripped, as in uncased models; the case of a letter does not change its class.
normalizer = BertNormalizer(clean_text=True, handle_chinese_chars=True, strip_accents=True, lowercase=True)
pre_tokenizer = BertPreTokenizer()


def class_of(character: str) -> int:
    normal = normalizer.normalize_str(character)
    if normal == "":
        return DROP
    if normal == " ":
        return SPACE
    if normal.startswith(" "):
        return IDEOGRAPH
    return PUNCTUATION if len(pre_tokenizer.pre_tokenize_str(f"a{character}b")) == 3 else WORD


def ranges() -> list[tuple[int, int, int]]:
    """(first, count, class) of each run of characters of one class, without the words."""
    runs: list[tuple[int, int, int]] = []
    for code in range(0x110000):
        kind = WORD if 0xD800 <= code < 0xE000 else class_of(chr(code))
        if kind == WORD:
            continue
        if runs and runs[-1][2] == kind and sum(runs[-1][:2]) == code:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1, kind)
        else:
            runs.append((code, 1, kind))
    return runs


def base36(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return digits or "0"


def main() -> None:
    words, end = [], 0
    for first, count, kind in ranges():
        words.append(f"{base36(first - end)} {base36(count)} {kind}")
        end = first + count
    print("// Made by web/tools/make_bert_classes.py. Do not edit.")
    print()
    print("/** The release of `tokenizers` that was asked. */")
    print(f'export const REFERENCE = "{tokenizers.__version__}";')
    print()
    print("/** Runs of characters: gap to the run before, length (base 36), class. Characters between are words. */")
    print("// prettier-ignore")
    print("export const CLASSES =")
    line = ""
    text = ",".join(words)
    for start in range(0, len(text), 112):
        line = text[start : start + 112]
        print(f'  "{line}"' + (" +" if start + 112 < len(text) else ";"))


if __name__ == "__main__":
    main()
