"""Small engines for the tests of lanes: picklable, importable in a lane's process, good and bad."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

from assistant.engines import LaneObject
from assistant.errors import AssistantError, ContextOverflow


class OddError(AssistantError):
    """Ours, but with a constructor that pickling cannot call."""

    code = "odd"

    def __init__(self, number: int) -> None:
        super().__init__(f"odd {number}", hint="even it")
        self.lock = threading.Lock()


class Sum(LaneObject):
    """Adds up; stays in the lane."""

    def __init__(self) -> None:
        self.total = 0

    def feed(self, number: int) -> int:
        """The sum so far."""
        self.total += number
        return self.total

    def numbers(self, count: int) -> Iterator[int]:
        """Steps on a handle."""
        for number in range(count):
            yield self.total + number


class Base(ABC):
    """What the host knows of an engine."""

    @abstractmethod
    def greet(self, name: str) -> str:
        """Overridden by the engine."""


class Toy(Base):
    """Does what it is told and remembers it.

    Args:
        note: where loading and closing are written down, for what outlives the process.
    """

    def __init__(self, note: Path | None = None) -> None:
        self.note = note
        self.history: list[str] = []
        self.thread = 0
        self.kept: Iterator[int] = iter(())

    def load(self, model: Path | None) -> None:
        """Remember the thread."""
        self.thread = threading.get_ident()
        self._write(f"load {model.name if model else '-'}")

    def close(self) -> None:
        """Tell whether this is the same thread."""
        self._write(f"close {self._here()}")

    def _write(self, line: str) -> None:
        if self.note:
            with self.note.open("a") as file:
                file.write(line + "\n")

    def _here(self) -> str:
        return "same thread" if threading.get_ident() == self.thread else "other thread"

    def greet(self, name: str) -> str:
        """The override."""
        return f"hello {name}"

    def echo(self, value: str) -> str:
        """What came."""
        return value

    def where(self) -> tuple[int, str]:
        """Process id and whether this is the thread of load()."""
        return os.getpid(), self._here()

    def mark(self, text: str) -> None:
        """Remember a word."""
        self.history.append(text)

    def remembered(self) -> list[str]:
        """All words."""
        return list(self.history)

    def gate(self, key: Path) -> None:
        """Keep the lane busy until the file appears, and a moment longer so that what was sent before has come."""
        self.history.append("gate")
        key.with_suffix(".waiting").touch()
        while not key.exists():
            time.sleep(0.005)
        time.sleep(0.1)

    def steps(self, name: str, count: int, seconds: float = 0.0) -> Iterator[int]:
        """Remember each step, and on which thread the generator was closed."""
        try:
            for number in range(count):
                self.history.append(name)
                if seconds:
                    time.sleep(seconds)
                yield number
        finally:
            self.history.append(f"{name} closed on {self._here()}")

    def kept_steps(self, name: str, count: int) -> Iterator[int]:
        """Steps of a generator that the engine holds on to, so that only close() ends it."""
        self.kept = self.steps(name, count)
        return self.kept

    def numbers(self, count: int) -> Iterator[int]:
        """Steps that do nothing."""
        yield from range(count)

    def sum(self) -> Sum:
        """Something that stays."""
        return Sum()

    def refuse(self) -> None:
        """Raise an error of ours."""
        raise ContextOverflow("9 tokens too many", hint="forget something")

    def stumble(self) -> None:
        """Raise any error."""
        raise ValueError("no such note")

    def leave(self) -> None:
        """Call sys.exit, as a careless library does."""
        sys.exit("bye")

    def odd(self) -> None:
        """Raise an error of ours that cannot be pickled."""
        raise OddError(3)

    def lock(self) -> object:
        """Return what cannot be pickled."""
        return threading.Lock()

    def stumbling(self, after: int) -> Iterator[int]:
        """Raise in mid-stream."""
        yield from range(after)
        raise ValueError("stumbled")

    def kill(self) -> None:
        """Be killed, as by the system when memory is short."""
        os.kill(os.getpid(), signal.SIGKILL)

    def stop(self) -> None:
        """Be stopped: not a thread runs on."""
        os.kill(os.getpid(), signal.SIGSTOP)

    def quit(self, code: int) -> None:
        """Leave without a word."""
        os._exit(code)

    def babble(self) -> None:
        """Write nonsense to the host."""
        os.write(int(sys.argv[1]), b"\x00\x00\x00\x02{}" * 10)

    def sleep(self, seconds: float) -> None:
        """Hang."""
        time.sleep(seconds)

    def grab(self, seconds: float) -> None:
        """Hold the interpreter's lock, so that no other thread runs."""
        ctypes.PyDLL(None).usleep(int(seconds * 1e6))

    def spawn(self) -> int:
        """Start a process that would live on."""
        return subprocess.Popen(["sleep", "600"]).pid


class Fragile(Toy):
    """Fails to load, in the way it is told.

    Args:
        how: ``raise``, ``die`` or ``hang``.
        once: a file; when it exists the engine loads.
    """

    def __init__(self, how: str, once: Path | None = None) -> None:
        super().__init__()
        self.how = how
        self.once = once

    def load(self, model: Path | None) -> None:
        """Fail."""
        if self.once and self.once.exists():
            super().load(model)
        elif self.how == "raise":
            raise RuntimeError("bad weights")
        elif self.how == "die":
            os._exit(9)
        else:
            time.sleep(600)


class Slow(Toy):
    """Loads when a file appears.

    Args:
        key: the file.
        note: as for ``Toy``.
    """

    def __init__(self, key: Path, note: Path) -> None:
        super().__init__(note)
        self.key = key

    def load(self, model: Path | None) -> None:
        """Wait for the file."""
        self.key.with_suffix(".waiting").touch()
        while not self.key.exists():
            time.sleep(0.005)
        super().load(model)
