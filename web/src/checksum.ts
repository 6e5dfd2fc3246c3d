/**
 * A sum over all bytes, to tell whether what was stored came back as it was. Not a hash against intent: SHA-256 stands for
 * that, once, when a file is downloaded. It takes fifteen times as long here, in the thread that is needed for the start.
 *
 * Each step maps the sum so far one to one, so no change of a single word is lost.
 */
export function checksum(bytes: Uint8Array<ArrayBuffer>): string {
  // Views of words begin at multiples of four; whatever does not is copied.
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice();
  const words = new Uint32Array(aligned.buffer, aligned.byteOffset, aligned.length >> 2);
  // Four sums side by side, as a processor has more than one multiplier. The constants are odd: those of xxHash32.
  let a = bytes.length;
  let b = 0x9e3779b1;
  let c = 0x85ebca77;
  let d = 0xc2b2ae3d;
  const whole = words.length & ~3;
  for (let i = 0; i < whole; i += 4) {
    a = mix(a, words[i]!);
    b = mix(b, words[i + 1]!);
    c = mix(c, words[i + 2]!);
    d = mix(d, words[i + 3]!);
  }
  for (let i = whole; i < words.length; i++) a = mix(a, words[i]!);
  for (const byte of aligned.subarray(words.length * 4)) b = mix(b, byte);
  return [a, b, c, d].map((sum) => (sum >>> 0).toString(16).padStart(8, "0")).join("");
}

function mix(sum: number, word: number): number {
  const product = Math.imul(sum ^ word, 0x9e3779b1);
  return (product << 13) | (product >>> 19);
}
