// The npm package, from web/dist: node web/npm/build.mjs FOLDER lays it out, for `npm pack FOLDER`.

import { cpSync, copyFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const dist = join(here, "..", "dist");
const out = process.argv[2];

// The search page belongs to a site's index, which `insitu index` writes.
const left = (name) => name.startsWith("search.");

rmSync(out, { recursive: true, force: true });
cpSync(dist, join(out, "files"), { recursive: true, filter: (path) => !left(relative(dist, path)) });
for (const name of ["package.json", "README.md", "vite.js", "vite.d.ts"])
  copyFileSync(join(here, name), join(out, name));
for (const name of ["LICENSE", "NOTICE"]) copyFileSync(join(here, "../..", name), join(out, name));
await build({
  entryPoints: [join(here, "index.ts")],
  outfile: join(out, "index.js"),
  bundle: true,
  format: "esm",
  target: "es2022",
  external: ["./addresses.js"],
});
writeFileSync(join(out, "addresses.js"), addresses());

/**
 * The module that bundlers read: they find `new URL("...", import.meta.url)`, and only where the name is written out.
 *
 * Some make small files part of the script; `?no-inline` tells Vite not to, since a worker or a `fetch` of a data: URL is
 * another origin. It is no part of the address.
 */
function addresses() {
  const files = readdirSync(join(out, "files"), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(join(out, "files"), join(entry.parentPath, entry.name)).replaceAll("\\", "/"))
    .filter((name) => isLoaded(name))
    .sort();
  const lines = files.map((name) => {
    const url = `new URL(${JSON.stringify(`./files/${name}?no-inline`)}, import.meta.url)`;
    return `    ${JSON.stringify(name)}: bare(${url}),`;
  });
  return [
    'const bare = (url) => ((url.search = url.search.replace(/^\\?no-inline$/, "")), url.href);',
    "export function addresses() {",
    "  return {",
    ...lines,
    "  };",
    "}",
    "",
  ].join("\n");
}

/** What the worker loads: the rest is for readers, for notebooks, or for pages without a bundler. */
function isLoaded(name) {
  return !/^(wheels|licences|types)\/|\.txt$|\.d\.ts$|^(insitu|notebook)\.js$/.test(name);
}
