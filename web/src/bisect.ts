/** The last of `count` places for which `holds` does, where it holds for some first ones; 0 if for none. */
export function last(count: number, holds: (place: number) => boolean): number {
  let [low, high] = [0, count - 1];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (holds(middle)) low = middle;
    else high = middle - 1;
  }
  return low;
}
