"""The report as tables for a person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from .report import Figure, Report, TargetFigures

if TYPE_CHECKING:
    from rich.table import Table

PLAIN_WIDTH = 140
"""Columns where no terminal tells its width."""


def show(report: Report, file: TextIO) -> None:
    """Write the tables."""
    from rich.console import Console

    console = Console(file=file, width=None if file.isatty() else PLAIN_WIDTH, highlight=False, emoji=False)
    for line in _head(report):
        console.print(line, markup=False, soft_wrap=True)
    for table in (_prompts(report), _batches(report), _first_token(report)):
        if table is not None:
            console.print()
            console.print(table)
    console.print()
    for line in _foot(report):
        console.print(line, markup=False, soft_wrap=True)


def _head(report: Report) -> list[str]:
    lines = [f"{report.model or report.engine} on the engine {report.engine}; {report.machine}"]
    done = "" if report.complete else "; NOT COMPLETE"
    load = f"; loaded in {report.load.median:.2f} s" if report.load else ""
    rounds = "1 round" if report.rounds == 1 else f"{report.rounds} rounds"
    lines.append(f"{rounds}, answers of {report.tokens} tokens at most; medians{load}{done}")
    if report.bandwidth:
        lines.append(f"memory: {report.bandwidth.gb_per_second:.1f} GB/s ({report.bandwidth.source})")
    if report.cost:
        cost = report.cost
        lines.append(
            f"read for one token: {_mb(cost.read)} of weights + {cost.context / 1e3:.1f} kB per token of context "
            f"({cost.note})"
        )
    return lines


def _foot(report: Report) -> list[str]:
    memory = report.memory
    parts = [("loaded", memory.loaded), ("now", memory.active), ("most", memory.peak),
             ("of it kept prompts", memory.prompt_cache), ("limit", memory.limit), ("process", memory.rss)]  # fmt: skip
    known = [f"{name} {_mb(size)}" for name, size in parts if size]
    lines = [f"memory held: {', '.join(known)}"] if known else []
    lines += [f"{target.title}: tokens by {target.counting}" for target in report.targets if target.kind == "server"]
    for target in report.targets:
        lines += [f"{target.title}: FAILED {error}" for error in dict.fromkeys(target.errors)]
    return [*lines, *(f"note: {note}" for note in report.notes)]


def _table(title: str, columns: Sequence[str]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _prompts(report: Report) -> Table | None:
    ours, others = _split(report)
    if ours is None or not ours.prompts:
        return None
    heads = ["prompt", "read tok/s", "first token", "write tok/s", "bound", "share"]
    for other in others:
        heads += [f"{other.title}: read", "first token", "write", "ours ÷ its"]
    table = _table("One at a time", heads)
    for row in ours.prompts:
        cells = [str(row.tokens or row.length), _number(row.prefill), _seconds(row.first_token), _number(row.decode),
                 _plain(row.bound), _percent(row.share)]  # fmt: skip
        for other in others:
            its = next((found for found in other.prompts if found.length == row.length), None)
            cells += [_number(its.prefill), _seconds(its.first_token), _number(its.decode),
                      _ratio(row.decode, its.decode)] if its else [""] * 4  # fmt: skip
        table.add_row(*cells)
    return table


def _batches(report: Report) -> Table | None:
    ours, others = _split(report)
    if ours is None or not ours.batches:
        return None
    heads = ["streams", "all tok/s", "each", "bound", "share"]
    for other in others:
        heads += [f"{other.title}: all", "ours ÷ its"]
    table = _table(f"At the same time, prompts of {ours.batches[0].context} tokens", heads)
    for row in ours.batches:
        cells = [str(row.streams), _number(row.total), _plain(row.each), _plain(row.bound), _percent(row.share)]
        for other in others:
            its = next((found.total for found in other.batches if found.streams == row.streams), None)
            cells += [_number(its), _ratio(row.total, its)]
        table.add_row(*cells)
    return table


def _first_token(report: Report) -> Table | None:
    ours, others = _split(report)
    if ours is None or not ours.first_token:
        return None
    heads = ["prompt cache", "first token", "÷ cold", "prompt", "known"]
    for other in others:
        heads += [f"{other.title}: first token", "÷ cold"]
    table = _table("Time to first token of a conversation", heads)
    for row in ours.first_token:
        cells = [row.state, _seconds(row.seconds), _plain(row.of_cold, 3), str(row.prompt_tokens),
                 str(row.cached_tokens)]  # fmt: skip
        for other in others:
            its = next((found for found in other.first_token if found.state == row.state), None)
            cells += [_seconds(its.seconds), _plain(its.of_cold, 3)] if its else ["-", "-"]
        table.add_row(*cells)
    return table


def _split(report: Report) -> tuple[TargetFigures | None, list[TargetFigures]]:
    ours = next((target for target in report.targets if target.kind == "engine"), None)
    return ours, [target for target in report.targets if target.kind == "server"]


def _number(figure: Figure | None) -> str:
    if figure is None:
        return "-"
    spread = f" ±{(figure.highest - figure.lowest) / 2:.1f}" if len(figure.values) > 1 else ""
    return f"{figure.median:.1f}{spread}"


def _seconds(figure: Figure | None) -> str:
    if figure is None:
        return "-"
    return f"{figure.median:.2f} s" if figure.median >= 1 else f"{figure.median * 1000:.0f} ms"


def _plain(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _ratio(ours: Figure | None, its: Figure | None) -> str:
    return f"{ours.median / its.median:.2f}" if ours and its else "-"


def _mb(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
