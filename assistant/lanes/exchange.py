"""What both kinds of lane share: the verbs, spoken as messages to a scheduler somewhere else."""

from __future__ import annotations

import asyncio
import itertools
import time
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

from assistant import events
from assistant.engines import LaneObject
from assistant.errors import AssistantError, EngineCrashed, EngineFailed, EngineNotFound, LaneError, from_code

from .base import Handle, Lane, Loadable, Priority, R, Ts
from .jobs import WINDOW, Chore, Items, Pending, Reply
from .messages import Call, Cancel, Done, Failed, Finished, FromLane, Item, Load, More, Stream, ToLane, Unload


class MessageLane(Lane):
    """The verbs of a lane over ``_send`` and ``_receive``; subclasses bring up and end what works at the other end."""

    def __init__(self, name: str, publish: Callable[[events.Event], None]) -> None:
        self.name = name
        self._publish = publish
        self._numbers = itertools.count(1)
        self._pending: dict[int, Pending] = {}
        self._wanted: dict[str, tuple[Loadable, Path | None]] = {}
        """What was loaded and not removed; outlives a crash."""
        self._loaded: dict[str, None] = {}
        """What the present process or thread holds, in order."""
        self._loading: dict[str, Chore] = {}
        self._generation = 0

    @abstractmethod
    async def _up(self) -> None:
        """Return once messages can be sent, or raise why they never will; no await follows before the sending."""

    @abstractmethod
    def _send(self, message: ToLane) -> None:
        """Pass a message on; it is dropped when nobody is there, whose jobs have then failed."""

    @abstractmethod
    def _retire(self) -> None:
        """Nothing is left to hold: begin to end the process or thread."""

    @abstractmethod
    async def _retired(self) -> None:
        """Return once what ``_retire`` began is over."""

    @abstractmethod
    def _pack(self, body: Any) -> Any:
        """A body that can travel."""

    @abstractmethod
    def _unpack(self, body: Any) -> Any:
        """What travelled in a body."""

    async def add(self, key: str, engine: Loadable, model: Path | None) -> None:
        """Load an engine under ``key``; nothing happens if that key is loaded."""
        if key not in self._loaded and key not in self._loading:
            body = self._write((engine, model))
            await self._up()
            if key not in self._loaded and key not in self._loading:
                self._begin_load(key, engine, model, body)
        if chore := self._loading.get(key):
            await asyncio.shield(chore.future)

    def _begin_load(self, key: str, engine: Loadable, model: Path | None, body: Any) -> None:
        started = time.monotonic()

        def settle(error: AssistantError | None) -> None:
            del self._loading[key]
            if error is None:
                self._loaded[key] = None
                self._wanted[key] = (engine, model)
                seconds = time.monotonic() - started
                self._publish(events.EngineLoaded(engine=key, lane=self.name, seconds=seconds))
            else:
                self._rest()

        chore = Chore(key, settle)
        self._loading[key] = chore
        number = self._enter(chore)
        self._send(Load(number, Priority.CONVERSATION, key, body))

    async def remove(self, key: str) -> None:
        """Close an engine; the last one ends the process or thread."""
        if chore := self._loading.get(key):
            await asyncio.wait([chore.future])
        self._wanted.pop(key, None)
        if key in self._loaded:

            def settle(error: AssistantError | None) -> None:
                self._loaded.pop(key, None)
                self._publish(events.EngineUnloaded(engine=key, lane=self.name))
                self._rest()

            chore = Chore(key, settle)
            self._send(Unload(self._enter(chore), key))
            await asyncio.wait([chore.future])
        if self._rest():
            await self._retired()

    def _rest(self) -> bool:
        """Retire if nothing is held, coming or lost; handles of what was held are dead then."""
        idle = not (self._wanted or self._loaded or self._loading)
        if idle:
            self._generation += 1
            self._retire()
        return idle

    async def call(
        self, target: str | Handle, method: Callable[[Any, *Ts], R], *args: *Ts, priority: int = Priority.CONVERSATION
    ) -> R:
        """The result of one call."""
        key = await self._ready(target)
        body = self._write((method, args))
        number = next(self._numbers)
        result: R = await self._ask(Call(number, priority, _reference(target), keep=False, body=body), key)
        return result

    async def open(
        self,
        target: str,
        method: Callable[[Any, *Ts], LaneObject],
        *args: *Ts,
        priority: int = Priority.CONVERSATION,
    ) -> Handle:
        """Call a method whose result stays in the lane, and get a handle to it."""
        key = await self._ready(target)
        generation = self._generation
        body = self._write((method, args))
        number = next(self._numbers)
        await self._ask(Call(number, priority, target, keep=True, body=body), key)
        return Handle(self.name, key, number, generation)

    async def release(self, handle: Handle) -> None:
        """Forget what a handle stands for."""
        if handle.generation == self._generation:
            self._send(Cancel(handle.id))

    def stream(
        self,
        target: str | Handle,
        method: Callable[[Any, *Ts], Iterator[R]],
        *args: *Ts,
        priority: int = Priority.CONVERSATION,
    ) -> AbstractAsyncContextManager[AsyncIterator[R]]:
        """The items of an iterator that is stepped in the lane."""
        return self._stream(target, (method, args), priority)

    @asynccontextmanager
    async def _stream(self, target: str | Handle, work: tuple[Any, Any], priority: int) -> AsyncIterator[Items]:
        key = await self._ready(target)
        body = self._write(work)
        number = next(self._numbers)
        items = Items(key, self._read, lambda credit: self._send(More(number, credit)))
        self._pending[number] = items
        self._send(Stream(number, priority, _reference(target), WINDOW, body))
        try:
            yield items
        finally:
            if not items.over.done():
                self._send(Cancel(number))
                with anyio.CancelScope(shield=True):
                    await items.over

    async def _ready(self, target: str | Handle) -> str:
        if isinstance(target, Handle):
            if target.generation != self._generation:
                raise EngineCrashed(
                    f"what was open on engine {target.key!r} is gone: lane {self.name!r} has restarted since",
                    hint="begin again",
                )
            return target.key
        while target not in self._loaded:
            if target not in self._wanted and target not in self._loading:
                raise EngineNotFound(f"nothing is loaded as {target!r} on lane {self.name!r}", hint="load it first")
            if chore := self._loading.get(target):
                await asyncio.shield(chore.future)
            else:
                await self.add(target, *self._wanted[target])
        return target

    async def _ask(self, message: Call, key: str) -> Any:
        reply = Reply(key)
        self._pending[message.job] = reply
        self._send(message)
        try:
            body = await reply.future
        except asyncio.CancelledError:
            self._pending.pop(message.job, None)
            self._send(Cancel(message.job))
            raise
        return self._read(body)

    def _enter(self, pending: Pending) -> int:
        number = next(self._numbers)
        self._pending[number] = pending
        return number

    def _write(self, body: Any) -> Any:
        try:
            return self._pack(body)
        except Exception as error:
            message = f"this cannot be sent to lane {self.name!r}: {error}"
            raise LaneError(message, hint="engines, methods and arguments are pickled") from error

    def _read(self, body: Any) -> Any:
        try:
            return self._unpack(body)
        except Exception as error:
            raise EngineFailed(f"an answer of lane {self.name!r} cannot be read here: {error}") from error

    def _receive(self, message: FromLane) -> None:
        match message:
            case Item(job=number, body=body):
                if pending := self._pending.get(number):
                    pending.item(body)
            case Done(job=number, body=body):
                if pending := self._pending.pop(number, None):
                    pending.done(body)
            case Finished(job=number):
                if pending := self._pending.pop(number, None):
                    pending.end(None)
            case Failed(job=number):
                if pending := self._pending.pop(number, None):
                    pending.end(self._error(message))
            case _:
                pass

    def _error(self, message: Failed) -> AssistantError:
        try:
            error = self._unpack(message.body)
            if isinstance(error, AssistantError):
                return error
            return from_code(message.code, message.message, message.hint)
        except Exception:
            return LaneError(message.message, hint=message.hint)

    def _lose(self, error: Callable[[str], AssistantError]) -> None:
        """Everything that the process or thread held is gone; ``error`` is told the engine of each job."""
        self._generation += 1
        self._loaded.clear()
        pending, self._pending = self._pending, {}
        for job in pending.values():
            job.end(error(job.key))


def _reference(target: str | Handle) -> str | int:
    return target if isinstance(target, str) else target.id
