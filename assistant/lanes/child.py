"""The process of a lane: ``python -m assistant.lanes.child FD``, started by its host and by nobody else.

The main thread does the work, one thread reads the socket and one reports. The process ends by itself when the
host is gone.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import pickle
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from typing import BinaryIO

import psutil

from .messages import Beat, Close, FromLane, Ready, Start, ToLane, frame, frame_length, to_lane
from .scheduler import Scheduler

ORPHAN_SECONDS = 3.0
"""How long the work may take to end in good order once the host is gone."""


class Wire:
    """The child's end of the socket: read by one thread, written by several."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._file: BinaryIO = end.makefile("rb")
        self._lock = threading.Lock()

    def send(self, message: FromLane) -> None:
        """Write one message; a host that is gone is no error here, the reader sees it."""
        data = frame(message)
        with self._lock, suppress(OSError):
            self._socket.sendall(data)

    def receive(self) -> ToLane | None:
        """The next message; None when the host is gone."""
        header = self._file.read(4)
        if len(header) < 4:
            return None
        length = frame_length(header)
        payload = self._file.read(length)
        return to_lane(payload) if len(payload) == length else None


def _read(wire: Wire, scheduler: Scheduler) -> None:
    try:
        with suppress(OSError):
            while message := wire.receive():
                scheduler.inbox.put(message)
    finally:
        scheduler.inbox.put(Close())
    time.sleep(ORPHAN_SECONDS)
    os._exit(1)


def _beat(wire: Wire, scheduler: Scheduler, seconds: float) -> None:
    process = psutil.Process()
    while True:
        step = scheduler.step
        wire.send(
            Beat(
                rss=process.memory_info().rss,
                busy_seconds=time.monotonic() - step.started if step else 0.0,
                busy=step.key if step else "",
                loading=step.loading if step else False,
                loaded=scheduler.loaded,
            )
        )
        time.sleep(seconds)


def main() -> None:
    """Serve one host until it says ``Close`` or is gone."""
    faulthandler.enable()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s [%(process)d] %(message)s")
    end = socket.socket(fileno=int(sys.argv[1]))
    end.set_inheritable(False)
    wire = Wire(end)
    start = wire.receive()
    if not isinstance(start, Start):
        return
    sys.path[:] = start.path
    scheduler = Scheduler(wire.send, pickle.dumps, pickle.loads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: scheduler.inbox.put(Close()))
    threading.Thread(target=_read, args=(wire, scheduler), name="reader", daemon=True).start()
    wire.send(Ready(os.getpid()))
    beat = (wire, scheduler, start.heartbeat_seconds)
    threading.Thread(target=_beat, args=beat, name="heartbeat", daemon=True).start()
    try:
        scheduler.run()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


if __name__ == "__main__":
    main()
