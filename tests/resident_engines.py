"""Language models for the tests of residency: they write down what happens to them, and some do not fit."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from assistant.engines import ChatRequest, Delta, LanguageModel, MemoryUse
from assistant.errors import EngineFailed, ModelTooLarge

HELD: dict[int, int] = {}
"""What the engines of this process hold: sizes by the identity of the engine."""


class Lodger(LanguageModel):
    """A model as large as the number in its folder's ``size`` file.

    Args:
        diary: where everything is written down, for what outlives the process.
        lane: where it runs.
        room: sizes that fit into one process together.
    """

    name = "lodger"

    def __init__(self, diary: Path, lane: str, room: int = 100) -> None:
        self.diary = diary
        self.lane = lane
        self.room = room
        self.model = Path()

    def load(self, model: Path | None) -> None:
        """Take room, if there is some."""
        assert model is not None
        size = int((model / "size").read_text())
        if sum(HELD.values()) + size > self.room:
            self._write("refused", model)
            raise ModelTooLarge(f"{size} does not fit beside {sum(HELD.values())}", hint="make room")
        while (model / "slow").exists():
            time.sleep(0.005)
        HELD[id(self)] = size
        self.model = model
        self._write(f"load{f' with {self.draft_model.name}' if self.draft_model else ''}", model)

    def close(self) -> None:
        """Give the room back, when the folder lets it."""
        self._write("closing", self.model)
        while (self.model / "stuck").exists():
            time.sleep(0.005)
        HELD.pop(id(self), None)
        self._write("close", self.model)

    def generate(self, request: ChatRequest) -> Iterator[Delta]:
        """Say who it is."""
        yield Delta(text=self.model.name)
        yield Delta(finish_reason="stop")

    def idle(self) -> None:
        """Tidy up."""
        self._write("idle", self.model)

    def memory(self) -> MemoryUse:
        """Its size."""
        self._write("memory", self.model)
        return MemoryUse(active=HELD[id(self)], limit=self.room)

    def speech_live(self, live: bool) -> None:
        """Note it, or fail."""
        self._write(f"speech {live}", self.model)
        if (self.model / "deaf").exists():
            raise EngineFailed("deaf")

    def die(self) -> None:
        """End the process."""
        os._exit(3)

    def _write(self, what: str, model: Path) -> None:
        with self.diary.open("a") as file:
            file.write(f"{model.name}: {what}\n")
