"""``assistant up``, ``down`` and ``status``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from assistant.errors import DaemonError
from assistant.paths import Paths, find

from . import probe, render

if TYPE_CHECKING:
    from assistant.wire import Status, VoiceInfo

STOP_SECONDS = 30.0
"""How long a daemon may take to go down in good order."""


@click.command("up")
@click.option("--foreground", is_flag=True, help="Stay here and log to standard error; Ctrl-C stops it.")
def up(foreground: bool) -> int:
    """Start the daemon; nothing happens if it runs.

    In the foreground a daemon that runs already is a refusal: exit status 2.
    """
    paths = find()
    if foreground:
        from assistant.daemon import run

        return run(paths)
    from .connect import ensure

    started = ensure(paths, quiet=False)
    status = read_status(paths)
    render.out(f"the assistant {'is up' if started else 'is already running'} (process {status.pid})")
    return 0


@click.command("down")
def down() -> int:
    """Stop the daemon and wait until it is gone; nothing happens if it does not run."""
    paths = find()
    if not probe.listens(paths.socket):
        render.out("the assistant is not running")
        return 0
    import anyio

    from assistant.client import Client

    pid = read_status(paths).pid
    anyio.run(Client(paths.socket).stop)
    _await_end(paths, pid)
    render.out("the assistant is down")
    return 0


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
def status(as_json: bool) -> int:
    """Show what the daemon is doing and what it costs; exit status 1 if it is down."""
    found = read_status(find())
    if as_json:
        render.json_out(found)
    else:
        render.out(describe(found, now=time.time()))
    return 0


def read_status(paths: Paths) -> Status:
    """The daemon's status.

    Raises:
        DaemonUnreachable: it is down.
        DaemonError: it hangs, or is of another version.
    """
    import msgspec

    from assistant.wire import Status

    try:
        return msgspec.json.decode(probe.get(paths.socket, "/api/status"), type=Status)
    except msgspec.MsgspecError as error:
        raise DaemonError(
            f"the daemon's status makes no sense: {error}", hint="it may be of another version: assistant down"
        ) from error


def describe(status: Status, *, now: float) -> str:
    """The status as plain text."""
    facts = [
        ("assistant", f"{status.version}, process {status.pid}, up {render.duration(now - status.started_at)}"),
        ("memory", f"{render.size(status.rss)}; with its lanes {render.size(_total_rss(status))}"),
        ("cpu", f"{status.cpu_percent:.0f} % of a core"),
        ("language model", status.llm),
        ("speech to text", status.stt),
        ("text to speech", status.tts),
        ("microphone", _microphone(status.voice)),
        ("conversations", f"{status.sessions}; {status.live_turns} answering now"),
        ("plugins", _plugins(status)),
        ("configuration", status.home_config or "all defaults"),
        ("socket", status.socket),
        *([("OpenAI API", f"{status.api} (key: assistant config token)")] if status.api else []),
    ]
    lanes = render.table(
        ("LANE", "STATE", "PROCESS", "MEMORY", "JOBS", "RESTARTS", "LOADED"),
        [
            (
                lane.name, lane.state, str(lane.pid or "-"), render.size(lane.rss) if lane.rss else "-",
                str(lane.jobs), str(lane.restarts), ", ".join(lane.engines) or "-",
            )
            for lane in status.lanes
        ],
        right=(2, 3, 4, 5),
    )  # fmt: skip
    parts = [render.pairs(facts), *([lanes] if status.lanes else []), *([_models(status)] if status.models else [])]
    return "\n\n".join(parts)


def _microphone(voice: VoiceInfo | None) -> str:
    if voice is None:
        return "closed: it does not listen"
    facts = [voice.microphone, *([voice.device] if voice.device else []), voice.state]
    facts.append("full duplex" if voice.duplex == "full" else "half duplex: it hears nothing while it speaks")
    if voice.attenuation_db is not None:
        facts.append(f"echo -{voice.attenuation_db:.0f} dB")
    if voice.recording:
        facts.append("RECORDING what is said to it")
    return ", ".join(facts)


def _models(status: Status) -> str:
    """What is loaded and the memory it holds."""
    rows = [
        (
            each.key, render.size(each.memory.active) if each.memory.active else "-",
            render.size(each.memory.prompt_cache) if each.memory.prompt_cache else "-",
            render.size(each.memory.limit) if each.memory.limit else "-",
            f"{each.users} using it" if each.users else f"idle for {render.duration(each.idle_seconds)}",
            "pinned" if each.pinned else "-",
        )
        for each in status.models
    ]  # fmt: skip
    head = ("MODEL", "HOLDS", "OF THAT PROMPTS", "LIMIT", "USE", "STAYS")
    return render.table(head, rows, right=(1, 2, 3))


def _total_rss(status: Status) -> int:
    return status.rss + sum(lane.rss for lane in status.lanes)


def _plugins(status: Status) -> str:
    loaded = f"{status.plugins_loaded} loaded"
    return f"{loaded}, {status.plugins_failed} failed: assistant plugins list" if status.plugins_failed else loaded


def _await_end(paths: Paths, pid: int) -> None:
    deadline = time.monotonic() + STOP_SECONDS
    while time.monotonic() < deadline:
        if not probe.listens(paths.socket) and not _alive(pid):
            return
        time.sleep(0.05)
    raise DaemonError(f"the daemon (process {pid}) did not stop within {STOP_SECONDS:.0f} s", hint=f"kill {pid}")


def _alive(pid: int) -> bool:
    import psutil

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
