// The search page: a box, and the passages nearest to what is in it. The only module that touches the DOM.
//
// Texts of the index are data: they reach the page as text nodes, and addresses only as paths of this site.

import { open, type Hit, type Insitu, type Loading, type Part } from "./insitu.js";

/** Milliseconds without a key after which typing counts as settled. */
const SETTLED = 120;
const HITS = 10;
const PARTS: Record<Part, string> = {
  python: "Python",
  engine: "Model runtime",
  model: "Model",
  index: "Index",
  texts: "Texts",
};

const element = <T extends HTMLElement>(id: string): T => document.getElementById(id) as T;
const form = element<HTMLFormElement>("form");
const input = element<HTMLInputElement>("query");
const status = element("status");
const error = element("error");
const loading = element("loading");
const list = element<HTMLOListElement>("hits");

// The files of the page lie in a folder of the site; addresses of hits are relative to the site.
const site = new URL("../", import.meta.url);

let insitu: Insitu | undefined;
let running: AbortController | undefined;
let timer: ReturnType<typeof setTimeout> | undefined;
let answered = "";

input.value = new URLSearchParams(location.search).get("q") ?? "";
form.addEventListener("submit", (event) => {
  event.preventDefault();
  void ask();
});
input.addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(ask, SETTLED);
});
input.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    input.value = "";
    void ask();
  } else if (event.key === "ArrowDown") {
    if (move(-1, 1)) event.preventDefault();
  }
});
list.addEventListener("keydown", (event) => {
  const step = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
  if (step && move([...list.querySelectorAll("a")].indexOf(event.target as HTMLAnchorElement), step)) {
    event.preventDefault();
  }
});

void start();

async function start(): Promise<void> {
  status.textContent = "Loading. You can type already.";
  try {
    insitu = await open({ variant: "auto", onProgress: showLoading });
    const { count, title } = await insitu.stats();
    if (title) element("title").textContent = document.title = `Search ${title}`;
    status.textContent = `Ready: ${count.toLocaleString()} passages.`;
    await ask();
  } catch (cause) {
    status.textContent = "";
    loading.hidden = true;
    showError(cause);
  }
}

async function ask(): Promise<void> {
  clearTimeout(timer);
  const query = input.value.trim();
  if (!insitu || query === answered) return;
  answered = query;
  running?.abort();
  error.hidden = true;
  list.setAttribute("aria-busy", "false");
  history.replaceState(null, "", query ? `?q=${encodeURIComponent(query)}` : location.pathname);
  if (!query) {
    list.replaceChildren();
    status.textContent = "";
    return;
  }
  const controller = (running = new AbortController());
  list.setAttribute("aria-busy", "true");
  const began = performance.now();
  try {
    const hits = await insitu.search(query, { k: HITS, signal: controller.signal });
    if (controller.signal.aborted) return;
    list.replaceChildren(...hits.map(item));
    const took = performance.now() - began;
    const passages = hits.length === 1 ? "1 passage" : `${hits.length} passages`;
    status.textContent = hits.length ? `${passages} in ${took.toFixed(0)} ms` : "Nothing is indexed here.";
  } catch (cause) {
    if (controller.signal.aborted) return;
    answered = ""; // the same question may be asked again
    list.replaceChildren();
    status.textContent = "";
    showError(cause);
  }
  if (running === controller) list.setAttribute("aria-busy", "false");
}

function item(hit: Hit): HTMLLIElement {
  const li = document.createElement("li");
  const link = document.createElement("a");
  link.href = address(hit.url);
  link.textContent = hit.heading || hit.title || hit.url;
  const page = document.createElement("div");
  page.className = "page";
  page.textContent = hit.heading && hit.title !== hit.heading ? `${hit.title} · ${hit.url}` : hit.url;
  const text = document.createElement("p");
  text.className = "text";
  text.textContent = hit.text;
  li.append(link, page, text);
  return li;
}

/** An address of this site. An index that names another (`javascript:` too) leads to its root. */
function address(url: string): string {
  const target = URL.parse(url, site);
  return target && target.origin === site.origin && target.protocol === site.protocol ? target.href : site.href;
}

/** Focus the link `step` after the one at `from`; before the first is the box. */
function move(from: number, step: number): boolean {
  const links = list.querySelectorAll("a");
  const to = from + step;
  if (to < 0) input.focus();
  else links[to]?.focus();
  return to < 0 || to < links.length;
}

function showLoading({ part, loaded, total }: Loading): void {
  let bar = loading.querySelector<HTMLProgressElement>(`#loading-${part}`);
  if (!bar) {
    const label = document.createElement("label");
    label.textContent = PARTS[part];
    bar = document.createElement("progress");
    bar.id = label.htmlFor = `loading-${part}`;
    loading.append(label, bar, document.createElement("span"));
  }
  bar.max = Math.max(total, 1);
  bar.value = loaded;
  const done = loaded >= total;
  bar.nextElementSibling!.textContent = done ? "done" : `${mega(loaded)} of ${mega(total)} MB`;
  bar.dataset["done"] = String(done);
  loading.hidden = loading.querySelector('[data-done="false"]') === null;
}

function mega(bytes: number): string {
  return (bytes / 1e6).toFixed(1);
}

function showError(cause: unknown): void {
  error.textContent = cause instanceof Error ? cause.message : String(cause);
  error.hidden = false;
}
