"""A rank as the lane sees it: a process, here or behind ssh, that reads commands and reports."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

import msgspec

from assistant import EngineFailed

from .messages import Fatal, FromRank, ToRank, find_mark, frame, read_report
from .places import Place

MODULE = "assistant_mlx.cluster.rank"

SSH = (
    "ssh", "-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=5",
    "-o", "ServerAliveCountMax=3",
)
"""Asks for no password, gives up on a silent machine after 10 s at first and 15 s later."""

SSH_FAILED = 255
"""ssh's own exit status."""

EXIT_SECONDS = 5.0
"""From the end of a process's output to its exit, before it is killed."""

TAIL_LINES = 20

log = logging.getLogger("assistant.plugins.mlx")


@dataclass(frozen=True)
class Death:
    """How a rank ended."""

    code: str
    """Of the error that its requests end with."""
    message: str
    hint: str
    secondary: bool = False
    """It ended because another one did."""


class RankProcess:
    """One rank. Two threads of its own read what it writes.

    Args:
        number: its rank.
        place: where it runs.
        python: the Python of other machines; empty for the path of this one.
        environment: variables for the process, if it runs here.
        heard: takes its reports, on a thread of the rank.
        ended: takes how it ended, once, on a thread of the rank.
    """

    def __init__(
        self,
        number: int,
        place: Place,
        python: str,
        environment: dict[str, str],
        heard: Callable[[int, FromRank], None],
        ended: Callable[[int, Death], None],
    ) -> None:
        self.number = number
        self.place = place
        self._python = python or sys.executable
        self._heard = heard
        self._ended = ended
        self._said: Fatal | None = None
        self._greeted = False
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        try:
            self._process = subprocess.Popen(
                self._command(), env=os.environ | environment if place.local else None,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
        except OSError as error:
            raise EngineFailed(
                f"rank {number} of the cluster (host {place.host}) cannot be started: {error}",
                hint="the other machines are reached by ssh" if not place.local else "",
            ) from error
        self._errors = threading.Thread(target=self._read_errors, name=f"rank {number} errors", daemon=True)
        self._reports = threading.Thread(target=self._read, name=f"rank {number}", daemon=True)
        self._errors.start()
        self._reports.start()

    @property
    def pid(self) -> int:
        """Of the process here: the rank's own, or ssh's."""
        return self._process.pid

    def send(self, message: ToRank) -> None:
        """Pass a message on; a rank that is gone is no error here."""
        pipe = self._process.stdin
        assert pipe is not None
        with suppress(OSError, ValueError):
            pipe.write(frame(message))
            pipe.flush()

    def kill(self) -> None:
        """End it now."""
        self._process.kill()

    def join(self, seconds: float) -> bool:
        """Wait until it is gone and its threads are; whether that is so."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        pipe = self._process.stdin
        assert pipe is not None
        with suppress(OSError):
            pipe.close()
        self._reports.join(EXIT_SECONDS)
        self._errors.join(EXIT_SECONDS)
        return True

    def _command(self) -> list[str]:
        if self.place.local:
            return [sys.executable, "-m", MODULE]
        return [*SSH, "--", self.place.host, f"exec {shlex.quote(self._python)} -m {MODULE}"]

    def _read(self) -> None:
        pipe = self._process.stdout
        assert pipe is not None
        trouble = ""
        with pipe:
            try:
                if find_mark(pipe):
                    while (report := read_report(pipe)) is not None:
                        self._greeted = True
                        self._take(report)
            except (OSError, msgspec.DecodeError) as error:
                trouble = f"its report cannot be read: {error}"
                self.kill()
        try:
            code = self._process.wait(EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            code = self._process.wait()
        self._errors.join(EXIT_SECONDS)
        self._ended(self.number, self._death(code, trouble))

    def _take(self, report: FromRank) -> None:
        if isinstance(report, Fatal):
            self._said = report
        else:
            self._heard(self.number, report)

    def _read_errors(self) -> None:
        pipe = self._process.stderr
        assert pipe is not None
        with pipe:
            _keep(pipe, self._tail, f"rank {self.number} ({self.place.host})")

    def _death(self, code: int, trouble: str) -> Death:
        who = f"rank {self.number} of the cluster (host {self.place.host})"
        if self._said is not None:
            said = self._said
            return Death(said.code, f"{who} failed: {said.message}", said.hint, said.neighbour)
        last = self._tail[-1] if self._tail else ""
        if not self.place.local and not self._greeted:
            return self._unreached(code, last)
        why = trouble or _exit(code)
        if not self.place.local and code == SSH_FAILED:
            why = "it was killed, or its connection was lost"
        more = f" ({last})" if last and code > 0 else ""
        # Where MLX cannot raise an error about a lost neighbour it aborts.
        return Death(EngineFailed.code, f"{who} died: {why}{more}", "ask again: the cluster starts anew",
                     code == -signal.SIGABRT)

    def _unreached(self, code: int, last: str) -> Death:
        host, said = self.place.host, last or _exit(code)
        if code == SSH_FAILED:
            return Death(
                EngineFailed.code, f"the host {host} of the cluster cannot be reached by ssh: {said}",
                f"`ssh {host} true` must work here without a password: see that the machine is awake, that Remote "
                "Login is on, and that it knows your key",
            )
        return Death(
            EngineFailed.code, f"the assistant cannot be started on the host {host} of the cluster: {said}",
            f"install the assistant there for the Python {self._python}, or set `[llm.cluster] python`",
        )


def _keep(pipe: IO[bytes], tail: deque[str], who: str) -> None:
    for line in pipe:
        if text := line.decode(errors="replace").strip():
            tail.append(text)
            log.info("%s: %s", who, text)


def _exit(code: int) -> str:
    if code >= 0:
        return f"exited with status {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
