// The Python of the page as one zip, made by the very interpreter that will run it. See page_python.py.

import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { loadPyodide } from "pyodide";

const tools = dirname(fileURLToPath(import.meta.url));
const ZIP = "/tmp/python.zip";

/** The zip for a page that imports `insitu.bridge` of the wheel at `wheel`. */
export async function pagePython(wheel) {
  const python = await loadPyodide();
  python.unpackArchive(new Uint8Array(readFileSync(wheel)), "wheel");
  python.FS.writeFile("/home/pyodide/page_python.py", readFileSync(join(tools, "page_python.py")));
  python.runPython(`import insitu.bridge, page_python; page_python.write("${ZIP}")`);
  return python.FS.readFile(ZIP);
}

/** Start an interpreter from the zip at `path` and import the bridge: fails if a module is missing. */
export async function tryPagePython(path) {
  const python = await loadPyodide({ stdLibURL: path });
  python.runPython("import insitu.bridge, asyncio, traceback");
}
