"""The working side of a lane: one thread that loads engines and steps jobs, one bounded piece of work at a time."""

from __future__ import annotations

import gc
import heapq
import itertools
import logging
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from assistant.errors import AssistantError, EngineFailed

from .base import Loadable
from .messages import (
    Call,
    Cancel,
    Close,
    Done,
    Failed,
    Finished,
    FromLane,
    Item,
    Load,
    More,
    Start,
    Stream,
    ToLane,
    Unload,
)

log = logging.getLogger(__name__)

_END = object()


@dataclass(frozen=True)
class Step:
    """The piece of work that is being done."""

    started: float
    """``time.monotonic()``"""
    key: str
    """The engine."""
    loading: bool


@dataclass
class _Job:
    message: Load | Call | Stream
    key: str
    credit: int = 0
    iterator: Iterator[object] | None = None
    queued: bool = False


class Scheduler:
    """Owns the engines of a lane; everything but ``inbox``, ``step`` and ``loaded`` belongs to the thread in ``run()``.

    Args:
        send: takes the answers; called on the lane's thread.
        pack: makes a ``body``; raises for what cannot travel.
        unpack: reads a ``body``.
    """

    def __init__(
        self, send: Callable[[FromLane], None], pack: Callable[[Any], Any], unpack: Callable[[Any], Any]
    ) -> None:
        self.inbox: SimpleQueue[ToLane] = SimpleQueue()
        """Takes messages from any thread, and from signal handlers."""
        self.step: Step | None = None
        self.loaded: tuple[str, ...] = ()
        self._send = send
        self._pack = pack
        self._unpack = unpack
        self._jobs: dict[int, _Job] = {}
        self._ready: list[tuple[int, int, int]] = []
        self._turn = itertools.count()
        self._engines: dict[str, Loadable] = {}
        self._handles: dict[int, tuple[str, object]] = {}
        self._running = True

    def run(self) -> None:
        """Work until ``Close`` comes; then close everything on this same thread."""
        try:
            while self._running:
                if not self._ready:
                    self._handle(self.inbox.get())
                while not self.inbox.empty():
                    self._handle(self.inbox.get())
                if self._ready and self._running:
                    self._advance()
        finally:
            self._close()

    def _handle(self, message: ToLane) -> None:
        match message:
            case Load(key=key):
                self._admit(_Job(message, key))
            case Call(target=target):
                self._admit(_Job(message, self._key(target)))
            case Stream(target=target, credit=credit):
                self._admit(_Job(message, self._key(target), credit))
            case More(job=number, credit=credit):
                if job := self._jobs.get(number):
                    job.credit += credit
                    self._queue(job)
            case Cancel(job=number):
                self._cancel(number)
            case Unload():
                self._unload(message)
            case Close():
                self._running = False
            case Start():
                pass

    def _key(self, target: str | int) -> str:
        if isinstance(target, str):
            return target
        return self._handles[target][0] if target in self._handles else ""

    def _admit(self, job: _Job) -> None:
        self._jobs[job.message.job] = job
        self._queue(job)

    def _queue(self, job: _Job) -> None:
        if not job.queued:
            job.queued = True
            heapq.heappush(self._ready, (job.message.priority, next(self._turn), job.message.job))

    def _advance(self) -> None:
        _, _, number = heapq.heappop(self._ready)
        job = self._jobs.get(number)
        if job is None:
            return
        job.queued = False
        self.step = Step(time.monotonic(), job.key, isinstance(job.message, Load))
        answer: FromLane
        try:
            answer = self._work(job)
        except (Exception, SystemExit) as error:
            self._shut(job)
            answer = self._failure(job, error)
        self.step = None
        if not isinstance(answer, Item):
            del self._jobs[number]
        elif job.credit > 0:
            self._queue(job)
        self._send(answer)

    def _work(self, job: _Job) -> Done | Item | Finished:
        match job.message:
            case Load(job=number, key=key, body=body):
                engine, model = self._unpack(body)
                self._load(key, engine, model)
                return Done(number, self._pack(None))
            case Call(job=number, target=target, keep=keep, body=body):
                result = self._bound(target, body)()
                if keep:
                    self._handles[number] = (job.key, result)
                    result = None
                return Done(number, self._pack(result))
            case Stream(job=number, target=target, body=body):
                if job.iterator is None:
                    job.iterator = iter(self._bound(target, body)())
                item = next(job.iterator, _END)
                if item is _END:
                    self._shut(job)
                    return Finished(number)
                job.credit -= 1
                return Item(number, self._pack(item))

    def _load(self, key: str, engine: Loadable, model: Path | None) -> None:
        if key not in self._engines:
            engine.load(model)
            self._engines[key] = engine
            self.loaded = tuple(self._engines)

    def _bound(self, target: str | int, body: Any) -> Callable[[], Any]:
        method, args = self._unpack(body)
        held = self._engines.get(target, _END) if isinstance(target, str) else self._handles.get(target, ("", _END))[1]
        if held is _END:
            raise EngineFailed(f"nothing is loaded or open as {target!r}", hint="it was removed or released meanwhile")
        name = getattr(method, "__name__", "")
        if any(vars(kind).get(name) is method for kind in type(held).__mro__):
            return partial(getattr(held, name), *args)
        return partial(method, held, *args)

    def _cancel(self, number: int) -> None:
        job = self._jobs.pop(number, None)
        if job is None:
            self._handles.pop(number, None)
            return
        self._shut(job)
        self._send(Finished(number))

    def _unload(self, message: Unload) -> None:
        gone = EngineFailed(f"engine {message.key!r} was unloaded during the work", hint="try again")
        for number, job in list(self._jobs.items()):
            if job.key == message.key:
                del self._jobs[number]
                self._shut(job)
                self._send(self._failure(job, gone))
        self._handles = {number: held for number, held in self._handles.items() if held[0] != message.key}
        engine = self._engines.pop(message.key, None)
        self.loaded = tuple(self._engines)
        if engine is not None:
            self._quietly(message.key, engine.close)
        del engine
        gc.collect()
        self._send(Done(message.job, self._pack(None)))

    def _shut(self, job: _Job) -> None:
        iterator, job.iterator = job.iterator, None
        close = getattr(iterator, "close", None)
        if close is not None:
            self._quietly(job.key, close)

    def _quietly(self, key: str, close: Callable[[], object]) -> None:
        self.step = Step(time.monotonic(), key, loading=False)
        try:
            close()
        except (Exception, SystemExit):
            log.exception("engine %s raised while it was closed", key)
        self.step = None

    def _failure(self, job: _Job, error: BaseException) -> Failed:
        known = error if isinstance(error, AssistantError) else engine_failed(job.key, error)
        try:
            body = self._pack(known)
        except Exception:
            body = self._pack(None)
        return Failed(job.message.job, known.code, known.message, known.hint, body)

    def _close(self) -> None:
        for job in self._jobs.values():
            self._shut(job)
        self._jobs.clear()
        self._handles.clear()
        while self._engines:
            key, engine = self._engines.popitem()
            self._quietly(key, engine.close)
        self.loaded = ()
        clear_mlx_streams()


def engine_failed(key: str, error: BaseException) -> EngineFailed:
    """What any exception of an engine becomes: its type, its message and the line that raised; the rest is logged."""
    log.error("engine %s failed", key, exc_info=error)
    text = f"engine {key!r}: {type(error).__name__}: {str(error)[:500]}"
    if frames := traceback.extract_tb(error.__traceback__):
        last = frames[-1]
        text += f" ({Path(last.filename).name}:{last.lineno} in {last.name})"
    failed = EngineFailed(text, hint="the daemon's log has the whole traceback")
    failed.__cause__ = error
    return failed


def clear_mlx_streams() -> None:
    """Give back this thread's MLX streams, if it has any: MLX may abort at exit when a thread ends with them."""
    clear = getattr(sys.modules.get("mlx.core"), "clear_streams", None)
    if clear is not None:
        clear()
