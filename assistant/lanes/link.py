"""One process of a lane, seen from its host: the socket, the watch over it, and its end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

import psutil

from .messages import Beat, Close, FromLane, GarbageError, Inbox, Ready, Start, ToLane, frame

if TYPE_CHECKING:
    from assistant.config import LaneSettings

COMMAND = (sys.executable, "-P", "-m", "assistant.lanes.child")
"""``-P``: no module of the working folder may stand in for ours."""

START_SECONDS = 60.0
"""How long a process may take until it answers."""

MISSED_BEATS = 5
"""Heartbeats that may be missed by a process that has nothing to do, or is stopped."""

CLOSE_SECONDS = 5.0
"""From ``Close`` to SIGTERM."""

TERM_SECONDS = 2.0
"""From SIGTERM to SIGKILL."""

KILL_SECONDS = 5.0
"""From SIGKILL until a process that does not even die of that (stuck in a driver) is given up."""

DRAIN_SECONDS = 0.5
"""How long what a dead process had sent may take to arrive, and a process without a socket to die."""

Work = Literal["", "step", "load"]
"""What the host waits for."""


class _Exit(asyncio.SubprocessProtocol):
    def __init__(self, exited: Callable[[], None]) -> None:
        self._exited = exited

    def process_exited(self) -> None:
        self._exited()


class Child(asyncio.Protocol):
    """A lane's process, from its start until it is reaped. Lives on the event loop, in callbacks.

    Args:
        settings: limits and intervals.
        receive: takes every message but the heartbeats.
        work: what the host waits for. A process at work may be silent for as long as that may last, because a step
            may hold the interpreter's lock.
    """

    def __init__(self, settings: LaneSettings, receive: Callable[[FromLane], None], work: Callable[[], Work]) -> None:
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """The cause of death, once it is reaped; empty if it ended as it was asked to."""
        self.pid = 0
        self.ready = False
        self.closing = False
        """It was asked to end."""
        self.rss = 0
        self._settings = settings
        self._receive = receive
        self._work = work
        self._inbox = Inbox()
        self._verdict = ""
        self._missed = 0
        self._lost = False
        self._exited = False
        self._socket: asyncio.Transport | None = None
        self._process: asyncio.SubprocessTransport | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}

    async def start(self, command: Sequence[str] = COMMAND) -> None:
        """Start the process.

        Raises:
            OSError: the system refuses.
        """
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            try:
                self._process, _ = await loop.subprocess_exec(
                    lambda: _Exit(self._process_exited), *command, str(theirs.fileno()),
                    stdin=asyncio.subprocess.DEVNULL, stdout=None, stderr=None,
                    pass_fds=(theirs.fileno(),), start_new_session=True,
                )
                self.pid = self._process.get_pid()
                self._socket, _ = await loop.create_unix_connection(lambda: self, sock=ours)
            except BaseException:
                ours.close()
                self.kill()
                raise
        self.send(Start(list(sys.path), self._settings.heartbeat_seconds))
        if self.closing:
            self.send(Close())
        self._after("watch", self._settings.heartbeat_seconds, self._watch)

    def send(self, message: ToLane) -> None:
        """Pass a message on."""
        if self._socket is not None and not self._socket.is_closing():
            self._socket.write(frame(message))

    def finish(self) -> None:
        """Ask it to end in good order; it is ended in bad order if it does not."""
        if not self.closing:
            self.closing = True
            self.send(Close())
            self._after("close", CLOSE_SECONDS, self._terminate)

    def condemn(self, cause: str) -> None:
        """Kill it for a reason."""
        self._verdict = self._verdict or cause
        self.kill()
        self._after("kill", KILL_SECONDS, self._give_up)

    def kill(self) -> None:
        """Kill it with everything that it started; nothing happens if it is dead."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.get_returncode() is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def _terminate(self) -> None:
        self._signal(signal.SIGTERM)
        self._after("close", TERM_SECONDS, lambda: self.condemn("did not end when it was asked to"))

    def data_received(self, data: bytes) -> None:
        """Bytes from the socket."""
        try:
            messages = self._inbox.feed(data)
        except GarbageError as error:
            self.condemn(f"wrote garbage to its host ({error})")
            return
        for message in messages:
            if isinstance(message, Beat):
                self._beat(message)
            else:
                self.ready = self.ready or isinstance(message, Ready)
                self._receive(message)

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed at the other end."""
        self._lost = True
        self._after("drain", DRAIN_SECONDS, lambda: self.condemn("closed its connection to the host"))
        self._perhaps_over()

    def _process_exited(self) -> None:
        self._exited = True
        if self._socket is not None:
            self._after("drain", DRAIN_SECONDS, self._socket.abort)
        self._perhaps_over()

    def _give_up(self) -> None:
        self._verdict += "; its process cannot be killed"
        self._exited = self._lost = True
        if self._socket is not None:
            self._socket.abort()
        self._perhaps_over()

    def _perhaps_over(self) -> None:
        if self.ended.done() or not (self._exited and self._lost):
            return
        for timer in self._timers.values():
            timer.cancel()
        code = self._process.get_returncode() if self._process else None
        if self._process is not None:
            self._process.close()
        self.ended.set_result("" if self.closing else self._verdict or describe_exit(code))

    def _beat(self, beat: Beat) -> None:
        self._missed = 0
        self.rss = beat.rss
        limit = self._settings.load_seconds if beat.loading else self._settings.step_seconds
        if beat.busy_seconds > limit:
            what = "loading" if beat.loading else "one step of"
            self.condemn(f"hung: {what} engine {beat.busy!r} took longer than {limit:g} s")

    def _watch(self) -> None:
        self._missed += 1
        silent = self._missed * self._settings.heartbeat_seconds
        self._after("watch", self._settings.heartbeat_seconds, self._watch)
        if self.closing:
            return
        if not self.ready:
            if silent > START_SECONDS:
                self.condemn(f"did not start within {START_SECONDS:g} s")
        elif self._missed > MISSED_BEATS and silent > self._patience():
            self.condemn(f"hung: no heartbeat for {silent:g} s")

    def _patience(self) -> float:
        with suppress(psutil.Error):
            if psutil.Process(self.pid).status() == psutil.STATUS_STOPPED:
                return 0.0
        limits = {"": 0.0, "step": self._settings.step_seconds, "load": self._settings.load_seconds}
        return limits[self._work()]

    def _after(self, name: str, seconds: float, act: Callable[[], object]) -> None:
        if timer := self._timers.get(name):
            timer.cancel()
        if not self.ended.done():
            self._timers[name] = asyncio.get_running_loop().call_later(seconds, act)


def describe_exit(code: int | None) -> str:
    """In words, how a process ended that nobody asked to."""
    if code is None:
        return "ended in an unknown way"
    if code >= 0:
        return f"exited with code {code}"
    if -code == signal.SIGKILL:
        return "killed (signal 9), perhaps out of memory"
    try:
        return f"killed by {signal.Signals(-code).name} (signal {-code})"
    except ValueError:
        return f"killed (signal {-code})"
