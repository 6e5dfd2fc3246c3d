// Vector stores for the browser, each used as its README says. Bundled and opened by peers.py, one on a page.
import { create, insertMultiple, save, search } from "@orama/orama";
import { EmbeddingIndex } from "client-vector-search";
import initEdgeVec, { EdgeVec, EdgeVecConfig } from "edgevec";
import { loadHnswlib } from "hnswlib-wasm";

let open; // what a peer gave: query(vector, k) -> positions, store() -> bytes or undefined (then IndexedDB is asked)

const peers = {
  async orama(rows, dim) {
    const db = create({ schema: { embedding: `vector[${dim}]` } });
    await insertMultiple(
      db,
      rows.map((row, i) => ({ id: String(i), embedding: Array.from(row) })),
    );
    return {
      // Without `similarity` it leaves out whatever is below 0.8, which would cost recall.
      async query(value, k) {
        const vector = { value: Array.from(value), property: "embedding" };
        const { hits } = await search(db, { mode: "vector", vector, similarity: 0, limit: k });
        return hits.map(({ id }) => Number(id));
      },
      store: () => new TextEncoder().encode(JSON.stringify(save(db))).length,
    };
  },

  async hnswlib(rows, dim) {
    const lib = await loadHnswlib();
    // The README's values: M 48, 128 candidates while building, 32 while searching.
    const index = new lib.HierarchicalNSW("cosine", dim, "peers.dat");
    index.initIndex(rows.length, 48, 128, 100);
    index.setEfSearch(32);
    const labels = index.addItems(rows, true);
    const places = new Map(labels.map((label, i) => [label, i]));
    return {
      query: (value, k) => index.searchKnn(value, k, undefined).neighbors.map((label) => places.get(label)),
      async store() {
        await index.writeIndex("peers.dat");
        await new Promise((done) => lib.EmscriptenFileSystemManager.syncFS(false, done));
      },
    };
  },

  async edgevec(rows, dim) {
    await initEdgeVec();
    // The default, L2, orders unit vectors as their cosine does. In 0.9.0 the metric "cosine" gives the farthest vectors
    // first, and insertBatch leaves one vector out.
    const index = new EdgeVec(new EdgeVecConfig(dim));
    const places = new Map(rows.map((row, i) => [Number(index.insert(row)), i]));
    return {
      query: (value, k) => index.search(value, k).map(({ id }) => places.get(Number(id))),
      store: () => index.save("peers"),
    };
  },

  async "client-vector-search"(rows) {
    const index = new EmbeddingIndex(rows.map((row, i) => ({ id: i, embedding: Array.from(row) })));
    return {
      query: async (value, k) => (await index.search(Array.from(value), { topK: k })).map(({ object }) => object.id),
      store: () => index.saveIndex("indexedDB"),
    };
  },
};

async function load(url, dim) {
  const all = new Float32Array(await (await fetch(url)).arrayBuffer());
  return Array.from({ length: all.length / dim }, (_, i) => all.slice(i * dim, (i + 1) * dim));
}

/** Milliseconds. */
async function build(name, url, dim) {
  const rows = await load(url, dim);
  const start = performance.now();
  open = await peers[name](rows, dim);
  return performance.now() - start;
}

/** Milliseconds of each query, and the positions found. The first `warm` of them are asked twice. */
async function ask(url, dim, k, warm, most) {
  const queries = await load(url, dim);
  for (const query of queries.slice(0, warm)) await open.query(query, k);
  const times = [];
  const found = [];
  for (const query of queries) {
    const start = performance.now();
    found.push(await open.query(query, k));
    times.push(performance.now() - start);
    if (times.reduce((sum, time) => sum + time) > most) break;
  }
  return { times, found };
}

/** Milliseconds and bytes. */
async function store() {
  const start = performance.now();
  const bytes = await open.store();
  const took = performance.now() - start;
  return { took, bytes: bytes ?? (await navigator.storage.estimate()).usageDetails?.indexedDB ?? 0 };
}

const acts = { build, ask, store };

/** Begin; `done` will be [what it gave, or undefined, why not]. Whoever waits does so from outside: none can be interrupted. */
function begin(act, ...given) {
  globalThis.done = undefined;
  setTimeout(() =>
    acts[act](...given).then(
      (value) => (globalThis.done = [value]),
      (error) => (globalThis.done = [undefined, String(error)]),
    ),
  );
}

Object.assign(globalThis, { bench: { begin } });
