"""What ``assistant listen`` shows, and the keys it takes."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Self

import anyio
import anyio.to_thread

from assistant import events
from assistant.events import Event

from . import render

if TYPE_CHECKING:
    from assistant.client import Client

class Transcriber:
    """Writes down what is heard and said: a line each for people, or every event as JSON.

    Args:
        log: a file for the events; ``-`` is standard output, which then has nothing else.
        verbose: also near misses and what was dropped.
    """

    def __init__(self, log: str | None, *, verbose: bool) -> None:
        self.machine = log == "-"
        self.interrupted = False
        self._log = log
        self._verbose = verbose
        self._file: IO[bytes] | None = None
        self._stack = ExitStack()
        self._spoken = ""
        self._turns: set[str] = set()

    def __enter__(self) -> Self:
        if self._log == "-":
            self._file = sys.stdout.buffer
        elif self._log is not None:
            self._file = self._stack.enter_context(Path(self._log).open("wb"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def take(self, event: Event) -> None:
        """One event of the daemon."""
        if self._file is not None:
            self._file.write(events.encode(event) + b"\n")
            self._file.flush()
        if not self.machine and (line := line_of(event, verbose=self._verbose)):
            render.out(render.safe(line))


def line_of(event: Event, *, verbose: bool) -> str:
    """What a person is told of an event; empty: nothing."""
    match event:
        case events.FinalTranscript():
            return f"> {event.text}"
        case events.TurnFinished(error=None):
            return event.text + (" [interrupted]" if event.reason == "cancelled" else "")
        case events.WakeWordHeard(accepted=True):
            return f"* {event.name}"
        case events.ListeningStarted():
            return f"(microphone open: {event.device})"
        case events.ListeningStopped(reason="muted"):
            return "(microphone closed)"
        case events.RingingStarted():
            return f"~ {event.name} rings"
    return _trouble(event) or (_detail(event) if verbose else "")


def _trouble(event: Event) -> str:
    match event:
        case events.TurnFinished(error=events.ErrorInfo() as error) | events.VoiceFailed(error=error):
            return _hinted(error.message, error.hint)
        case events.AudioTroubled():
            return _hinted(event.message, event.hint)
    return ""


def _detail(event: Event) -> str:
    match event:
        case events.WakeWordHeard():
            return f"  (nearly {event.name}: {event.score:.2f})"
        case events.SpeechDropped():
            return f"  (dropped: {event.reason.replace('_', ' ')}{f', {event.text!r}' if event.text else ''})"
        case events.RingingStopped():
            return f"  ({event.name} rings no more)"
    return ""


def _hinted(message: str, hint: str) -> str:
    return f"! {message} ({hint})" if hint else f"! {message}"


async def keys(client: Client, scope: anyio.CancelScope) -> None:
    """Take single keys from a terminal until one says to leave; returns at once where there is none."""
    if not sys.stdin.isatty():
        return
    import termios
    import tty

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    tty.setcbreak(terminal)
    talking = muted = False
    try:
        while True:
            key = await anyio.to_thread.run_sync(sys.stdin.read, 1, abandon_on_cancel=True)
            match key:
                case "q" | "":
                    scope.cancel()
                    return
                case "m":
                    muted = not muted
                    await client.voice("mute" if muted else "unmute")
                case "t" | " ":
                    talking = not talking
                    await client.voice("talk" if talking else "release")
                case "s":
                    await client.voice("hush")
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
