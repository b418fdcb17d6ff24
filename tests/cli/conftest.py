"""The command line in this process, and a scripted daemon for it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cli.fake_daemon import FakeDaemon, serving

from assistant.cli import run
from assistant.paths import Paths, find


@dataclass(frozen=True)
class Done:
    """What a command did."""

    code: int
    out: str
    err: str
    raw: bytes = b""
    """Standard output as bytes."""


@dataclass
class Shell:
    """Runs commands in a home of its own."""

    env: dict[str, str]

    def __call__(self, *arguments: str, stdin: bytes = b"") -> Done:
        """One command in this process; no stream is a terminal."""
        kept = sys.stdin, sys.stdout, sys.stderr
        sys.stdin = io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")
        sys.stdout = out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
        sys.stderr = err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
        try:
            code = run(arguments)
        finally:
            sys.stdin, sys.stdout, sys.stderr = kept
        raw = _bytes(out)
        return Done(code, raw.decode(), _bytes(err).decode(), raw)

    def start(self, *arguments: str | bytes, **streams: int) -> subprocess.Popen[bytes]:
        """One command in a process; its streams are pipes."""
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
        command = [sys.executable, "-m", "assistant", *arguments]
        return subprocess.Popen(
            command, env=self.env, stdin=pipes["stdin"], stdout=pipes["stdout"], stderr=pipes["stderr"],
            bufsize=0,
        )  # fmt: skip

    def process(self, *arguments: str | bytes, **streams: int) -> Done:
        """One command in a process, to its end."""
        with self.start(*arguments, **streams) as started:
            out, err = started.communicate(timeout=30)
        return Done(started.returncode, (out or b"").decode(), (err or b"").decode(), out or b"")


def _bytes(stream: io.TextIOWrapper) -> bytes:
    stream.flush()
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue()


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """The folders of a fresh home, which is this process's too."""
    for name in list(os.environ):
        if name.startswith("ASSISTANT_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("ASSISTANT_HOME", str(tmp_path / "home"))
    return find()


@pytest.fixture
def shell(paths: Paths) -> Shell:
    """Commands in a home where no daemon runs."""
    return Shell({**os.environ, "PYTHONUTF8": "1"})


@pytest.fixture
def fake_daemon(paths: Paths) -> Iterator[FakeDaemon]:
    """A scripted daemon that runs in that home."""
    daemon = FakeDaemon(paths.socket)
    with serving(daemon):
        yield daemon


@pytest.fixture
def until() -> Callable[[Callable[[], object]], None]:
    """Wait for something to become true."""

    def wait(condition: Callable[[], object]) -> None:
        import time

        end = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.01)

    return wait
