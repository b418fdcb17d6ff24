"""What a turn needs, and what is known of it while it runs."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from anyio.streams.memory import MemoryObjectReceiveStream

from assistant import events
from assistant.hookspecs import Session
from assistant.lanes import Priority

if TYPE_CHECKING:
    from assistant.bus import Bus
    from assistant.config import Settings
    from assistant.engines import AudioChunk
    from assistant.intents import IntentMatcher
    from assistant.lanes import Lane
    from assistant.paths import Paths
    from assistant.plugins import PluginHost
    from assistant.pool import EnginePool

    from .speculation import Speculation


@dataclass(frozen=True)
class Parts:
    """What a turn needs of the daemon."""

    settings: Settings
    bus: Bus
    db: Lane
    plugins: PluginHost
    pool: EnginePool
    matcher: IntentMatcher
    paths: Paths
    windows: dict[tuple[str, str], int] = field(default_factory=dict)
    """Of conversations too long for their model, by conversation and model: the id of the oldest message it reads."""


class SpeechOutput(Protocol):
    """Where an answer is spoken: the loudspeaker of the listening loop."""

    def begin(self) -> None:
        """An answer begins."""

    async def room(self) -> None:
        """Wait until the next sentence is due: one that is made too early is made in vain if somebody interrupts."""

    def add(self, sentence: str, chunk: AudioChunk) -> None:
        """Play a chunk of a sentence after all that was added before."""

    def end_sentence(self) -> None:
        """The sentence is complete."""

    async def finish(self) -> None:
        """The answer is complete; returns when all of it was played."""

    def stop(self) -> str:
        """Silence; the words that were really played."""


@dataclass
class Voice:
    """What a turn has that was spoken here, and is answered here."""

    output: SpeechOutput
    ahead: Speculation | None = None
    """An answer that was begun before the end of the question was certain."""


@dataclass
class Turn:
    """What is known of a turn while it runs."""

    id: str
    session: Session
    source: events.TurnSource
    text: str = ""
    """The user's words; of a voice turn, once they are understood."""
    audio: MemoryObjectReceiveStream[bytes] | None = None
    speak: bool = False
    model: str = ""
    schema: dict[str, Any] | None = None
    adapter: str = ""
    tools: bool | None = None
    """See ``wire.Say``."""
    persona: str = ""
    """What the model is told in place of the system prompt."""
    voice: Voice | None = None
    """None: whoever wants to hear it follows the events."""
    answer: str = ""
    reason: events.TurnReason | None = None
    """How it ended; None while it runs."""
    timings: dict[str, float] = field(default_factory=dict)
    prompt_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    began: float = field(default_factory=time.perf_counter)

    @property
    def spoken(self) -> bool:
        """Somebody listens: silence, such as a model that reasons, is to be avoided."""
        return self.speak or self.source == "voice"

    @property
    def priority(self) -> Priority:
        """Of the model's steps."""
        return Priority.SPEECH if self.source == "voice" else Priority.CONVERSATION

    @property
    def aloud(self) -> bool:
        """The answer is synthesised."""
        return self.speak or self.voice is not None

    def mark(self, stage: str) -> None:
        """Note when a stage was first reached."""
        self.timings.setdefault(stage, time.perf_counter() - self.began)
