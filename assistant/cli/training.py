"""A training as seen from the command line: start it, show its progress, cancel it on Ctrl-C."""

from __future__ import annotations

import math
import signal
from typing import TYPE_CHECKING, Protocol

import anyio
from anyio.streams.memory import MemoryObjectSendStream

from assistant import events
from assistant.errors import AssistantError, DaemonUnreachable
from assistant.events import Event

from . import render
from .failures import FAILED, INTERRUPTED, from_info, report
from .output import Output, StatusLine
from .progress import WIDTH, ModelProgress

if TYPE_CHECKING:
    from assistant.client import Client, Connection
    from assistant.finetune import AdapterInfo, FinetuneRequest


class TrainingView(Protocol):
    """Where a training is shown."""

    def began(self, adapter: AdapterInfo) -> None:
        """It has been accepted."""

    async def show(self, event: Event) -> None:
        """Show one event."""

    def cancelling(self) -> None:
        """The user pressed Ctrl-C."""


class JsonTraining:
    """Every event as one line of JSON on standard output."""

    def __init__(self) -> None:
        self._output = Output()

    def began(self, adapter: AdapterInfo) -> None:
        """Nothing: the events tell."""

    async def show(self, event: Event) -> None:
        """Write the event."""
        await self._output.write_bytes(events.encode(event) + b"\n")

    def cancelling(self) -> None:
        """Nothing: the events tell."""


class TextTraining:
    """A bar for a person, a line every tenth for a log, both on standard error; the outcome on standard output."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._line = StatusLine(quiet=quiet)
        self._models = ModelProgress(self._line, quiet=quiet)
        self._loss: float | None = None
        self._first: float | None = None
        self._valid: float | None = None
        self._began: tuple[float, int] | None = None
        self._tenth = 0
        self._cancelling = False

    def began(self, adapter: AdapterInfo) -> None:
        """Say what it learns from."""
        self._first, self._valid = adapter.first_loss, adapter.valid_loss
        if not self._quiet:
            aside = f", {adapter.valid_examples} kept aside to check" if adapter.valid_examples else ""
            render.note(f"{adapter.name}: {adapter.train_examples} answers to learn from{aside}; model {adapter.model}")
        self._line.show(f"{adapter.name}  loading {adapter.model}…")

    async def show(self, event: Event) -> None:
        """Show the event, or keep silent about it."""
        match event:
            case events.ModelProgressed():
                self._models.show(event)
            case events.FinetuneProgressed():
                self._progress(event)
            case events.FinetuneFinished():
                self._line.clear()
                if event.error is None:
                    render.out(self._outcome(event))
            case _:
                pass

    def cancelling(self) -> None:
        """Say that it takes a moment."""
        self._cancelling = True
        self._line.show("stopping when it is saved…")

    def _progress(self, event: events.FinetuneProgressed) -> None:
        if event.train_loss is not None:
            self._loss = event.train_loss
            self._first = event.train_loss if self._first is None else self._first
        self._valid = self._valid if event.valid_loss is None else event.valid_loss
        if self._began is None:
            self._began = event.at, event.iteration
        tenth = 10 * event.iteration // event.iterations
        if self._quiet or self._cancelling:
            return
        if self._line.shown:
            self._line.show(self._bar(event))
        elif tenth > self._tenth:
            self._tenth = tenth
            render.note(f"{event.adapter}: {event.iteration} of {event.iterations}{self._losses()}")

    def _bar(self, event: events.FinetuneProgressed) -> str:
        share = min(1.0, event.iteration / event.iterations)
        full = round(share * WIDTH)
        bar = "━" * full + "·" * (WIDTH - full)
        return f"{event.adapter}  {bar} {event.iteration}/{event.iterations}{self._losses()}{self._left(event)}"

    def _losses(self) -> str:
        valid = f"  validation {self._valid:.3g}" if self._valid is not None else ""
        return (f"  loss {self._loss:.3g}" if self._loss is not None else "") + valid

    def _left(self, event: events.FinetuneProgressed) -> str:
        began, first = self._began or (event.at, event.iteration)
        done = event.iteration - first
        if done < 1 or event.at - began < 1:
            return ""
        return f"  {render.duration((event.iterations - event.iteration) * (event.at - began) / done)} left"

    def _outcome(self, event: events.FinetuneFinished) -> str:
        if event.reason == "cancelled":
            return (f"{event.adapter}: stopped at {event.iteration} of {event.iterations}; "
                    f"go on with: assistant finetune {event.adapter} --resume")
        fell = ""
        if self._first is not None and self._loss is not None:
            fell = f", loss {self._first:.3g} → {self._loss:.3g}"
        valid = f", validation {self._valid:.3g}" if self._valid is not None else ""
        took = render.duration(event.seconds)
        return (f"{event.adapter}: trained for {event.iteration} iterations in {took}{fell}{valid}\n"
                f'try it: assistant ask --adapter {event.adapter} "…"')


class _Follower:
    """Follows one training on one connection until it ends."""

    def __init__(self, client: Client, connection: Connection, name: str, view: TrainingView) -> None:
        self._client = client
        self._connection = connection
        self._name = name
        self._view = view
        self.interrupted = False
        self.finished: events.FinetuneFinished | None = None
        self._scope = anyio.CancelScope()
        self._accepted = anyio.Event()

    async def run(self, request: FinetuneRequest) -> None:
        """Start it and show it to its end, or until the user has had enough of waiting for that."""
        send, receive = anyio.create_memory_object_stream[Event](math.inf)
        with self._scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._watch_keys)
                tasks.start_soon(self._read, send)
                self._view.began(await self._client.finetune(request))
                self._accepted.set()
                async with receive:
                    async for event in receive:
                        await self._take(event)
                        if self.finished is not None:
                            break
                tasks.cancel_scope.cancel()
        if self.finished is None and not self.interrupted:
            raise DaemonUnreachable(
                "the daemon went away during the training",
                hint=f"assistant logs; what was saved is kept: assistant finetune {self._name} --resume",
            )

    async def _read(self, send: MemoryObjectSendStream[Event]) -> None:
        async with send:
            try:
                async for event in self._connection:
                    send.send_nowait(event)
            except DaemonUnreachable:
                return

    async def _take(self, event: Event) -> None:
        ours = getattr(event, "adapter", "") == self._name
        if ours or isinstance(event, events.ModelProgressed | events.DaemonStopping):
            await self._view.show(event)
        if ours and isinstance(event, events.FinetuneFinished):
            self.finished = event

    async def _watch_keys(self) -> None:
        """The first Ctrl-C stops the training and waits until it is saved; the second leaves that to the daemon."""
        with anyio.open_signal_receiver(signal.SIGINT) as presses:
            async for _ in presses:
                break
            self.interrupted = True
            self._view.cancelling()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._cancel)
                async for _ in presses:
                    break
                tasks.cancel_scope.cancel()
            self._scope.cancel()

    async def _cancel(self) -> None:
        await self._accepted.wait()
        try:
            await self._client.cancel_finetune(self._name)
        except AssistantError:
            self._scope.cancel()


async def follow(client: Client, request: FinetuneRequest, view: TrainingView) -> int:
    """Train and show it; the exit status.

    Raises:
        AssistantError: it was refused, or the daemon went away.
    """
    async with client.connect() as connection:
        follower = _Follower(client, connection, request.name, view)
        await follower.run(request)
    if follower.finished is not None and follower.finished.error is not None:
        report(from_info(follower.finished.error))
        return FAILED
    return INTERRUPTED if follower.interrupted else 0
