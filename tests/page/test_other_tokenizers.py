"""Kinds of tokenizers without a compact vocabulary: read by `@huggingface/tokenizers`, which is loaded only then."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page

from insitu.embedder import Embedder
from insitu.model import cache
from insitu.model.exported import read_lock
from insitu.model.vocabulary import NotCompact, pack_vocabulary
from insitu.runtime.native import NativeRuntime
from page.conftest import OPEN, Serve, wait
from page.texts import SCRIPTS
from small_gemma import small_gemma

LIBRARY = "/insitu/tokenizer_other.js"


def unigram(folder: Path) -> Any:
    """A tokenizer like XLM-R's, in small: the reference."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(" {2,}", " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=400, special_tokens=["<s>", "</s>", "<unk>"], unk_token="<unk>")
    tokenizer.train_from_iterator([text for text in SCRIPTS if text.isprintable()] * 3, trainer)
    tokenizer.save(str(folder / "unigram.json"))
    return tokenizer


def test_a_unigram_tokenizer_gives_the_ids_of_the_reference(opened: Page, site: Path) -> None:
    reference = unigram(site)
    with pytest.raises(NotCompact, match="Unigram"):
        pack_vocabulary(json.loads((site / "unigram.json").read_text("utf-8")))
    texts = [text for text in SCRIPTS if text.isprintable()]
    found = opened.evaluate(
        """async (texts) => {
            const { readOtherTokenizer } = await import('/parts.js');
            const json = new Uint8Array(await (await fetch('/unigram.json')).arrayBuffer());
            const tokenizer = await readOtherTokenizer(json, (file) => '/insitu/' + file);
            return texts.map((text) => { const ids = []; tokenizer.encode(text, ids); return ids; });
        }""",
        texts,
    )
    assert found == [reference.encode(text, add_special_tokens=False).ids for text in texts]


def test_a_file_that_is_no_tokenizer_is_named(opened: Page) -> None:
    found = opened.evaluate(
        """async () => {
            const { readOtherTokenizer, readTokenizer } = await import('/parts.js');
            const errors = [];
            let last;
            const attempt = async (work) => { try { await work(); } catch (e) { errors.push(e.code); last = e.message; } };
            const place = (file) => '/insitu/' + file;
            await attempt(() => readOtherTokenizer(new TextEncoder().encode('{"model": '), place));
            await attempt(() => readOtherTokenizer(new TextEncoder().encode('{"model": {"type": "Rhyme"}}'), place));
            const join = async (...parts) => new Uint8Array(await new Blob(parts).arrayBuffer());
            const zip = (bytes) => {
                const zipped = new Blob([bytes]).stream().pipeThrough(new CompressionStream('gzip'));
                return new Response(zipped).arrayBuffer();
            };
            const header = {format: 'insitu-vocabulary', version: 2, kind: 'bpe', count: 3, added: [], first: []};
            const bytes = (...list) => new Uint8Array(list);
            const line = (change) => JSON.stringify({...header, ...change}) + String.fromCharCode(10);
            const read = async (change, tokens, joins) => {
                const zipped = await zip(tokens);
                const file = await join(line({zipped: zipped.byteLength, ...change}), zipped, joins);
                return readTokenizer(file, place);
            };
            const [tokens, joins] = [bytes(1, 1, 255, 0, 0, 65, 66), bytes(0, 0, 1, 0, 0)];
            await attempt(() => readTokenizer(new TextEncoder().encode('no line'), place));
            await attempt(() => read({version: 9}, tokens, joins));
            await attempt(() => read({kind: 'rhyme'}, tokens, joins));
            await attempt(() => read({}, bytes(1, 1, 255, 0, 65), joins));
            await attempt(() => read({}, tokens, bytes()));
            await attempt(() => read({}, tokens, bytes(0, 0, 1, 0, 1, 0, 1, 0, 0)));
            const old = await zip(line({version: 1}) + 'ab');
            await attempt(() => readTokenizer(new Uint8Array(old), place));
            const ids = [];
            (await read({}, tokens, joins)).encode('ABBA', ids);  // and this one is whole
            return [errors, ids, last];
        }"""
    )
    assert found[:2] == [["model-corrupt"] * 9, [2, 1, 0]]
    assert "an earlier release made it" in found[2] and "Export the model again" in found[2]


def test_a_model_with_gemmas_kind_of_tokenizer_embeds_as_in_cpython(
    browser: Browser, serve_site: Serve, site: Path, model_dir: Path
) -> None:
    """MiniLM's graph and rows with a small BPE vocabulary: from the export's files through worker and Python."""
    folder = site / "model-bpe"
    shutil.copytree(model_dir, folder)
    (folder / "tokenizer.json").write_text(json.dumps(small_gemma()), "utf-8")
    (folder / "vocabulary.bin").write_bytes(pack_vocabulary(small_gemma()))
    lock = replace(
        read_lock(model_dir),
        tokenizer=cache.file_ref(folder / "tokenizer.json"),
        vocabulary=cache.file_ref(folder / "vocabulary.bin"),
    )
    (folder / "model.lock.json").write_text(lock.to_json())
    runtime = NativeRuntime.open(folder, threads=1)
    texts = ["abba aab  bab", "xaa\nc 😀a é", "", "\nab" * 400]
    right = np.frombuffer(wait(Embedder(runtime, runtime.lock).embed(texts)).block.vectors(), "<f4").reshape(4, -1)
    page = browser.new_page()
    page.goto(serve_site().address + "empty.html")
    page.evaluate(OPEN, {"model": "/model-bpe/model.lock.json"})
    found = page.evaluate("insitu.embed(" + json.dumps(texts) + ").then((r) => [r.truncated, r.map((v) => [...v])])")
    assert found[0] == [False, False, False, True]
    assert np.sum(np.array(found[1]) * right, axis=1).min() > 0.999
    page.close()


@pytest.mark.parametrize("compact", [True, False])
def test_the_library_is_loaded_by_those_who_need_it_alone(
    browser: Browser, serve_site: Serve, site: Path, model_dir: Path, tmp_path: Path, compact: bool
) -> None:
    """MiniLM as it is, and with a lock that names no vocabulary: the page finds the same answer."""
    model = "model-without-vocabulary"
    shutil.copytree(model_dir, site / model, dirs_exist_ok=True)
    lock = json.loads((model_dir / "model.lock.json").read_text())
    (site / model / "model.lock.json").write_text(json.dumps({**lock, "vocabulary": None}))
    assert read_lock(site / model).vocabulary is None
    cache.check_file(site / model / "tokenizer.json", read_lock(model_dir).tokenizer, "")
    served = serve_site()
    page = browser.new_page()
    page.goto(served.address + "empty.html")
    page.evaluate(OPEN, {} if compact else {"index": "/insitu/index.json", "model": f"/{model}/model.lock.json"})
    [hit] = page.evaluate("insitu.search('how do I fix a puncture', {k: 1})")
    assert hit["url"].startswith("bicycles.html")
    assert (LIBRARY in served.asked) is not compact
    asked = {path.rpartition("/")[2] for path in served.asked}
    assert asked & {"vocabulary.bin", "tokenizer.json"} == {"vocabulary.bin" if compact else "tokenizer.json"}
    page.close()
