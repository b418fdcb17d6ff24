"""Reaching the daemon: start it if it is down, wait until it answers, and hand out a client."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from assistant.errors import DaemonError
from assistant.paths import Paths

from . import probe, render

if TYPE_CHECKING:
    from assistant.client import Client

START_SECONDS = 60.0
"""How long a daemon may take until it answers."""
POLL_SECONDS = 0.05
LAST_LINES = 8
"""Lines of the log that explain a daemon that did not start."""

DAEMON = (sys.executable, "-P", "-m", "assistant", "up", "--foreground")
"""The command that is the daemon; ``-P`` keeps the user's folder off its import path."""


def client(paths: Paths, *, quiet: bool = True) -> Client:
    """A client of the running daemon, which is started first if it is down."""
    ensure(paths, quiet=quiet)
    from assistant.client import Client

    return Client(paths.socket)


def ensure(
    paths: Paths, *, quiet: bool = True, command: Sequence[str] = DAEMON, seconds: float = START_SECONDS
) -> bool:
    """Start the daemon if nothing listens, and wait until it answers.

    Returns: whether it had to be started.

    Raises:
        DaemonError: it ended at once or did not answer in time; the message has the last lines of its log.
    """
    if probe.listens(paths.socket):
        return False
    paths.make()
    if not quiet and render.is_terminal(sys.stderr):
        render.note("starting the assistant…")
    before = _length(paths.log)
    _await(paths, _spawn(paths, command), before, seconds)
    return True


def _spawn(paths: Paths, command: Sequence[str]) -> subprocess.Popen[bytes]:
    environ = dict(os.environ)
    if home := environ.get("ASSISTANT_HOME"):
        environ["ASSISTANT_HOME"] = str(Path(home).expanduser().absolute())
    with paths.log.open("ab") as log:
        return subprocess.Popen(
            list(command), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=paths.data, env=environ,
            start_new_session=True,
        )  # fmt: skip


def _await(paths: Paths, child: subprocess.Popen[bytes], before: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if probe.answers(paths.socket):
            _let_go(child)
            return
        if child.poll() and not _is_owned(paths.lock):
            raise DaemonError(
                f"the assistant did not start{_because(paths.log, before)}", hint="assistant logs; assistant doctor"
            )
        time.sleep(POLL_SECONDS)
    _let_go(child)
    raise DaemonError(
        f"the assistant did not answer within {seconds:.0f} s{_because(paths.log, before)}", hint="assistant logs -f"
    )


def _is_owned(lock: Path) -> bool:
    """Whether some daemon holds the lock: one that was started at the same moment and won."""
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        pass
    return False


def _let_go(child: subprocess.Popen[bytes]) -> None:
    """The daemon outlives this process: do not warn that nobody waited for it."""
    if child.returncode is None:
        child.returncode = 0


def _because(log: Path, before: int) -> str:
    from .logs import tail

    lines = tail(log, LAST_LINES, since=before)
    return ":\n" + "\n".join(f"  {line}" for line in lines) if lines else "; its log says nothing"


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
