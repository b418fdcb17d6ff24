"""One utterance on its way to text, on the lane of the recogniser."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from assistant.engines import SpeechToText, Transcription
from assistant.lanes import Priority

from .frames import FRAME_BYTES, frames

if TYPE_CHECKING:
    from assistant.lanes import Handle, Lane
    from assistant.pool import Ready

PIECE_BYTES = frames(0.1) * FRAME_BYTES
"""What is sent to the lane at a time: a call costs some tenths of a millisecond, whatever it carries."""


@dataclass(frozen=True)
class _Draft:
    """Asks for a draft."""


@dataclass(frozen=True)
class _End:
    """The utterance is over.

    Attributes:
        drafted: nobody spoke since the last draft was asked for, so its text is the transcript.
    """

    drafted: bool


class Hearing:
    """Takes frames at any time and works them off in a task of its own; the callbacks run in that task.

    Args:
        on_partial: a new partial transcript.
        on_draft: what it would be if the speech ended at the last ``draft()``; empty where the engine cannot tell.
    """

    def __init__(
        self,
        on_partial: Callable[[str], None],
        on_draft: Callable[[str], None],
    ) -> None:
        self._on_partial = on_partial
        self._on_draft = on_draft
        self._items: deque[bytes | _Draft | _End] = deque()
        self._pending = bytearray()
        self._news = anyio.Event()
        self._partial = ""
        self._draft = ""
        self._drafting = 0
        """How many drafts were asked for and are not there yet."""
        self.busy = True
        """It has work, or is at work; whoever runs it says when the transcript has arrived."""

    def feed(self, pcm: bytes) -> None:
        """Take a frame."""
        self._pending += pcm
        if len(self._pending) >= PIECE_BYTES:
            self._push(bytes(self._pending))
            self._pending.clear()

    def draft(self) -> None:
        """Ask what the transcript would be if the speech ended here."""
        self._drafting += 1
        self._flush()
        self._push(_Draft())

    def end(self, *, drafted: bool) -> str:
        """The utterance is over.

        Args:
            drafted: nobody spoke since the last ``draft()``, so its text is the transcript.

        Returns: the transcript, if it is known already; else it is what ``run`` comes to.
        """
        if drafted and self._draft and not self._drafting:
            return self._draft
        self._flush()
        self._push(_End(drafted))
        return ""

    async def run(self, ready: Ready, language: str, phrases: tuple[str, ...]) -> str:
        """Transcribe until ``end()``; returns the text.

        Raises:
            AssistantError: the recogniser failed.
        """
        lane = ready.lane
        handle = await lane.open(ready.key, SpeechToText.open, language, phrases, priority=Priority.SPEECH)
        try:
            return await self._work(lane, handle)
        finally:
            with anyio.CancelScope(shield=True):
                await lane.release(handle)

    async def _work(self, lane: Lane, handle: Handle) -> str:
        while True:
            match await self._next():
                case _End(drafted=drafted):
                    if drafted and self._draft:
                        return self._draft
                    transcript = await lane.call(handle, Transcription.finish, priority=Priority.SPEECH)
                    return transcript.text.strip()
                case _Draft():
                    draft = await lane.call(handle, Transcription.draft, priority=Priority.SPEECH)
                    self._draft = draft.text.strip() if draft is not None else ""
                    self._drafting -= 1
                    self._on_draft(self._draft)
                case bytes() as pcm:
                    partial = await lane.call(handle, Transcription.feed, pcm, priority=Priority.SPEECH)
                    if partial and partial != self._partial:
                        self._partial = partial
                        self._on_partial(partial)

    async def _next(self) -> bytes | _Draft | _End:
        while not self._items:
            self.busy = False
            self._news = anyio.Event()
            await self._news.wait()
        self.busy = True
        item = self._items.popleft()
        if not isinstance(item, bytes):
            return item
        pieces = [item]
        while self._items and isinstance(piece := self._items[0], bytes):
            pieces.append(piece)
            self._items.popleft()
        return b"".join(pieces)

    def _flush(self) -> None:
        if self._pending:
            self._push(bytes(self._pending))
            self._pending.clear()

    def _push(self, item: bytes | _Draft | _End) -> None:
        self._items.append(item)
        self.busy = True
        self._news.set()
