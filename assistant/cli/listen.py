"""``assistant listen``, ``mute``, ``unmute`` and ``hush``: the listening loop from the command line."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import click

from assistant import events, paths
from assistant.errors import DaemonUnreachable

from . import connect, render
from .failures import INTERRUPTED, from_info
from .listening import Transcriber, keys
from .sound import check_target, read_audio
from .watching import with_progress

if TYPE_CHECKING:
    from assistant.client import Client

KEYS = "m mute, t talk, s stop talking, q leave"


@click.command("listen")
@click.option("--input", "source", metavar="FILE", help="Listen to an audio file, faster than real time.")
@click.option("--output", "output", metavar="FILE", default=None, callback=check_target,
              help="With --input: write what is said and played there, as a WAV file.")  # fmt: skip
@click.option("--events", "log", metavar="FILE", help="Write every event there as a line of JSON; - for here.")
@click.option("--json", "as_json", is_flag=True, help="The same as --events -.")
@click.option("-v", "--verbose", is_flag=True, help="Also near misses and what was dropped.")
@click.option("-q", "--quiet", is_flag=True, help="No progress of models being fetched.")
def listen(
    source: str | None, output: str | None, log: str | None, as_json: bool, verbose: bool, quiet: bool
) -> int:
    """Listen for the wake word and answer aloud, until you leave.

    While [voice] enabled = true the daemon goes on listening after you leave.
    """
    if output is not None and source is None:
        raise click.UsageError("--output goes with --input")
    if as_json and log is None:
        log = "-"
    client = connect.client(paths.find(), quiet=quiet)
    with Transcriber(log, verbose=verbose) as transcriber:
        if source is not None:
            pcm = read_audio(source, quiet=quiet).pcm
            work = partial(_simulate, client, pcm, output, transcriber)
            anyio.run(partial(with_progress, client, work, quiet=quiet))
            return 0
        return anyio.run(_listen, client, transcriber, quiet)


@click.command("mute")
def mute() -> None:
    """Close the microphone until `assistant unmute`."""
    _command("mute")
    render.out("The microphone is closed.")


@click.command("unmute")
def unmute() -> None:
    """Open the microphone again."""
    _command("unmute")
    render.out("The microphone is open.")


@click.command("hush")
def hush() -> None:
    """Stop what is being said, and timers that ring."""
    _command("hush")


def _command(action: str) -> None:
    client = connect.client(paths.find(), quiet=True)
    anyio.run(client.voice, action)


async def _simulate(client: Client, pcm: bytes, output: str | None, transcriber: Transcriber) -> None:
    async for event in client.simulate(pcm):
        if isinstance(event, events.SpeechSynthesized):
            if output is not None:
                from assistant.voice.audio_files import write_wav

                write_wav(Path(output), event.pcm, event.sample_rate)
        else:
            transcriber.take(event)


async def _listen(client: Client, transcriber: Transcriber, quiet: bool) -> int:
    """Ask the daemon to listen and tell what happens; asks it to stop on the way out."""
    from assistant.wire import Subscribe

    await with_progress(client, partial(client.voice, "listen"), quiet=quiet)
    if not transcriber.machine:
        render.note(f"Listening. {KEYS}." if sys.stdin.isatty() else "Listening. Ctrl-C to leave.")
    try:
        async with client.connect() as connection, anyio.create_task_group() as tasks:
            await connection.send(Subscribe())
            tasks.start_soon(keys, client, tasks.cancel_scope)
            async for event in connection:
                transcriber.take(event)
                if isinstance(event, events.VoiceFailed) and event.error.permanent:
                    raise from_info(event.error)
                if isinstance(event, events.DaemonStopping):
                    raise DaemonUnreachable("the daemon was stopped", hint="`assistant listen` starts it again")
            tasks.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True), anyio.move_on_after(5):
            await _leave(client)
    return INTERRUPTED if transcriber.interrupted else 0


async def _leave(client: Client) -> None:
    try:
        await client.voice("stop")
    except DaemonUnreachable:
        return
