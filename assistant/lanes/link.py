"""One process of a lane, seen from its host: the socket, the watch over it, and its end."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

import os

import psutil

from .messages import Beat, Close, FromLane, GarbageError, Inbox, Ready, Start, ToLane, frame

if TYPE_CHECKING:
    from ..config import LaneSettings

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
"""How long what a dead process had sent may take to arrive."""

Work = Literal["", "step", "load"]


class Child(asyncio.Protocol, asyncio.SubprocessProtocol):
    """A lane's process, from its start until it is reaped. Lives on the event loop, in callbacks.

    Args:
        settings: limits and intervals.
        receive: takes every message but the heartbeats.
        work: what the host waits for; a busy process may be silent for as long as a step may last, because a step
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
        try:
            ours.setblocking(False)
            fd = theirs.fileno()
            self._process, _ = await loop.subprocess_exec(
                lambda: self, *command, str(fd), stdin=asyncio.subprocess.DEVNULL, stdout=None, stderr=None,
                pass_fds=(fd,), start_new_session=True,
            )
            self.pid = self._process.get_pid()
            self._socket, _ = await loop.create_unix_connection(lambda: self, sock=ours)
        except BaseException:
            ours.close()
            self.kill()
            raise
        finally:
            theirs.close()
        self.send(Start(list(sys.path), self._settings.heartbeat_seconds))
        self._after("watch", self._settings.heartbeat_seconds, self._watch)
