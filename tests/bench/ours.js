// insitu in the page, as its users call it. See ours.py.

let insitu;
let search;

async function open({ base, threads, model, index, rows, engine }) {
  const { open } = await import(`${base}/insitu.js`);
  const options = { base: `${base}/`, threads };
  if (model) options.model = model;
  if (index) options.index = index;
  if (rows) options.rows = rows;
  if (engine) options.engine = engine;
  insitu = await open(options);
  search = index !== undefined;
  return insitu.stats();
}

/** Milliseconds for each text, embedded alone as a query. */
async function each(texts) {
  const times = [];
  for (const text of texts) {
    const start = performance.now();
    await insitu.embed([text], { task: "query" });
    times.push(performance.now() - start);
  }
  return times;
}

/** Milliseconds for all texts in one call. */
async function bulk(texts) {
  const start = performance.now();
  await insitu.embed(texts);
  return performance.now() - start;
}

/** From an empty page to the first answer: milliseconds since the navigation began, and what came. */
async function first(options, question) {
  const stats = await open(options);
  const opened = performance.now();
  const answer = search ? await insitu.search(question, { k: 5 }) : await insitu.embed([question], { task: "query" });
  return { opened, answered: performance.now(), hits: answer.length, stats };
}

/** All that goes on after the first answer, so that the next visit finds it. */
async function settled() {
  while (!(await insitu.stats()).settled) await new Promise((done) => setTimeout(done, 50));
}

/** Tell the server how the first visit goes on: nobody else is there to ask. */
async function tell(first) {
  const say = (what) => fetch(`/told?${encodeURIComponent(JSON.stringify(what))}`, { cache: "no-store" });
  try {
    await say({ answered: (await first).answered });
    await settled();
    await say({ settled: true });
    await say({ counted: (await performance.measureUserAgentSpecificMemory()).bytes });
  } catch (error) {
    await say({ error: String(error) });
  }
}

globalThis.bench = { tell, settled, open, each, bulk, first };
