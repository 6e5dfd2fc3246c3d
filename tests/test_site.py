"""From a folder of pages to an index to hits, over the fake runtime: what is embedded, reused, refused, found."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_runtime import FakeRuntime, fake_lock
from insitu.errors import (
    DimUnsupported,
    DiskFull,
    EmptyQuery,
    IndexCorrupt,
    InvalidArgument,
    NoDocuments,
    ReadFailed,
    SpaceMismatch,
    WrongEncoding,
)
from insitu.index.format import ENTRY
from insitu.index.search import Hit, Index, group
from insitu.model.lock import ModelLock
from insitu.place import RESERVED
from insitu.site import Report, build_index, find_pages
from insitu.text.clean import well_formed

T = TypeVar("T")
ANIMALS = ("cat", "dog", "horse", "mouse", "whale", "eagle", "salmon", "spider")


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    root = tmp_path / "site"
    for number, animal in enumerate(ANIMALS):
        write(root, f"animals/{animal}.html", f"All about the {animal}", f"The {animal} number {number} lives here.")
    write(root, "index.html", "Animals of the world", "Welcome to the zoo of words.")
    return root


def write(root: Path, name: str, title: str, text: str, more: str = "") -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"<main><h1 id=top>{title}</h1><p>{text}</p>{more}</main>", "utf-8")


def build(site: Path, lock: ModelLock | None = None, **options: Any) -> tuple[Report, FakeRuntime]:
    out = options.pop("out", site / "insitu")
    runtime = FakeRuntime(out, lock or fake_lock())
    return run(build_index(site, out, runtime, runtime.lock, dim=options.pop("dim", 8), **options)), runtime


def opened(out: Path, lock: ModelLock | None = None) -> tuple[Index, FakeRuntime]:
    runtime = FakeRuntime(out, lock or fake_lock())
    return run(Index.open(runtime, runtime.lock, (out / ENTRY).read_bytes())), runtime


def search(site: Path, question: str, k: int = 10) -> list[Hit]:
    return run(opened(site / "insitu")[0].search(question, k))


def test_a_question_finds_its_page(site: Path) -> None:
    report, _ = build(site)
    assert (report.pages, report.chunks, report.pages_embedded) == (9, 9, 9)
    hits = search(site, "all about the whale", 3)
    assert len(hits) == 3
    assert (hits[0].url, hits[0].title, hits[0].heading) == ("animals/whale.html#top", *["All about the whale"] * 2)
    assert hits[0].text == "The whale number 4 lives here."
    assert 1.001 >= hits[0].score > hits[1].score


def test_a_second_run_embeds_nothing(site: Path) -> None:
    build(site)
    before = {path: path.read_bytes() for path in (site / "insitu").rglob("*") if path.is_file()}
    report, runtime = build(site)
    assert (report.pages_embedded, report.pages_reused, report.chunks_reused) == (0, 9, 9)
    assert (runtime.embedded, runtime.tokenized) == ([], 0)
    assert {path: path.read_bytes() for path in (site / "insitu").rglob("*") if path.is_file()} == before


def test_only_a_changed_page_is_embedded(site: Path) -> None:
    build(site)
    write(
        site,
        "animals/dog.html",
        "All about the dog",
        "Now it barks at strangers.",
        "<h2 id=x>Food</h2><p>Meat, mostly.",
    )
    (site / "animals/cat.html").unlink()
    write(site, "animals/ant.html", "All about the ant", "It carries leaves.")
    report, runtime = build(site)
    assert (report.pages_embedded, report.chunks_embedded) == (2, 3)
    assert (report.pages_reused, report.pages_removed) == (7, 1)
    assert len(runtime.embedded) == 3
    incremental = {path.name: path.read_bytes() for path in (site / "insitu").rglob("*") if path.is_file()}
    shutil.rmtree(site / "insitu")
    build(site)
    assert {path.name: path.read_bytes() for path in (site / "insitu").rglob("*") if path.is_file()} == incremental
    assert search(site, "barks at strangers", 1)[0].text == "Now it barks at strangers."


def test_a_moved_page_is_not_embedded_again(site: Path) -> None:
    build(site)
    before = search(site, "The cat number 0 lives here.", 9)
    (site / "animals/cat.html").rename(site / "animals/zzz.html")
    report, runtime = build(site)
    assert (report.pages_embedded, runtime.embedded) == (0, [])
    after = search(site, "The cat number 0 lives here.", 9)
    assert before[0].url == "animals/cat.html#top"
    assert after[0] == replace(before[0], url="animals/zzz.html#top")
    assert after[1:] == before[1:]


def test_another_model_or_size_embeds_everything(site: Path) -> None:
    build(site)
    assert build(site, dim=4)[0].pages_embedded == 9
    assert build(site, lock=fake_lock(name="other"))[0].pages_embedded == 9


@pytest.mark.parametrize("kind", ["vectors", "full", "texts", "pages"])
def test_a_damaged_index_is_made_anew_and_told_when_searched(site: Path, kind: str) -> None:
    build(site)
    path = next((site / "insitu/index").glob(f"{kind}-*"))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(IndexCorrupt):
        search(site, "whale")
    assert build(site)[0].pages_embedded == 9
    assert search(site, "all about the whale", 1)[0].url == "animals/whale.html#top"


def test_an_index_of_another_model_is_refused_with_both_named(site: Path) -> None:
    build(site)
    with pytest.raises(SpaceMismatch, match=r"'fake:int8:8:.*'other:int8:8:"):
        opened(site / "insitu", fake_lock(name="other"))


def test_an_index_with_more_components_than_the_model_has_is_refused(site: Path) -> None:
    build(site, dim=16)
    with pytest.raises(SpaceMismatch):
        opened(site / "insitu", replace(fake_lock(), full_dim=8))


def test_wrong_questions_are_refused(site: Path) -> None:
    build(site)
    for question in ("", " \n\t", "\u3000"):
        with pytest.raises(EmptyQuery):
            search(site, question)
    for k in (0, -1, True, 1.5):
        with pytest.raises(InvalidArgument):
            search(site, "cat", k)  # type: ignore[arg-type]
    with pytest.raises(DimUnsupported):
        build(site, dim=17)


def test_a_question_with_a_lone_surrogate_and_an_endless_one_have_answers(site: Path) -> None:
    build(site)
    assert search(site, "whale \ud800", 1)
    assert search(site, "whale " * 200_000, 1)
    assert well_formed("\ud800") == "\ufffd"


def test_more_hits_than_chunks_gives_them_all(site: Path) -> None:
    build(site)
    assert len(search(site, "animals", 100)) == 9


def test_a_page_answers_with_two_sections_until_every_page_has_answered(site: Path) -> None:
    long = "The whale sings of the sea and its songs are long. " * 12  # several chunks of one section
    sections = "".join(f"<h2 id=s{i}>Whale {i}</h2><p>{long}</p>" for i in range(4))
    write(site, "animals/whale.html", "All about the whale", "Whale.", sections)
    build(site)
    hits = search(site, "the whale sings long songs of the sea", 13)
    urls = [hit.url for hit in hits]
    pages = [url.partition("#")[0] for url in urls]
    assert pages[:2] == ["animals/whale.html"] * 2
    assert urls[0] != urls[1]
    assert len(set(pages[:10])) == 9
    assert pages[10:] == ["animals/whale.html"] * 3


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from("abc"))))
def test_grouping_loses_nothing_and_keeps_the_order(places: list[tuple[int, str]]) -> None:
    chosen, rest = group(places)
    assert sorted(chosen + rest) == list(range(len(places)))
    assert chosen == sorted(chosen)
    assert rest == sorted(rest)
    assert len({places[rank] for rank in chosen}) == len(chosen)
    for page in {page for page, _ in places}:
        shown = [rank for rank in chosen if places[rank][0] == page]
        assert shown[0] == min(rank for rank, place in enumerate(places) if place[0] == page)
        assert len(shown) == min(2, len({place for place in places if place[0] == page}))


def test_full_codes_and_texts_are_read_when_needed_and_once(site: Path) -> None:
    build(site)
    index, runtime = opened(site / "insitu")

    def kinds() -> list[str]:
        return sorted(name.split("/")[1].split("-")[0] for name in runtime.files)

    assert kinds() == ["pages", "vectors"]

    async def ask() -> None:
        await asyncio.gather(*(index.search(f"about the {animal}") for animal in ANIMALS))
        await index.search("again")

    run(ask())
    assert kinds() == ["full", "pages", "texts", "vectors"]


def test_a_failed_read_is_tried_again(site: Path) -> None:
    build(site)
    index, _ = opened(site / "insitu")
    path = next((site / "insitu/index").glob("texts-*"))
    data = path.read_bytes()
    path.unlink()
    with pytest.raises(IndexCorrupt):
        run(index.search("whale"))
    path.write_bytes(data)
    assert run(index.search("whale"))


def test_rescoring_corrects_the_order_of_the_scan(site: Path) -> None:
    """At 2 components many pages look alike; the order must be that of 16, the scores nearly so."""
    build(site, dim=2)
    hits = search(site, "all about the whale")
    shutil.rmtree(site / "insitu")
    build(site, dim=16)
    exact = search(site, "all about the whale")
    assert [hit.url for hit in hits] == [hit.url for hit in exact]
    assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in exact], abs=0.01)


def test_many_shards_answer_as_one(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(site)
    expected = search(site, "all about the horse")
    shutil.rmtree(site / "insitu")
    monkeypatch.setattr("insitu.index.write.SHARD_VECTORS", 2)
    monkeypatch.setattr("insitu.index.write.TEXTS_PER_FILE", 3)
    build(site)
    assert len(list((site / "insitu/index").iterdir())) > 10
    assert search(site, "all about the horse") == expected
    assert build(site)[0].pages_embedded == 0


def test_a_page_that_cannot_be_decoded_stops_the_build_and_names_every_such_page(site: Path) -> None:
    build(site)
    before = (site / "insitu" / ENTRY).read_bytes()
    for name in ("bad.html", "animals/worse.html"):
        (site / name).write_bytes(b"<meta charset=utf-8><p>caf\xe9</p>")
    with pytest.raises(WrongEncoding, match=r"(?s)worse\.html.*bad\.html"):
        build(site)
    assert (site / "insitu" / ENTRY).read_bytes() == before
    assert build(site, exclude=["bad.html", "animals/w*e.html"])[0].pages == 8  # the whale goes too
    assert build(site, encoding="latin-1")[0].pages == 11


def test_pages_without_text_are_told(site: Path) -> None:
    (site / "menu.html").write_text("<nav><a href=x>x</a></nav>")
    report, _ = build(site)
    assert (report.pages, report.empty) == (9, ("menu.html",))


def test_a_folder_without_pages_is_told(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(NoDocuments, match=str(folder)):
            build(folder)
    (tmp_path / "empty.html").write_text("<nav>x</nav>")
    with pytest.raises(NoDocuments, match="has text"):
        build(tmp_path)
    with pytest.raises(NoDocuments, match="exclude"):
        build(tmp_path, exclude=["*"])
    assert not (tmp_path / "insitu").exists()


def test_indexes_and_hidden_folders_are_not_indexed(site: Path) -> None:
    build(site, out=site / "other")
    for place in ("other/search.html", "insitu/search.html", ".git/page.html"):
        write(site, place, "No page of the site", "x")
    assert len(find_pages(site, site / "insitu")) == 9


def test_names_with_odd_letters_become_urls(site: Path) -> None:
    write(site, "näme with space#1.html", "Odd", "An odd page.")
    build(site)
    assert search(site, "An odd page", 1)[0].url == "n%C3%A4me%20with%20space%231.html#top"


def test_an_unreadable_page_is_told(site: Path) -> None:
    (site / "dangling.html").symlink_to(site / "nowhere")
    with pytest.raises(ReadFailed, match=r"dangling\.html"):
        build(site)


def test_a_full_disk_while_indexing_leaves_the_old_index(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(site)
    write(site, "animals/new.html", "New", "A new page.")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
        with pytest.raises(DiskFull):
            build(site)
    assert len(search(site, "whale", 100)) == 9
    assert build(site)[0].chunks_embedded == 1


def test_model_files_are_placed_once_and_an_old_model_is_taken_away(site: Path, tmp_path: Path) -> None:
    def model(lock: ModelLock) -> Path:
        folder = tmp_path / lock.name
        folder.mkdir(exist_ok=True)
        (folder / "none").write_text("weights")
        (folder / "model.lock.json").write_text(lock.to_json())
        return folder

    first, second = fake_lock(), fake_lock(name="other")
    build(site, first, model_dir=model(first))
    entry = json.loads((site / "insitu" / ENTRY).read_text())
    assert ModelLock.from_json((site / "insitu" / entry["model"]).read_bytes()) == first
    build(site, second, model_dir=model(second))
    assert [folder.name for folder in (site / "insitu/model").iterdir()] == [f"other-int8-{second.weights[:16]}"]
    assert (tmp_path / "fake/none").read_text() == "weights"


def test_chunks_fit_the_model_with_their_headings(site: Path) -> None:
    write(site, "long.html", "A long page", "A sentence of five words. " * 500)
    report, runtime = build(site)
    assert report.truncated == 0
    assert 40 < max(runtime.embedded) <= 64  # what the fake model reads
    told = build(site, lock=replace(fake_lock(name="short"), max_tokens=12))[0]
    assert told.truncated > 0  # a model for which a title is half of what it reads


def test_an_index_written_by_the_first_release_is_read() -> None:
    """tests/data/index-v1 was written once and is never written again: whoever changes the format sees it here."""
    index, _ = opened(Path(__file__).parent / "data/index-v1")
    hits = run(index.search("Sharpen a blade on a stone", 3))
    assert (hits[0].url, hits[0].title) == ("knives.html#knives", "Knives")
    assert {hit.url: hit.text for hit in hits}["s%C3%BCd.html#süd"] == "Wärme, Öl & Wein – 日本語."


def test_progress_counts_to_the_end(site: Path) -> None:
    told: list[tuple[str, int, int]] = []
    build(site, on_progress=lambda *step: told.append(step))
    assert told[8] == ("read", 9, 9)
    assert told[-1] == ("embed", 9, 9)
    assert RESERVED
