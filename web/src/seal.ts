// Files under a passphrase: AES-256-GCM, the key by PBKDF2. The layout is in docs/collections.md, "The file".
//
// A line of JSON says how, then come pieces of 1 MiB, each sealed by itself: its nonce is its number (the key is the file's
// own), and sealed with it are that line and whether it is the last piece. So a piece that is cut off, moved, altered or
// taken from another file does not open.

import { InsituError } from "./errors.ts";

const PIECE = 1 << 20;
const TAG = 16;
/** What OWASP's cheat sheet on passwords names for PBKDF2 with SHA-256 (2023). */
const ITERATIONS = 600_000;
const MOST_ITERATIONS = 10_000_000;
const LONGEST_HEADER = 1024;
const FORMAT = "insitu-sealed";

interface Header {
  format: string;
  version: number;
  kdf: string;
  iterations: number;
  salt: string;
  cipher: string;
  piece: number;
  /** 16 bytes derived beside the key: a wrong passphrase is told from a damaged file. */
  check: string;
}

export async function seal(file: Blob, passphrase: string): Promise<Blob> {
  const salt = crypto.getRandomValues(new Uint8Array(16));
  const { key, check } = await derive(passphrase, salt, ITERATIONS);
  const header: Header = {
    format: FORMAT,
    version: 1,
    kdf: "PBKDF2-SHA-256",
    iterations: ITERATIONS,
    salt: base64(salt),
    cipher: "AES-256-GCM",
    piece: PIECE,
    check,
  };
  const line = new TextEncoder().encode(JSON.stringify(header) + "\n");
  const pieces: Blob[] = [new Blob([line])];
  const count = Math.max(1, Math.ceil(file.size / PIECE));
  for (let i = 0; i < count; i++) {
    const plain = await file.slice(i * PIECE, (i + 1) * PIECE).arrayBuffer();
    pieces.push(new Blob([await crypto.subtle.encrypt(gcm(i, i === count - 1, line), key, plain)]));
  }
  return new Blob(pieces, { type: "application/octet-stream" });
}

/** The file itself where it is not sealed. Codes: `wrong-passphrase`, `export-corrupt`, `collection-version`. */
export async function unseal(file: Blob, passphrase: string | undefined): Promise<Blob> {
  const start = new Uint8Array(await file.slice(0, LONGEST_HEADER).arrayBuffer());
  const end = start.indexOf(10) + 1;
  const header = parse(start.subarray(0, end));
  if (header?.format !== FORMAT) return file;
  if (header.version !== 1) {
    throw new InsituError(
      "collection-version",
      `The file is sealed in version ${header.version}; this release reads 1.`,
    );
  }
  if (passphrase === undefined) {
    throw new InsituError("wrong-passphrase", "The file is sealed. Give import() its `passphrase`.");
  }
  const { iterations, salt, check } = header;
  if (!Number.isInteger(iterations) || iterations < 1 || iterations > MOST_ITERATIONS || header.piece !== PIECE) {
    throw altered();
  }
  const derived = await derive(passphrase, bytes(salt), iterations);
  if (derived.check !== check) {
    throw new InsituError("wrong-passphrase", "This is not the passphrase that the file was sealed with.");
  }
  const line = start.slice(0, end);
  const pieces: Blob[] = [];
  const count = Math.max(1, Math.ceil((file.size - end) / (PIECE + TAG)));
  for (let i = 0; i < count; i++) {
    const at = end + i * (PIECE + TAG);
    const sealed = await file.slice(at, at + PIECE + TAG).arrayBuffer();
    try {
      pieces.push(new Blob([await crypto.subtle.decrypt(gcm(i, i === count - 1, line), derived.key, sealed)]));
    } catch {
      throw altered();
    }
  }
  return new Blob(pieces);
}

async function derive(
  passphrase: string,
  salt: Uint8Array<ArrayBuffer>,
  iterations: number,
): Promise<{ key: CryptoKey; check: string }> {
  if (!crypto.subtle) {
    throw new InsituError("runtime-unavailable", "Sealing needs a page that came by https, or from localhost.");
  }
  // One passphrase, however the keyboard composes its letters.
  const secret = new TextEncoder().encode(passphrase.normalize("NFC"));
  const base = await crypto.subtle.importKey("raw", secret, "PBKDF2", false, ["deriveBits"]);
  const bits = await crypto.subtle.deriveBits({ name: "PBKDF2", hash: "SHA-256", salt, iterations }, base, 384);
  const key = await crypto.subtle.importKey("raw", bits.slice(0, 32), "AES-GCM", false, ["encrypt", "decrypt"]);
  return { key, check: base64(new Uint8Array(bits.slice(32))) };
}

function gcm(number: number, last: boolean, line: Uint8Array): AesGcmParams {
  const iv = new Uint8Array(12);
  new DataView(iv.buffer).setUint32(8, number);
  const additionalData = new Uint8Array(line.length + 1);
  additionalData.set(line);
  additionalData[line.length] = last ? 1 : 0;
  return { name: "AES-GCM", iv, additionalData };
}

function parse(line: Uint8Array): Header | undefined {
  try {
    return JSON.parse(new TextDecoder().decode(line)) as Header;
  } catch {
    return undefined;
  }
}

function base64(data: Uint8Array): string {
  return btoa(String.fromCharCode(...data));
}

function bytes(text: string): Uint8Array<ArrayBuffer> {
  try {
    return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  } catch {
    throw altered();
  }
}

function altered(): InsituError {
  return new InsituError("export-corrupt", "The file is cut or was altered. Nothing was imported. Take another copy.");
}
