"""``assistant bench``: how fast models run on this machine."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from assistant import paths

from . import failures, render
from .app import SETTINGS, NearestGroup
from .output import StatusLine

if TYPE_CHECKING:
    from collections.abc import Callable

    from assistant.bench.tally import Tally
    from assistant.events import Event
    from assistant.paths import Paths


def _numbers(highest: int) -> Callable[[click.Context, click.Parameter, str], tuple[int, ...]]:
    """Reads whole numbers with commas between them, from 1 to ``highest``, into their order."""

    def read(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[int, ...]:
        try:
            found = {int(part) for part in value.split(",")}
        except ValueError:
            raise click.BadParameter(f"{value!r} is no list of whole numbers such as 1,2,4") from None
        if not all(1 <= number <= highest for number in found):
            raise click.BadParameter(f"{value!r}: each must be from 1 to {highest}")
        return tuple(sorted(found))

    return read


def _target(_context: click.Context, parameter: click.Parameter, value: str | None) -> Path | None:
    """A file that can be written, found out before minutes of measuring."""
    if value is None or (value == "-" and parameter.name == "json_file"):
        return Path(value) if value else None
    file = Path(value).expanduser()
    if file.is_dir() or not file.absolute().parent.is_dir():
        what = "is a folder" if file.is_dir() else "its folder does not exist"
        raise click.BadParameter(f"{value!r} cannot be written: {what}")
    return file


@dataclass(frozen=True)
class Against:
    """The server to compare with."""

    url: str
    model: str
    api_key: str


@click.group("bench", cls=NearestGroup, context_settings=SETTINGS)
def bench() -> None:
    """Measure how fast models run on this machine."""


@bench.command("llm")
@click.option("--model", metavar="NAME", default="", help="Another model than the configured one.")
@click.option("--prompts", metavar="N,…", callback=_numbers(1_000_000), default="128,512,1024", show_default=True,
              help="Lengths of prompts, in tokens.")
@click.option("--batches", metavar="N,…", callback=_numbers(64), default="1,2,4,8", show_default=True,
              help="How many answers at the same time.")
@click.option("--tokens", type=click.IntRange(4, 100_000), default=64, show_default=True,
              help="Length of each answer, in tokens.")
@click.option("--rounds", type=click.IntRange(1, 100), default=3, show_default=True,
              help="How often everything is measured; medians are shown.")
@click.option("--json", "json_file", metavar="FILE", callback=_target,
              help="Write every single value as JSON; - is standard output, instead of the tables.")
@click.option("--plot", "plot_file", metavar="FILE.png", callback=_target, help="Draw a picture.")
@click.option("--compare", "url", metavar="URL", default="",
              help="Measure an OpenAI-compatible server beside it, by turns.")
@click.option("--compare-model", metavar="NAME", default="", help="The server's model, if it offers several.")
@click.option("--api-key", metavar="KEY", default="", help="The server's key.")
@click.option("--bandwidth", type=click.FloatRange(0.1, 100_000), metavar="GB/S",
              help="The memory's bandwidth, instead of the one known or measured.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")  # fmt: skip
def llm(
    *, model: str, prompts: tuple[int, ...], batches: tuple[int, ...], tokens: int, rounds: int,
    json_file: Path | None, plot_file: Path | None, url: str, compare_model: str, api_key: str,
    bandwidth: float | None, quiet: bool,
) -> int:  # fmt: skip
    """Measure the language model: reading, writing, first token, memory.

    The engine runs in a process of its own beside the daemon, without touching its files. Beside what it reaches
    stands what the memory's bandwidth allows at most.

    Ctrl-C ends it and shows what was measured so far.
    """
    if not url and (compare_model or api_key):
        raise click.UsageError("--compare-model and --api-key need --compare URL")
    from assistant.bench import plot
    from assistant.bench.remote import base_url
    from assistant.bench.tally import Plan, Tally

    if plot_file is not None:
        plot.check()
    if url:
        base_url(url)
    folders = paths.find()
    if not quiet:
        _warn_of_daemon(folders)
    tally = Tally(Plan(prompts, batches, tokens, rounds))
    against = Against(url, compare_model, api_key) if url else None
    status = failures.FAILED
    try:
        status = _run(folders, tally, model, against, bandwidth, quiet)
    finally:
        _write(tally, status == 0, json_file, plot_file)
    return status


def _run(
    folders: Paths, tally: Tally, model: str, against: Against | None, bandwidth: float | None, quiet: bool
) -> int:
    import anyio

    line = StatusLine(quiet=quiet)
    try:
        anyio.run(_measure, folders, tally, model, against, bandwidth, line, quiet)
    except KeyboardInterrupt:
        line.clear()
        render.note("interrupted")
        return failures.INTERRUPTED
    finally:
        line.clear()
    return 0


async def _measure(
    folders: Paths, tally: Tally, model: str, against: Against | None, bandwidth: float | None, line: StatusLine,
    quiet: bool,
) -> None:  # fmt: skip
    from contextlib import AsyncExitStack

    from assistant.bench.measure import Bench, engine_of
    from assistant.bench.remote import remote

    say = _sayer(line, quiet)
    async with AsyncExitStack() as stack:
        if against is not None:
            say(f"asking {against.url}")
            server = await stack.enter_async_context(remote(against.url, against.model, against.api_key))
            tally.targets.append(server)
        engine = engine_of(folders, tally, model, bandwidth, _listener(line, quiet), say)
        await stack.enter_async_context(engine)
        await Bench(tally, say).run()


def _sayer(line: StatusLine, quiet: bool) -> Callable[[str], None]:
    def say(text: str) -> None:
        if line.shown:
            line.show(f"{text}…")
        elif not quiet:
            render.note(text)

    return say


def _listener(line: StatusLine, quiet: bool) -> Callable[[Event], None]:
    from assistant.events import ModelProgressed, PluginFailed

    from .progress import ModelProgress

    progress = ModelProgress(line, quiet=quiet)

    def hear(event: Event) -> None:
        if isinstance(event, ModelProgressed):
            progress.show(event)
        elif isinstance(event, PluginFailed):
            render.note(f"plugin {event.plugin}: {event.reason}")

    return hear


def _write(tally: Tally, complete: bool, json_file: Path | None, plot_file: Path | None) -> None:
    """The results, as far as there are any."""
    report = tally.report(complete=complete)
    if not any(target.prompts or target.batches or target.errors for target in report.targets):
        return
    if json_file is not None and str(json_file) == "-":
        render.json_out(report)
    else:
        from assistant.bench.show import show

        if sys.stdout is not None:
            show(report, sys.stdout)
        if json_file is not None:
            import msgspec

            json_file.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    if plot_file is not None:
        from assistant.bench import plot

        plot.draw(report, plot_file)


def _warn_of_daemon(folders: Paths) -> None:
    from . import probe

    if not probe.listens(folders.socket):
        return
    import msgspec

    from assistant.errors import DaemonError
    from assistant.wire import Status

    try:
        status = msgspec.json.decode(probe.get(folders.socket, "/api/status"), type=Status)
    except (DaemonError, msgspec.MsgspecError):
        return
    loaded = [key for lane in status.lanes for key in lane.engines if key.startswith("llm:")]
    if loaded:
        render.note(
            f"the daemon has {', '.join(loaded)} loaded, which shares this machine; for figures of its own: "
            "`assistant models unload`, or `assistant down`"
        )
