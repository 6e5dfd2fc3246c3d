"""The bytes of a page to its text, in the encoding that a browser would choose, strictly."""

from __future__ import annotations

import codecs
import re

from insitu.errors import WrongEncoding

_META_CHARSET = re.compile(rb"""<meta[^>]*?charset\s*=\s*["']?\s*([^\s"'/>;]+)""", re.IGNORECASE)
# What browsers read under these labels (WHATWG Encoding), in Python's names.
_LABELS = {
    "ascii": "cp1252", "us-ascii": "cp1252", "latin1": "cp1252", "iso-8859-1": "cp1252", "iso8859-1": "cp1252",
    "iso-8859-9": "cp1254", "shift_jis": "cp932", "shift-jis": "cp932", "sjis": "cp932", "x-sjis": "cp932",
    "gb2312": "gb18030", "gbk": "gb18030", "euc-kr": "cp949", "ks_c_5601-1987": "cp949", "big5": "big5hkscs",
    "utf-16": "utf-8", "utf-16le": "utf-8", "utf-16be": "utf-8",
}  # fmt: skip
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


def decode(data: bytes, url: str, encoding: str | None = None) -> str:
    """The text of a page: `encoding` if given, else by byte order mark, else by its meta charset, else UTF-8."""
    declared = encoding
    why = "as asked for"
    if declared is None:
        for bom, name in _BOMS:
            if data.startswith(bom):
                data, declared, why = data[len(bom) :], name, "as its byte order mark says"
                break
    elif data.startswith(codecs.BOM_UTF8) and declared.lower().replace("_", "-") in ("utf-8", "utf8"):
        data = data[len(codecs.BOM_UTF8) :]
    if declared is None:
        match = _META_CHARSET.search(data[:4096])
        if match:
            label = match[1].decode("ascii", "replace").lower()
            declared, why = _LABELS.get(label, label), f"as its meta charset {label!r} says"
        else:
            declared, why = "utf-8", "as pages without a declared charset must be"
    try:
        return data.decode(declared)
    except LookupError:
        raise WrongEncoding(
            f"{url}: there is no encoding {declared!r} ({why}). Correct the page, or name its encoding: "
            "--encoding NAME."
        ) from None
    except UnicodeError as error:
        where = f" at byte {error.start}" if isinstance(error, UnicodeDecodeError) else ""
        raise WrongEncoding(
            f"{url}: not {declared}, {why} (bad bytes{where}). Save the page as UTF-8, correct its meta charset, name "
            "the encoding of such pages (--encoding NAME), or leave the page out (--exclude PATTERN)."
        ) from None
