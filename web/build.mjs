// Build web/dist: the page's scripts and everything that they load, so that nothing comes from another origin.
//
//   INSITU_WHEEL=dist/insitu-….whl MICROPIP_WHEEL=….whl npm run build

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { pagePython, tryPagePython } from "./tools/page_python.mjs";

const web = dirname(fileURLToPath(import.meta.url));
const modules = join(web, "..", "node_modules");
const dist = process.env.INSITU_WEB_DIST ?? join(web, "dist");

const wheels = ["MICROPIP_WHEEL", "INSITU_WHEEL"].map((name) => {
  const path = process.env[name];
  if (path && existsSync(path)) return path;
  console.error(`${name} must be the path of a wheel, not ${path ?? "empty"}. Build all at once: python3 build.py web`);
  process.exit(1);
});

const { version } = JSON.parse(readFileSync(join(web, "../package.json"), "utf8"));

rmSync(dist, { recursive: true, force: true });
mkdirSync(dist, { recursive: true });

await build({
  entryPoints: {
    insitu: join(web, "src/index.ts"),
    worker: join(web, "src/worker.ts"),
    notebook: join(web, "src/notebook.ts"),
    tokenizer_other: join(web, "src/tokenizer_other.ts"),
    words: join(web, "src/words.ts"),
    webgpu: join(web, "src/webgpu.ts"),
    encoder_thread: join(web, "src/encoder_thread.ts"),
    search: join(web, "search/search.ts"),
  },
  outdir: dist,
  bundle: true,
  format: "esm",
  target: "es2022",
  minify: true,
  legalComments: "linked",
  // The build of onnxruntime-web whose WASM lies in files of its own.
  conditions: ["onnxruntime-web-use-extern-wasm"],
  // The search page uses the public module, as any page would.
  external: ["./insitu.js"],
  define: { VERSION: JSON.stringify(version) },
});

compileKernel("vocabulary", "vocabulary");
compileKernel("scan", "scan.plain");
compileKernel("scan", "scan.relaxed", "--enable", "relaxed-simd");
// The most that the memory may be is told when it is made (src/encoder/heap.ts).
const shared = ["--enable", "threads", "--sharedMemory", "--maximumMemory", "65536"];
compileKernel("encoder", "encoder.plain", ...shared);
compileKernel("encoder", "encoder.relaxed", ...shared, "--enable", "relaxed-simd");

copy(join(modules, "pyodide"), "pyodide", ["pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm"]);
const pythonZip = join(dist, "pyodide/python.zip");
try {
  writeFileSync(pythonZip, await pagePython(process.env.INSITU_WHEEL));
  await tryPagePython(pythonZip);
} catch (error) {
  // Node would print all of Pyodide's one long line first.
  console.error(`The page's Python could not be made: ${error.message}`);
  process.exit(1);
}
copy(join(modules, "onnxruntime-web/dist"), "ort", ["ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"]);
const jspi = ["ort-wasm-simd-threaded.jspi.mjs", "ort-wasm-simd-threaded.jspi.wasm"];
copy(join(modules, "onnxruntime-web/dist"), "webgpu", jspi);
for (const wheel of wheels) copy(dirname(wheel), "wheels", [basename(wheel)]);
copy(join(web, "search"), ".", ["search.html", "search.css"]);
copy(join(web, "licences"), "licences", readdirSync(join(web, "licences")));
writeTypes();

// The page keeps a snapshot of the interpreter that these files make: another one of any of them is another snapshot.
const interpreter = createHash("sha256");
for (const name of ["pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python.zip"]) {
  interpreter.update(readFileSync(join(dist, "pyodide", name)));
}
const lock = JSON.parse(readFileSync(join(modules, "pyodide/pyodide-lock.json"), "utf8"));
const assets = {
  python: interpreter.digest("hex"),
  lock: lock.info,
  encoder: createHash("sha256")
    .update(readFileSync(join(dist, "encoder.plain.wasm")))
    .update(readFileSync(join(dist, "encoder.relaxed.wasm")))
    .digest("hex")
    .slice(0, 16),
  bytes: { python: size("pyodide"), engine: size("ort"), encoder: statSync(join(dist, "encoder.plain.wasm")).size },
};
writeFileSync(join(dist, "assets.json"), JSON.stringify(assets, null, 1) + "\n");
console.log(`web/dist: ${(size(".") / 1e6).toFixed(1)} MB`);

/** `kernel/<source>.ts` to `<name>.wasm`. */
function compileKernel(source, name, ...more) {
  const flags = ["--enable", "simd", "--runtime", "stub", "--noAssert", "-O3", "--importMemory", ...more];
  const asc = join(modules, "assemblyscript/bin/asc.js");
  execFileSync(process.execPath, [asc, join(web, `kernel/${source}.ts`), "-o", join(dist, `${name}.wasm`), ...flags]);
}

/** `insitu.d.ts` and what it needs: imports of sources become imports of scripts, as a bundle has none of the sources. */
function writeTypes() {
  execFileSync(process.execPath, [
    join(modules, "typescript/bin/tsc"),
    "-p",
    join(web, "tsconfig.types.json"),
    "--outDir",
    join(dist, "types"),
  ]);
  for (const name of readdirSync(join(dist, "types"))) {
    const path = join(dist, "types", name);
    if (!["index.d.ts", "protocol.d.ts", "errors.d.ts", "collection_types.d.ts"].includes(name)) rmSync(path);
    else writeFileSync(path, readFileSync(path, "utf8").replace(/(from ".*)\.ts";/g, '$1.js";'));
  }
  writeFileSync(join(dist, "insitu.d.ts"), 'export * from "./types/index.js";\n');
}

function copy(from, to, names) {
  mkdirSync(join(dist, to), { recursive: true });
  for (const name of names) copyFileSync(join(from, name), join(dist, to, name));
}

function size(folder) {
  const entries = readdirSync(join(dist, folder), { recursive: true, withFileTypes: true });
  return entries.filter((e) => e.isFile()).reduce((sum, e) => sum + statSync(join(e.parentPath, e.name)).size, 0);
}
