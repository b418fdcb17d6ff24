"""A real daemon in a home of its own, and the real command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SITE = Path(__file__).parent / "e2e" / "site"


@dataclass
class Home:
    """An ``ASSISTANT_HOME`` and the commands run in it."""

    path: Path
    env: dict[str, str]

    def run(self, *arguments: str, stdin: str | bytes | None = None, timeout: float = 120) -> Run:
        """One command to its end; no terminal, empty standard input unless given."""
        data = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run(
            [sys.executable, "-m", "assistant", *arguments],
            input=data if data is not None else b"", capture_output=True, env=self.env, timeout=timeout, check=False,
        )
        return Run(done.returncode, done.stdout.decode(), done.stderr.decode())

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """One command that goes on; its streams are pipes."""
        return subprocess.Popen(
            [sys.executable, "-m", "assistant", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env=self.env, start_new_session=True,
        )

    def status(self) -> dict[str, Any]:
        """``assistant status --json``."""
        found: dict[str, Any] = json.loads(self.run("status", "--json").out)
        return found

    def log(self) -> str:
        """The daemon's log so far."""
        return (self.path / "state" / "daemon.log").read_text()

    def config(self, text: str) -> None:
        """Write ``config.toml``."""
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / "config.toml").write_text(text)

    def kill_daemon(self) -> None:
        """``kill -9`` and wait until it is gone."""
        pid = self.status()["pid"]
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not _alive(pid))


@dataclass(frozen=True)
class Run:
    """What a command did."""

    code: int
    out: str
    err: str

    def events(self) -> list[dict[str, Any]]:
        """Its JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]


def wait_for(condition: Callable[[], Any], seconds: float = 30) -> Any:
    """What ``condition`` returns once it is true; fails the test when it never is."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError("waited in vain")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return True


@pytest.fixture
def bare_home(tmp_path: Path) -> Iterator[Home]:
    """A home with the bundled plugins only."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("ASSISTANT_")}
    home = Home(tmp_path / "home", {**env, "ASSISTANT_HOME": str(tmp_path / "home"), "PYTHONUTF8": "1"})
    yield home
    home.run("down")


@pytest.fixture
def home(bare_home: Home) -> Home:
    """A home whose answers come from the scripted model of the faults plugin."""
    bare_home.env["PYTHONPATH"] = str(SITE)
    bare_home.config('[llm]\nengine = "scripted"\n')
    return bare_home


@pytest.fixture
def starter_home(bare_home: Home, starter_model: Path) -> Home:
    """A home that has the real starter model already."""
    models = bare_home.path / "data" / "models"
    models.parent.mkdir(parents=True)
    models.symlink_to(starter_model.parent)
    return bare_home
