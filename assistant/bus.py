"""The event bus: bounded fan-out to subscribers and observers; a slow subscriber is dropped and told so."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel

from .events import Event, SubscriberLagged

log = logging.getLogger(__name__)

BACKLOG = 1000
"""Events kept from before the loop runs; beyond it the oldest are dropped."""


class Bus:
    """Hands every event to all who want it, on the thread of one event loop.

    The loop is the one that runs where the bus is made, else the first that publishes or subscribes. What is published
    before that waits until the loop is known; what is published after the loop has closed is dropped.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop = _running_loop()
        self._queue: deque[Event] = deque()
        self._delivering = False
        self._subscriptions: list[_Subscription] = []
        self._observers: list[Callable[[Event], None]] = []

    def publish(self, event: Event) -> None:
        """Deliver an event; from any thread. Never blocks, never raises.

        On the loop's own thread it has reached everyone on return, unless an observer is the one that publishes: then
        it follows the event being delivered, so that all see one order.
        """
        here = _running_loop()
        with self._lock:
            loop = self._adopt(here)
            if loop is None:
                self._queue.append(event)
                if len(self._queue) > BACKLOG:
                    self._queue.popleft()
                return
        if loop is here:
            self._accept(event)
            return
        try:
            loop.call_soon_threadsafe(self._accept, event)
        except RuntimeError:
            log.debug("dropped %s: the event loop is closed", type(event).__name__)

    @asynccontextmanager
    async def subscribe(
        self, wants: Callable[[Event], bool] | None = None, capacity: int = 1000
    ) -> AsyncIterator[AsyncIterator[Event]]:
        """The events from now on, in order; leaving the block unsubscribes and ends the iteration.

        Args:
            wants: which events to get; called on the loop's thread for every event, so it must be cheap. If it
                raises, this subscription ends with that error and nobody else notices.
            capacity: how many events may wait. With one more the subscription ends: what waits is still read, then
                one ``SubscriberLagged`` with the number of events that were missed until it was read.

        Raises:
            RuntimeError: the bus is in use on another event loop that still runs.
        """
        here = asyncio.get_running_loop()
        with self._lock:
            if self._adopt(here) is not here:
                raise RuntimeError("the bus belongs to another event loop")
        self._drain()
        subscription = _Subscription(wants, capacity)
        self._subscriptions.append(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.remove(subscription)
            subscription.close()

    def add_observer(self, observer: Callable[[Event], None]) -> None:
        """Call ``observer`` with every event, in order, on the loop's thread; it must be cheap.

        One that raises is removed, and the log says so.
        """
        self._observers.append(observer)

    def remove_observer(self, observer: Callable[[Event], None]) -> None:
        """Call it no more; one that was removed already is fine."""
        if observer in self._observers:
            self._observers.remove(observer)

    def _adopt(self, here: asyncio.AbstractEventLoop | None) -> asyncio.AbstractEventLoop | None:
        if here is not None and (self._loop is None or not self._loop.is_running()):
            self._loop = here
        return self._loop

    def _accept(self, event: Event) -> None:
        self._queue.append(event)
        self._drain()

    def _drain(self) -> None:
        if self._delivering:
            return
        self._delivering = True
        try:
            while self._queue:
                self._deliver(self._queue.popleft())
        finally:
            self._delivering = False

    def _deliver(self, event: Event) -> None:
        for subscription in self._subscriptions:
            subscription.offer(event)
        for observer in tuple(self._observers):
            try:
                observer(event)
            except Exception:
                log.exception("the observer %r failed on %s and is removed", observer, type(event).__name__)
                self._observers.remove(observer)


class _Subscription(AsyncIterator[Event]):
    """The bounded buffer between the bus and one subscriber; used on the loop's thread only."""

    def __init__(self, wants: Callable[[Event], bool] | None, capacity: int) -> None:
        self._wants = wants
        self._capacity = capacity
        self._waiting: deque[Event] = deque()
        self._missed = 0
        self._problem: Exception | None = None
        self._ended = False
        self._news = anyio.Event()

    def offer(self, event: Event) -> None:
        """Take an event if it is wanted and there is room; once there was none, only count."""
        if self._ended or self._problem is not None:
            return
        try:
            if self._wants is not None and not self._wants(event):
                return
        except Exception as problem:
            self._problem = problem
        else:
            if self._missed or len(self._waiting) >= self._capacity:
                self._missed += 1
            else:
                self._waiting.append(event)
        self._news.set()

    def close(self) -> None:
        """End the iteration, also for a task that waits in it."""
        self._ended = True
        self._waiting.clear()
        self._news.set()

    async def __anext__(self) -> Event:
        await anyio.lowlevel.checkpoint()
        while True:
            if self._waiting:
                return self._waiting.popleft()
            if self._ended:
                raise StopAsyncIteration
            if self._missed:
                self._ended = True
                return SubscriberLagged(missed=self._missed)
            if self._problem is not None:
                self._ended = True
                raise self._problem
            if self._news.is_set():
                self._news = anyio.Event()
            await self._news.wait()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
