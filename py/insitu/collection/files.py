"""Exports as files of CPython, sealed or not. Sealed ones are those of web/src/seal.ts; see docs/collections.md.

Their cipher is that of the package `cryptography`, which is installed with the extra `sealed`.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import unicodedata
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from insitu.collection.exchange import Read, export_collection
from insitu.collection.store import Store
from insitu.errors import (
    CollectionVersion,
    DiskFull,
    ExportCorrupt,
    InvalidArgument,
    ReadFailed,
    RuntimeUnavailable,
    WriteFailed,
    WrongPassphrase,
)
from insitu.text.clean import well_formed

PIECE, TAG = 1 << 20, 16
# What OWASP's cheat sheet on passwords names for PBKDF2 with SHA-256 (2023).
ITERATIONS, MOST_ITERATIONS = 600_000, 10_000_000
LONGEST_HEADER = 1024
FORMAT = "insitu-sealed"


async def write_export(store: Store, path: Path, passphrase: str | None = None) -> None:
    """Write an export of `store`; what was at `path` before stays until it is whole."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as file:
            sealing = None if passphrase is None else Sealing(file, passphrase)
            async for piece in export_collection(store):
                (sealing or file).write(piece)
            if sealing:
                sealing.close()
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        kind = DiskFull if error.errno == errno.ENOSPC else WriteFailed
        raise kind(f"{path} cannot be written ({error.strerror}).") from error
    finally:
        beside.unlink(missing_ok=True)


def source_of(path: Path, passphrase: str | None = None) -> tuple[Read, int]:
    """How an import reads a file, and its size. Raises `ReadFailed`, and what opening a sealed one raises."""
    try:
        size = path.stat().st_size
        file = path.open("rb")
        line = file.readline(LONGEST_HEADER)
    except OSError as error:
        raise ReadFailed(f"{path} cannot be read ({error.strerror}).") from error
    unsealed = Unsealed(file, size, line, passphrase) if is_sealed(line) else None

    async def read(start: int, count: int) -> bytes:
        if unsealed:
            return unsealed.read(start, count)
        file.seek(start)
        return file.read(count)

    return read, unsealed.size if unsealed else size


class Sealing:
    """Writes a sealed file to `file`, piece by piece; `close` writes the last one and leaves `file` open."""

    def __init__(self, file: BinaryIO, passphrase: str) -> None:
        salt = os.urandom(16)
        cipher, check = _derive(passphrase, salt, ITERATIONS)
        header = {"format": FORMAT, "version": 1, "kdf": "PBKDF2-SHA-256", "iterations": ITERATIONS}
        header |= {"salt": b64encode(salt).decode(), "cipher": "AES-256-GCM", "piece": PIECE, "check": check}
        self._line = json.dumps(header).encode() + b"\n"
        self._file, self._encrypt = file, cipher.encrypt
        self._number, self._held = 0, b""
        file.write(self._line)

    def write(self, data: bytes) -> None:
        self._held += data
        while len(self._held) > PIECE:  # what may be the last piece is kept back
            self._piece(last=False)

    def close(self) -> None:
        self._piece(last=True)

    def _piece(self, *, last: bool) -> None:
        plain, self._held = self._held[:PIECE], self._held[PIECE:]
        self._file.write(_apply(self._encrypt, self._line, self._number, last, plain))
        self._number += 1


class Unsealed:
    """The plain bytes of a sealed file, `size` of them, opened a piece at a time."""

    def __init__(self, file: BinaryIO, sealed_size: int, line: bytes, passphrase: str | None) -> None:
        try:
            header = json.loads(line)
            version, iterations, salt = header["version"], header["iterations"], b64decode(header["salt"])
            good = version != 1 or (header["piece"] == PIECE and 0 < iterations <= MOST_ITERATIONS)
        except (KeyError, TypeError, ValueError):
            good = False
        if not good:
            raise _altered()
        if version != 1:
            raise CollectionVersion(f"The file is sealed in version {version}; this release reads 1.")
        if passphrase is None:
            raise WrongPassphrase("The file is sealed. Give import_file() its `passphrase`.")
        cipher, check = _derive(passphrase, salt, iterations)
        if check != header.get("check"):
            raise WrongPassphrase("This is not the passphrase that the file was sealed with.")
        self._file, self._line, self._decrypt = file, line, cipher.decrypt
        self._count = max(1, -(-(sealed_size - len(line)) // (PIECE + TAG)))
        self.size = max(0, sealed_size - len(line) - self._count * TAG)
        self._open = (-1, b"")

    def read(self, start: int, count: int) -> bytes:
        """As of a file: what there is from `start` on, at most `count`."""
        found = []
        while count > 0 and start < self.size:
            number, skip = divmod(start, PIECE)
            part = self._piece(number)[skip : skip + count]
            found.append(part)
            start, count = start + len(part), count - len(part)
        if not self.size:
            self._piece(0)
        return b"".join(found)

    def _piece(self, number: int) -> bytes:
        if self._open[0] != number:
            self._file.seek(len(self._line) + number * (PIECE + TAG))
            sealed = self._file.read(PIECE + TAG)
            try:
                plain = _apply(self._decrypt, self._line, number, number == self._count - 1, sealed)
            except Exception as error:  # InvalidTag, or too short to hold one
                raise _altered() from error
            self._open = (number, plain)
        return self._open[1]


def is_sealed(line: bytes) -> bool:
    try:
        return bool(json.loads(line)["format"] == FORMAT)
    except (KeyError, TypeError, ValueError):
        return False


def _derive(passphrase: str, salt: bytes, iterations: int) -> tuple[Any, str]:
    if not isinstance(passphrase, str) or not passphrase:
        raise InvalidArgument("The passphrase is no string, or an empty one. Leave it out for none.")
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as error:
        raise RuntimeUnavailable(
            'Sealed exports need the package cryptography: pip install "insitu[sealed]". Without it, export and import '
            "with no passphrase, or in the page."
        ) from error
    # One passphrase, however the keyboard composes its letters.
    secret = well_formed(unicodedata.normalize("NFC", passphrase)).encode()
    bits = hashlib.pbkdf2_hmac("sha256", secret, salt, iterations, 48)
    return AESGCM(bits[:32]), b64encode(bits[32:]).decode()


def _apply(cipher: Callable[..., bytes], line: bytes, number: int, last: bool, data: bytes) -> bytes:
    return cipher(number.to_bytes(12, "big"), data, line + bytes([last]))


def _altered() -> ExportCorrupt:
    return ExportCorrupt("The file is cut or was altered. Nothing was imported. Take another copy.")
