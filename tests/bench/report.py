"""What was measured: figures with their spread, ratios against budgets, the table and the JSON file."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Figure:
    """One row: the values of one subject. `low` and `high` are the quartiles."""

    measure: str
    subject: str
    threads: int | None
    unit: str
    median: float
    low: float
    high: float
    least: float
    runs: int
    note: str = ""


@dataclass(frozen=True)
class Ratio:
    """`value` against `budget`; `sign` says on which side of the budget it should lie."""

    what: str
    value: float
    sign: str
    budget: float
    unit: str = "x"

    @property
    def met(self) -> bool:
        return self.value >= self.budget if self.sign == ">=" else self.value <= self.budget


@dataclass
class Report:
    """Everything of one run."""

    figures: list[Figure] = field(default_factory=list)
    ratios: list[Ratio] = field(default_factory=list)
    first_visit: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)

    def add(
        self, measure: str, subject: str, threads: int | None, unit: str, values: Sequence[float], note: str = ""
    ) -> Figure:
        low, middle, high = (
            statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
        )
        figure = Figure(measure, subject, threads, unit, middle, low, high, min(values), len(values), note)
        self.figures.append(figure)
        return figure

    def check(self, what: str, value: float, sign: str, budget: float, unit: str = "x") -> None:
        self.ratios.append(Ratio(what, value, sign, budget, unit))

    def median(self, measure: str, subject: str, threads: int | None) -> float | None:
        key = (measure, subject, threads)
        return next((f.median for f in self.figures if (f.measure, f.subject, f.threads) == key), None)

    def write(self, path: Path) -> None:
        data = {
            "format": "insitu-bench",
            "version": 1,
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": commit(),
            "machine": machine(),
            "versions": {**python_versions(), **self.versions},
            "figures": [asdict(figure) for figure in self.figures],
            "budgets": [{**asdict(ratio), "met": ratio.met} for ratio in self.ratios],
            "first_visit": self.first_visit,
            "notes": self.notes,
        }
        path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")

    def show(self, console: Console) -> None:
        if self.figures:
            table = Table(title="Medians, with quartiles", title_justify="left")
            for name in ("measure", "subject", "threads"):
                table.add_column(name)
            for name in ("median", "quartiles", "least", "runs"):
                table.add_column(name, justify="right")
            last = ""
            for f in self.figures:
                if last not in ("", f.measure):
                    table.add_section()
                table.add_row(
                    f.measure if f.measure != last else "",
                    f.subject + (f" ({f.note})" if f.note else ""),
                    str(f.threads or ""),
                    f"{number(f.median)} {f.unit}",
                    f"{number(f.low)} - {number(f.high)}",
                    number(f.least),
                    str(f.runs),
                )
                last = f.measure
            console.print(table)
        if self.first_visit:
            table = Table(title="Bytes of the first visit", title_justify="left")
            table.add_column("file")
            for name in ("raw", "gzip -9", "brotli -q 11"):
                table.add_column(name, justify="right")
            for row in self.first_visit:
                table.add_row(row["file"], *(f"{row[key]:,}" for key in ("raw", "gzip", "brotli")))
            console.print(table)
        if self.ratios:
            table = Table(title="Budgets", title_justify="left")
            for name in ("what", "measured", "budget", ""):
                table.add_column(name)
            for r in self.ratios:
                verdict = "[green]met[/]" if r.met else "[red]missed[/]"
                table.add_row(r.what, f"{number(r.value)} {r.unit}", f"{r.sign} {number(r.budget)} {r.unit}", verdict)
            console.print(table)
        for note in self.notes:
            console.print(f"- {note}", highlight=False)


def number(value: float) -> str:
    """Three digits that mean something."""
    if value < 0:
        return f"-{number(-value)}"
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 100 else f"{value:.2f}" if value >= 1 else f"{value:.4f}".rstrip("0").rstrip(".")


def commit() -> str:
    """The commit that is checked out, with '+' if files differ from it; '' outside a checkout."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def machine() -> dict[str, Any]:
    """Processor, cores, memory, system, and how busy it was when the benchmark ended."""
    info: dict[str, Any] = {"system": platform.platform(), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
    try:
        cpu = Path("/proc/cpuinfo").read_text()
        info["processor"] = next(line.split(": ", 1)[1] for line in cpu.splitlines() if line.startswith("model name"))
        flags = next(line for line in cpu.splitlines() if line.startswith("flags")).split()
        info["vnni"] = "avx512_vnni" in flags or "avx_vnni" in flags
        memory = Path("/proc/meminfo").read_text().split("\n", 1)[0]
        info["memory_gb"] = round(int(memory.split()[1]) / 1e6, 1)
    except (OSError, StopIteration):
        info["processor"] = platform.processor()
    return info


def python_versions() -> dict[str, str]:
    """Of Python and of what runs the model in it."""
    packages = {name: metadata.version(name) for name in ("onnxruntime", "tokenizers", "numpy")}
    return {"python": platform.python_version(), **packages}
