"""``assistant listen``, ``mute``, ``unmute`` and ``hush``: the listening loop from the command line."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import anyio
import click

from assistant import events, paths
from assistant.errors import AudioError, VoiceError

from . import connect, render
from .listening import ListenView
from .live import Live
from .sound import Speech, check_player, check_target, read_audio
from .watching import with_progress

if TYPE_CHECKING:
    from assistant.client import Client, VoiceAction
    from assistant.wire import VoiceInfo


@click.command("listen")
@click.option("--input", "source", metavar="FILE",
              help="Listen to an audio file, faster than real time; - is standard input.")  # fmt: skip
@click.option("--output", metavar="FILE", callback=check_target,
              help="With --input: write what is said and played there, as a WAV file; - plays it.")  # fmt: skip
@click.option("--events", "log", metavar="FILE", callback=check_target,
              help="Write every event there as a line of JSON; - is standard output.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="The same as --events -.")
@click.option("--stop", is_flag=True, help="Stop listening instead, whoever began it.")
@click.option("-v", "--verbose", is_flag=True, help="Also near misses, what was dropped, pauses and tool calls.")
@click.option("-q", "--quiet", is_flag=True, help="No progress and no notices.")
def listen(
    *, source: str | None, output: str | None, log: str | None, as_json: bool, stop: bool, verbose: bool, quiet: bool
) -> int:
    """Listen for the wake word and answer aloud, until you leave.

    Keys on a terminal: m closes and opens the microphone, space talks without the wake word, s silences it, q leaves.

    Leaving closes the microphone, unless [voice] enabled = true.
    """
    if output is not None and source is None:
        raise click.UsageError("--output goes with --input")
    if as_json and log not in (None, "-"):
        raise click.UsageError("--json and --events FILE exclude each other")
    if stop:
        return _stop()
    log = "-" if as_json else log
    if source is not None:
        return _simulate(source, output, log, verbose=verbose, quiet=quiet)
    folders = paths.find()
    client = connect.client(folders, quiet=quiet)
    with ListenView(log, verbose=verbose, quiet=quiet) as view:
        return anyio.run(Live(client, view, partial(connect.ensure, folders, quiet=quiet)).run)


@click.command("mute")
def mute() -> None:
    """Close the microphone until `assistant unmute`; exit status 1 if the assistant does not listen."""
    voice = _command("mute")
    if voice is not None and voice.microphone == "open":
        raise VoiceError(f"the microphone {voice.device} did not close", hint="`assistant listen --stop`")
    render.out("The microphone is closed.")


@click.command("unmute")
def unmute() -> None:
    """Open the microphone again; exit status 1 if the assistant does not listen."""
    voice = _command("unmute")
    if voice is None or voice.microphone != "open":
        raise VoiceError("the microphone does not open; the assistant keeps trying", hint="`assistant doctor`")
    render.out(f"The microphone is open: {render.safe(voice.device)}")


@click.command("hush")
def hush() -> None:
    """Stop what is being said, and timers that ring; exit status 1 if the assistant does not listen."""
    _command("hush")


def _stop() -> int:
    from . import probe

    if probe.listens(paths.find().socket):
        _command("stop")
    render.out("The microphone is closed; the assistant does not listen.")
    return 0


def _command(action: VoiceAction) -> VoiceInfo | None:
    from assistant.client import Client

    return anyio.run(Client(paths.find().socket).voice, action)


def _simulate(source: str, output: str | None, log: str | None, *, verbose: bool, quiet: bool) -> int:
    if output == "-":
        check_player("--output")
    try:
        pcm = read_audio(source, quiet=quiet).pcm
    except AudioError as error:
        hint = error.hint.replace("assistant ask --audio", "assistant listen --input")
        raise AudioError(error.message, hint=hint) from error
    client = connect.client(paths.find(), quiet=quiet)
    speech = Speech()
    with ListenView(log, verbose=verbose, quiet=quiet) as view:
        work = partial(_play, client, pcm, view, speech if output is not None else None)
        anyio.run(partial(with_progress, client, work, quiet=quiet))
    if output is not None:
        speech.deliver(output)
    return 0


async def _play(client: Client, pcm: bytes, view: ListenView, speech: Speech | None) -> None:
    async for event in client.simulate(pcm):
        if not isinstance(event, events.SpeechSynthesized):
            await view.show(event)
        elif speech is not None:
            speech.add(event.pcm, event.sample_rate)
