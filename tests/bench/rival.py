"""transformers.js in Chromium, given the usual graph as its hub models are: the folder, the bundle, the page."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from usual_graph import check, write

HERE = Path(__file__).resolve().parent
MODEL = "usual-minilm"
# What it takes by itself (a build with WebGPU inside), and the plain WASM build, which it can be pointed at.
BUILDS = {"default build": ".asyncify", "plain build": ""}


def prepare(source: Path, out: Path) -> Path:
    """A folder to serve: bundle, WASM builds, model. `source` holds model.safetensors and the tokenizer's files."""
    modules = HERE / "node_modules"
    if not (modules / ".package-lock.json").exists():
        subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=HERE, check=True)
    out.mkdir(parents=True, exist_ok=True)
    bundle = ["--bundle", "--format=esm", "--minify", "--log-level=warning", f"--outfile={out / 'rival.js'}"]
    subprocess.run([str(modules / ".bin" / "esbuild"), str(HERE / "rival.js"), *bundle], check=True)
    for build in BUILDS.values():
        for end in ("mjs", "wasm"):
            name = f"ort-wasm-simd-threaded{build}.{end}"
            shutil.copyfile(modules / "onnxruntime-web" / "dist" / name, out / name)
    _write_model(source, out / "models" / MODEL)
    (out / "versions.json").write_text(json.dumps(versions()))
    return out


def versions() -> dict[str, str]:
    """Of transformers.js and of the ONNX runtime that it brings."""
    return {
        name: json.loads((HERE / "node_modules" / name / "package.json").read_text())["version"]
        for name in ("@huggingface/transformers", "onnxruntime-web")
    }


def _write_model(source: Path, folder: Path) -> None:
    if (folder / "onnx" / "model_quantized.onnx").exists():
        return
    (folder / "onnx").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source / "config.json", folder / "config.json")
    # As the hub's file has it, as far as transformers.js reads it.
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "sep", "pad", "cls", "mask")}
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 512} | special
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    # The source pads every text to 128 tokens. The pipeline pads a batch to its longest text: the fair thing.
    tokenizer["truncation"] = tokenizer["padding"] = None
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    half = folder / "onnx" / "half.onnx"
    write(source / "model.safetensors", folder / "float.onnx", half)
    check(folder / "float.onnx", half, HERE.parents[1] / "models" / "minilm-l6" / "golden-more.json")
    half.rename(folder / "onnx" / "model_quantized.onnx")


class Rival:
    """An opened pipeline in `page` (on the site's blank page)."""

    def __init__(self, page: Page, base: str, *, threads: int, build: str) -> None:
        self.page = page
        page.add_script_tag(url=f"{base}/rival.js", type="module")
        page.wait_for_function("globalThis.bench !== undefined")
        options = {"threads": threads, "build": BUILDS[build], "model": MODEL, "base": base}
        self.versions: dict[str, str] = page.evaluate("options => bench.open(options)", options)

    def each(self, texts: Sequence[str]) -> list[float]:
        """Milliseconds of each text alone."""
        times: list[float] = self.page.evaluate("texts => bench.each(texts)", list(texts))
        return times

    def bulk(self, texts: Sequence[str], size: int) -> float:
        """Milliseconds of all texts, in batches of `size`."""
        return float(self.page.evaluate("([texts, size]) => bench.bulk(texts, size)", [list(texts), size]))

    def vectors(self, texts: Sequence[str]) -> list[list[float]]:
        result: Any = self.page.evaluate("texts => bench.vectors(texts)", list(texts))
        return [list(map(float, row)) for row in result]
