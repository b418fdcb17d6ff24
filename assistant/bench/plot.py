"""The report as a picture."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .report import Figure, Report
from .streams import BenchError

INCHES = (12.0, 4.2)
DPI = 100


def check() -> None:
    """Make sure that pictures can be drawn.

    Raises:
        BenchError: matplotlib is missing.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise BenchError("--plot needs matplotlib, which is not installed", hint="pip install 'assistant[bench]'")


def draw(report: Report, file: Path) -> None:
    """Write a PNG of 1200 x 420 pixels: reading and writing against the prompt's length, writing against the streams.

    Raises:
        BenchError: matplotlib is missing.
    """
    check()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=INCHES, dpi=DPI, layout="constrained")
    FigureCanvasAgg(canvas)
    reading, writing, batches = canvas.subplots(1, 3)
    for target in report.targets:
        style = {"label": target.title, "marker": "o", "linestyle": "-" if target.kind == "engine" else "--"}
        _line(reading, target.prompts, _tokens, lambda row: row.prefill, style)
        _line(writing, target.prompts, _tokens, lambda row: row.decode, style)
        _line(batches, target.batches, lambda row: row.streams, lambda row: row.total, style)
        _bound(writing, target.prompts, _tokens)
        _bound(batches, target.batches, lambda row: row.streams)
    _axes(reading, "Reading a new prompt", "prompt tokens")
    _axes(writing, "Writing, one stream", "prompt tokens")
    _axes(batches, "Writing, all streams", "streams")
    for axes, places in (
        (reading, [_tokens(row) for target in report.targets for row in target.prompts]),
        (writing, [_tokens(row) for target in report.targets for row in target.prompts]),
        (batches, [row.streams for target in report.targets for row in target.batches]),
    ):
        axes.set_xscale("log", base=2)
        axes.set_xticks(sorted(set(places)), [str(place) for place in sorted(set(places))])
        axes.minorticks_off()
    canvas.suptitle(f"{Path(report.model).name or report.engine} · {report.engine} · {report.machine}", fontsize=10)
    canvas.savefig(file, format="png")


def _tokens(row: Any) -> int:
    return int(row.tokens or row.length)


def _line(
    axes: Any, rows: Sequence[Any], across: Callable[[Any], int], up: Callable[[Any], Figure | None],
    style: dict[str, str],
) -> None:  # fmt: skip
    points = [(across(row), figure) for row in rows if (figure := up(row)) is not None]
    if points:
        low = [figure.median - figure.lowest for _, figure in points]
        high = [figure.highest - figure.median for _, figure in points]
        heights = [figure.median for _, figure in points]
        axes.errorbar([place for place, _ in points], heights, yerr=[low, high], capsize=3, **style)


def _bound(axes: Any, rows: Sequence[Any], across: Callable[[Any], int]) -> None:
    points = [(across(row), row.bound) for row in rows if row.bound is not None]
    if points:
        axes.plot(*zip(*points, strict=True), color="grey", linestyle=":", label="bound by the memory's bandwidth")


def _axes(axes: Any, title: str, across: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(across)
    axes.set_ylabel("tokens per second")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    if axes.has_data():
        axes.legend(fontsize=7)
