"""The events of a turn, for a person or for a program."""

from __future__ import annotations

from assistant import events
from assistant.events import Event

from . import failures, render
from .output import Output, StatusLine
from .progress import ModelProgress

MAX_ARGUMENTS = 100
"""Characters of a tool call's arguments that are shown."""


class JsonView:
    """Every event as one line of JSON on standard output."""

    def __init__(self) -> None:
        self._output = Output()

    async def show(self, event: Event) -> None:
        """Write the event."""
        await self._output.write_bytes(events.encode(event) + b"\n")

    def cancelling(self) -> None:
        """Nothing: the events tell."""

    async def end(self) -> None:
        """Nothing: every event is a whole line."""


class TextView:
    """The answer on standard output; everything else on standard error, and only for a person."""

    def __init__(
        self, *, stream: bool = True, quiet: bool = False, spoken: bool = False, whole: bool = False,
        verbose: bool = False,
    ) -> None:  # fmt: skip
        """
        Args:
            whole: the answer is JSON, of which a part is worth nothing.
            verbose: tell afterwards what it took.
        """
        self._output = Output()
        self._whole = whole
        self._verbose = verbose
        self._stream = stream and not whole
        self._spoken = spoken
        self._line = StatusLine(quiet=quiet)
        self._progress = ModelProgress(self._line, quiet=quiet)
        self._last = ""
        """The end of what was written of the answer."""
        self._cancelling = False

    async def show(self, event: Event) -> None:
        """Show the event, or keep silent about it."""
        match event:
            case events.TextDelta(text=text) if self._stream:
                await self._write(text)
            case events.TurnFinished():
                await self._finish(event)
            case events.ModelProgressed():
                await self._break()
                self._progress.show(event)
            case events.TurnStarted():
                self._line.show("thinking…")
            case events.PromptProgressed(done=done, total=total) if not self._last:
                self._line.show(f"reading the prompt  {done} of {total} tokens")
            case events.FinalTranscript(text=text) if self._spoken:
                self._line.note(f"» {text}")
            case events.PartialTranscript(text=text):
                self._line.show(f"» {text}")
            case events.ToolCallStarted():
                await self._break()
                self._line.note(f"· {call_text(event)}")
            case events.ToolCallFinished(ok=False):
                await self._break()
                self._line.note(f"· {event.tool} failed: {event.result}", "red")

    def cancelling(self) -> None:
        """Tell the person that the first Ctrl-C was noticed."""
        self._cancelling = True
        self._line.show("cancelling… (Ctrl-C again leaves at once)")

    async def end(self) -> None:
        """End the last line of the answer."""
        if self._last and not self._last.endswith("\n"):
            await self._write("\n")
        self._line.clear()

    async def _write(self, text: str) -> None:
        if text:
            self._line.clear()
            self._last = text
            await self._output.write(text)

    async def _break(self) -> None:
        """End the line of the answer on a terminal, where standard error would be written into it."""
        if self._line.shown and self._output.terminal and self._last and not self._last.endswith("\n"):
            await self._write("\n")

    async def _finish(self, event: events.TurnFinished) -> None:
        worthless = event.reason == "failed" or (self._whole and event.reason != "complete")
        if not self._last and event.text and not worthless:
            await self._write(self._shaped(event.text))
        await self.end()
        if self._verbose:
            render.note(stats_text(event))
        if event.error is not None:
            failures.say(event.error.message, event.error.hint)
        elif event.reason != "complete" and not self._cancelling:
            failures.say("the answer was cancelled", "another question in the same conversation does that")


    def _shaped(self, answer: str) -> str:
        """JSON is indented for a person and left as it is for a program."""
        if not self._whole or not self._output.terminal:
            return answer
        import msgspec

        return msgspec.json.format(answer, indent=2)


def stats_text(event: events.TurnFinished) -> str:
    """What a turn took, on one line."""
    known = f" ({event.cached_tokens:,} of them known)" if event.cached_tokens else ""
    parts = [f"read {event.prompt_tokens:,} tokens{known}, wrote {event.output_tokens:,}"]
    stages = (("first_token", "first word after"), ("first_audio", "first sound after"), ("total", "all in"))
    parts += [f"{words} {event.timings[stage]:.2f} s" for stage, words in stages if stage in event.timings]
    return "; ".join(parts)


def call_text(event: events.ToolCallStarted) -> str:
    """A tool call as it would be written in Python, cut to a line."""
    arguments = ", ".join(f"{name}={value!r}" for name, value in event.arguments.items())
    if len(arguments) > MAX_ARGUMENTS:
        arguments = arguments[: MAX_ARGUMENTS - 1] + "…"
    return f"{event.tool}({arguments})"
