// A binary heap of places, each with a key: the least key first, equal keys by place.

export class Heap {
  #keys: Float64Array;
  #places: Int32Array;
  #count = 0;
  /** What `pop` took out last. */
  key = 0;
  place = 0;

  constructor(capacity: number) {
    this.#keys = new Float64Array(Math.max(capacity, 16));
    this.#places = new Int32Array(this.#keys.length);
  }

  push(key: number, place: number): void {
    if (this.#count === this.#keys.length) this.#grow();
    const keys = this.#keys;
    const places = this.#places;
    let at = this.#count++;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (keys[parent]! < key || (keys[parent] === key && places[parent]! <= place)) break;
      keys[at] = keys[parent]!;
      places[at] = places[parent]!;
      at = parent;
    }
    keys[at] = key;
    places[at] = place;
  }

  /** Take out the least; false if there is none. */
  pop(): boolean {
    if (this.#count === 0) return false;
    const keys = this.#keys;
    const places = this.#places;
    this.key = keys[0]!;
    this.place = places[0]!;
    const count = --this.#count;
    const key = keys[count]!;
    const place = places[count]!;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= count) break;
      const other = child + 1;
      if (
        other < count &&
        (keys[other]! < keys[child]! || (keys[other] === keys[child] && places[other]! < places[child]!))
      )
        child = other;
      if (key < keys[child]! || (key === keys[child] && place <= places[child]!)) break;
      keys[at] = keys[child]!;
      places[at] = places[child]!;
      at = child;
    }
    keys[at] = key;
    places[at] = place;
    return true;
  }

  #grow(): void {
    const keys = new Float64Array(2 * this.#count);
    const places = new Int32Array(2 * this.#count);
    keys.set(this.#keys);
    places.set(this.#places);
    this.#keys = keys;
    this.#places = places;
  }
}
