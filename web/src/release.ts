// Large buffers that nobody reads again, given back at once: garbage collection may come minutes later, and until then a tab
// holds them beside what was made of them (DESIGN.md, "Memory").

import type { Bytes } from "./download.ts";

/**
 * `bytes`, and whatever shares their buffer, are empty from here on.
 *
 * They are sent to nobody. `ArrayBuffer.prototype.transfer(0)` frees what only scripts have seen; what was given to a part of
 * the browser once (a digest, a response) it leaves with that part's object until that is collected. So measured in Chromium 156.
 */
export function release({ buffer }: Bytes): void {
  const { port1, port2 } = new MessageChannel();
  port2.close();
  if (buffer.byteLength) port1.postMessage(undefined, [buffer]);
  port1.close();
}
