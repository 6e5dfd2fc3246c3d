// A notebook page of a stranger's: Pyodide from npm in the page or in a worker, our wheel installed by micropip.

export async function start(wheels) {
  const { loadPyodide } = await import("/notebook/pyodide.mjs");
  const py = await loadPyodide({ indexURL: "/notebook/", packageBaseUrl: "/notebook/" });
  await py.loadPackage(wheels.micropip, { checkIntegrity: false, messageCallback: () => undefined });
  await py.runPythonAsync("import micropip, sys, io; sys.stdout = io.StringIO()");
  /** Runs `code`; gives what it printed since the last call, or the class, code and message of its error. */
  return async (code) => {
    py.globals.set("given", code);
    return py.runPythonAsync(`
from pyodide.code import eval_code_async
try:
    await eval_code_async(given, globals())
    printed = sys.stdout.getvalue()
except Exception as error:
    if not hasattr(error, "code"):
        raise
    printed = f"{type(error).__name__} {error.code}: {error}"
sys.stdout = io.StringIO()
printed`);
  };
}

if (!("document" in globalThis)) {
  let run;
  onmessage = async ({ data: { wheels, code } }) => {
    try {
      if (wheels) run = await start(wheels);
      postMessage({ printed: code ? await run(code) : "" });
    } catch (error) {
      postMessage({ failed: String(error) });
    }
  };
}

/** `start` in a module worker. */
export async function startWorker(wheels) {
  const worker = new Worker(import.meta.url, { type: "module" });
  const ask = (message) =>
    new Promise((resolve, reject) => {
      worker.onmessage = ({ data }) => ("failed" in data ? reject(new Error(data.failed)) : resolve(data.printed));
      worker.onerror = (event) => reject(new Error(event.message));
      worker.postMessage(message);
    });
  await ask({ wheels });
  return (code) => ask({ code });
}
