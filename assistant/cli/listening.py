"""What ``assistant listen`` shows of what happens."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Self

from assistant import events
from assistant.events import Event

from . import render
from .output import Output, StatusLine
from .progress import ModelProgress
from .view import call_text

if TYPE_CHECKING:
    from assistant.errors import AssistantError
    from assistant.wire import VoiceInfo

DOING = {
    "idle": "waiting for the wake word", "muted": "muted", "listening": "listening…", "thinking": "thinking…",
    "speaking": "speaking…", "ringing": "ringing",
}  # fmt: skip
"""What the changing line says while nothing better is known."""
SPOKEN_TAIL = 70
"""Characters of the answer that the changing line shows while it is spoken."""


class ListenView:
    """A line for each thing that matters, or every event as JSON.

    Args:
        log: a file that gets every event as a line of JSON; ``-`` is standard output, which then has nothing else.
        verbose: also near misses, what was dropped, pauses and tool calls.
        quiet: no changing line and no notices.
    """

    def __init__(self, log: str | None, *, verbose: bool = False, quiet: bool = False) -> None:
        self.machine = log == "-"
        self.muted = self.listening = False
        self._log = log
        self._verbose = verbose
        self._quiet = quiet
        self._file: IO[bytes] | None = None
        self._stack = ExitStack()
        self._output = Output()
        self._line = StatusLine(quiet=quiet or self.machine)
        self._progress = ModelProgress(self._line, quiet=quiet or self.machine)
        self._doing = ""
        self._open = ""
        """The microphone that was last said to be open."""
        self._told = False
        """An event of this connection has told of the microphone."""
        self._duplex = "full"
        self._turns: set[str] = set()

    def __enter__(self) -> Self:
        if self._log is not None and not self.machine:
            self._file = self._stack.enter_context(Path(self._log).open("wb"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._line.clear()
        self._stack.close()

    async def show(self, event: Event) -> None:
        """One event of the daemon.

        Raises:
            BrokenPipeError: nobody reads our output any more.
        """
        if self._file is not None:
            self._file.write(events.encode(event) + b"\n")
            self._file.flush()
        self._remember(event)
        if self.machine:
            await self._output.write_bytes(events.encode(event) + b"\n")
        elif isinstance(event, events.ModelProgressed):
            self._progress.show(event)
        elif self._concerns(event):
            await self._tell(self._line_of(event))
            self._line.show(self._passing(event))

    def connected(self) -> None:
        """A connection begins: nothing is known of the microphone."""
        self._open, self._told = "", False

    async def began(self, voice: VoiceInfo | None) -> None:
        """The daemon listens now, or did so all along."""
        if voice is None:
            return
        self.now(voice)
        if self.machine:
            return
        if voice.recording:
            await self._tell("! RECORDING: what is said to it is kept as files ([voice] record)")
        if self._told:
            return
        self._doing = DOING.get(voice.state, "")
        if voice.microphone == "open":
            self._open = voice.device
            await self._tell(f"(microphone open: {voice.device})")
        elif self.muted:
            await self._tell("(microphone closed)")
        self._line.show(self._doing)

    def now(self, voice: VoiceInfo | None) -> None:
        """How it stands."""
        if voice is not None:
            self.muted, self.listening = voice.microphone == "muted", voice.state == "listening"

    async def trouble(self, error: AssistantError) -> None:
        """Something that was asked for with a key could not be done."""
        if self.machine:
            self.note(f"{error.message} ({error.hint})" if error.hint else error.message)
        else:
            await self._tell(hinted(error.message, error.hint))

    def note(self, text: str) -> None:
        """A notice about the daemon or this command, on standard error."""
        self._line.clear()
        if not self._quiet:
            render.note(text)

    def _remember(self, event: Event) -> None:
        match event:
            case events.TurnStarted(source="voice"):
                self._turns.add(event.turn_id)
            case events.VoiceStateChanged():
                self.muted, self.listening = event.state == "muted", event.state == "listening"
                self._doing = DOING.get(event.state, "")

    def _concerns(self, event: Event) -> bool:
        """Whether it is about what is said here, not about somebody's typed question."""
        if isinstance(event, events.TurnFinished | events.FinalTranscript | events.ToolCallStarted):
            mine = event.turn_id in self._turns
            if isinstance(event, events.TurnFinished):
                self._turns.discard(event.turn_id)
            return mine
        return True

    def _line_of(self, event: Event) -> str:
        if isinstance(event, events.ListeningStarted | events.ListeningStopped):
            known, self._told = self._open, True
            self._open = event.device if isinstance(event, events.ListeningStarted) else ""
            if known and known == self._open:
                return ""
        if isinstance(event, events.EchoMeasured) and event.duplex != self._duplex:
            self._duplex = event.duplex
            return echo_text(event)
        return line_of(event, verbose=self._verbose)

    def _passing(self, event: Event) -> str:
        """What the changing line says now."""
        match event:
            case events.PartialTranscript():
                return f"… {event.text}"
            case events.SpeechPlayed():
                return f"♪ {'…' if len(event.text) > SPOKEN_TAIL else ''}{event.text[-SPOKEN_TAIL:]}"
            case events.SpeechPaused():
                return "interrupted…"
        return self._doing

    async def _tell(self, text: str) -> None:
        if text:
            self._line.clear()
            await self._output.write(text + "\n")


