// The plugin for Vite. `vite build` needs none of it: it finds the files by themselves. `vite dev` changes each script that it
// serves, and would look in Pyodide for modules of Node; so here the files are served as they are.

import { createReadStream, readdirSync } from "node:fs";
import { extname, join } from "node:path";
import { fileURLToPath } from "node:url";

const KINDS = {
  ".js": "text/javascript",
  ".mjs": "text/javascript",
  ".json": "application/json",
  ".wasm": "application/wasm",
  ".zip": "application/zip",
};

export default function insitu() {
  const folder = fileURLToPath(new URL("./files/", import.meta.url));
  const names = new Set(readdirSync(folder, { recursive: true }).map((name) => name.replaceAll("\\", "/")));
  return {
    name: "insitu",
    // A dependency that Vite bundles ahead has no files beside it.
    config: () => ({ optimizeDeps: { exclude: ["insitu"] } }),
    configureServer({ middlewares, config }) {
      middlewares.use((request, response, next) => {
        const [, name] = /\/insitu\/files\/([^?]+)/.exec(request.url ?? "") ?? [];
        const kind = KINDS[extname(name ?? "")];
        if (!kind || !names.has(name)) return next();
        response.setHeader("Content-Type", kind);
        response.setHeader("Cache-Control", "no-cache");
        for (const [header, value] of Object.entries(config.server.headers ?? {})) response.setHeader(header, value);
        createReadStream(join(folder, name)).on("error", next).pipe(response);
      });
    },
  };
}
