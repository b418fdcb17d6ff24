"""Events to and from plugins, so that a slow, broken or noisy plugin costs nobody else anything."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import get_args

from assistant import events
from assistant.errors import PluginError
from assistant.events import Event

CAPACITY = 1000
"""Events that wait for one observer before it loses some."""

STRIKES = 10
"""An observer that raised this often is failed."""

FLOOD = 1000
"""Events that a plugin may publish in any one second."""

EVENT_TYPES = frozenset(get_args(Event))


class Observer:
    """One plugin's ``on_event`` behind a bounded queue, on a thread of its own."""

    def __init__(
        self, name: str, call: Callable[[Event], object], log: logging.Logger, failed: Callable[[str], None],
    ) -> None:
        self.dropped = 0
        """Events lost because the queue was full."""
        self._call = call
        self._log = log
        self._failed = failed
        self._queue: deque[Event] = deque()
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name=f"observer-{name}", daemon=True)
        self._thread.start()

    def put(self, event: Event) -> None:
        """Hand over an event; never waits for the observer."""
        with self._changed:
            if self._stopped:
                return
            if len(self._queue) < CAPACITY:
                self._queue.append(event)
                self._changed.notify()
                return
            self.dropped += 1
            first = self.dropped == 1
        if first:
            self._log.warning("on_event is too slow: more than %d events wait, so some are lost", CAPACITY)

    def stop(self, *, drain: bool = False) -> None:
        """Take no more events.

        Args:
            drain: the observer still gets the events that wait; otherwise they are dropped.
        """
        with self._changed:
            self._stopped = True
            if not drain:
                self._queue.clear()
            self._changed.notify()

    def join(self, seconds: float) -> bool:
        """Wait for the thread to end, at most so long; whether it ended."""
        if self._thread is not threading.current_thread():
            self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        strikes = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._stopped)
                if not self._queue:
                    return
                event = self._queue.popleft()
            try:
                self._call(event)
            except (Exception, SystemExit) as error:
                strikes += 1
                self._log.warning("on_event raised", exc_info=True)
                if strikes >= STRIKES:
                    self._failed(f"on_event raised {STRIKES} times, the last time {type(error).__name__}: {error}")
                    return


class GuardedPublish:
    """The ``publish`` that a plugin gets: checked, counted, and cut off when the plugin floods or has failed."""

    def __init__(
        self,
        publish: Callable[[Event], None],
        failed: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._publish = publish
        self._failed = failed
        self._clock = clock
        self._recent: deque[float] = deque(maxlen=FLOOD)
        self._lock = threading.Lock()
        self._closed = False

    def __call__(self, event: Event) -> None:
        """Put an event on the bus; from any thread.

        Raises:
            PluginError: it is not one of the events, or cannot be sent as JSON.
        """
        if type(event) not in EVENT_TYPES:
            hint = "use one of assistant.events, such as PluginEvent"
            raise PluginError(f"{type(event).__name__} is not an event", hint=hint)
        try:
            events.encode(event)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            hint = "an event holds JSON values only"
            raise PluginError(f"{type(event).__name__} cannot be sent: {error}", hint=hint) from error
        if self._closed:
            return
        with self._lock:
            now = self._clock()
            flooding = len(self._recent) == FLOOD and now - self._recent[0] < 1.0
            self._recent.append(now)
            self._closed = self._closed or flooding
        if flooding:
            self._failed(f"published more than {FLOOD} events in one second")
        else:
            self._publish(event)

    def close(self) -> None:
        """Drop everything from now on."""
        self._closed = True
