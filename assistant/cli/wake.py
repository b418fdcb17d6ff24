"""``assistant wake``: the wake words there are, and how well those in use do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from assistant import paths

from . import render
from .app import SETTINGS, NearestGroup

if TYPE_CHECKING:
    from assistant.voice.wake_report import WakeFigures


@click.group("wake", cls=NearestGroup, context_settings=SETTINGS)
def wake() -> None:
    """Wake words: the phrases that call the assistant."""


@wake.command("list")
@click.option("--json", "as_json", is_flag=True, help="As a JSON array.")
def list_wake(as_json: bool) -> None:
    """List the wake words of all plugins, and what keeps one from working."""
    found = _offered()
    if as_json:
        render.json_out(found)
        return
    rows = [
        (one["name"], one["phrase"] or "-", one["plugin"] or "-", _score(one["threshold"]),
         "yes" if one["selected"] else "", one["reason"])
        for one in found
    ]  # fmt: skip
    render.out(render.table(("NAME", "PHRASE", "PLUGIN", "THRESHOLD", "SELECTED", "UNAVAILABLE"), rows, right=(3,)))


@wake.command("report")
@click.option("--json", "as_json", is_flag=True, help="As a JSON array.")
def report_wake(as_json: bool) -> None:
    """Show how often each wake word woke, nearly woke and woke for nothing, and a better threshold.

    A wake after which nobody spoke is presumed a false accept. BOUND is what false accepts per hour do not exceed
    with 95 % confidence: few hours say little. Only counts and scores are kept, no audio and no words.
    """
    from assistant.voice.wake_log import read_records
    from assistant.voice.wake_report import report

    found = report(read_records(paths.find().data / "wake"))
    if as_json:
        render.json_out(found)
        return
    if not found:
        render.out("Nothing was counted yet: the assistant counts while it listens (`assistant listen`).")
        return
    head = ("NAME", "THRESHOLD", "LISTENED", "WAKES", "NEAR", "REPEATED", "UNDONE", "FALSE/H", "BOUND", "SUGGESTED")
    render.out(render.table(head, [_row(one) for one in found], right=range(1, len(head))))
    render.out("")
    for one in found:
        render.out(f"{render.plain_text(one.name)} at {_score(one.threshold)}: {one.reason}")
    if any(one.suggested not in (None, one.threshold) for one in found):
        render.out("\nSet it as `threshold` in [voice.wake.NAME]; counting begins anew for a new threshold.")


def _row(one: WakeFigures) -> tuple[str, ...]:
    return (
        one.name, _score(one.threshold), render.duration(one.hours * 3600), str(one.wakes), str(one.near_misses),
        str(one.repeated), str(one.undone), _rate(one.false_per_hour), _rate(one.false_per_hour_bound),
        _score(one.suggested),
    )  # fmt: skip


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}".rstrip("0").rstrip(".")


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _offered() -> list[dict[str, Any]]:
    """What the plugins offer, and what the configuration names without its being offered."""
    from assistant import config, plugins
    from assistant.tomlfile import nearest

    folders = paths.find()
    settings = config.load(folders)
    host = plugins.PluginHost(settings, folders, lambda event: None)
    host.load()
    chosen = settings.voice.wake_words
    words = host.wake_words()
    names = [one.name for one in words]
    found: list[dict[str, Any]] = []
    for word in words:
        wanted = settings.voice.wake.get(word.name)
        found.append({
            "name": word.name, "phrase": word.phrase, "plugin": host.wake_plugin(word.name),
            "threshold": (wanted.threshold if wanted else 0) or word.threshold, "selected": word.name in chosen,
            "reason": word.available(),
        })  # fmt: skip
    for name in chosen:
        if name not in names:
            close = nearest(name, names)
            reason = f"no plugin offers it; did you mean {close}?" if close else "no plugin offers it"
            found.append({
                "name": name, "phrase": "", "plugin": "", "threshold": None, "selected": True, "reason": reason,
            })  # fmt: skip
    return found