def line_of(event: Event, *, verbose: bool) -> str:
    """What a person is told of an event; empty: nothing."""
    match event:
        case events.FinalTranscript():
            return f"» {event.text}"
        case events.TurnFinished(error=None):
            return (event.text + (" [interrupted]" if event.reason == "cancelled" else "")).strip()
        case events.WakeWordHeard(accepted=True):
            return f"* {event.name}"
        case events.ListeningStarted():
            return f"(microphone open: {event.device})"
        case events.ListeningStopped():
            return {"muted": "(microphone closed)", "lost": "(microphone lost)"}.get(event.reason, "")
        case events.RingingStarted():
            return f"~ {event.name} rings"
        case events.SpeechDropped(reason="nobody"):
            return "(nobody spoke)"
        case events.SpeechDropped(reason="no_words"):
            return "(no words understood)"
    return _trouble(event) or (_detail(event) if verbose else "")


def _trouble(event: Event) -> str:
    match event:
        case events.TurnFinished(error=events.ErrorInfo() as error) | events.VoiceFailed(error=error):
            return hinted(error.message, error.hint)
        case events.AudioTroubled():
            return hinted(event.message, event.hint)
    return ""


def _detail(event: Event) -> str:
    match event:
        case events.WakeWordHeard():
            return f"  (nearly {event.name}: {event.score:.2f})"
        case events.SpeechDropped():
            return f"  (dropped, {event.reason.replace('_', ' ')}{f': {event.text!r}' if event.text else ''})"
        case events.SpeechEnded():
            return f"  (end of the words after {event.waited:.2f} s: {event.reason})"
        case events.SpeechPaused():
            return "  (silent: somebody speaks)"
        case events.SpeechResumed():
            return "  (goes on)"
        case events.ToolCallStarted():
            return f"  ({call_text(event)})"
        case events.RingingStopped():
            return f"  ({event.name} rings no more)"
        case events.EchoMeasured():
            return f"  ({echo_text(event).strip('()')})"
    return ""


def echo_text(event: events.EchoMeasured) -> str:
    """How well it keeps its own sound out."""
    kept = f"own sound {event.attenuation_db:.0f} dB down"
    return f"({kept}: it hears nothing while it speaks)" if event.duplex == "half" else f"({kept}: can be interrupted)"


def hinted(message: str, hint: str) -> str:
    """A fault on one line."""
    return f"! {message} ({hint})" if hint else f"! {message}"
