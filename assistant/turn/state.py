"""What a turn needs, and what is known of it while it runs."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from anyio.streams.memory import MemoryObjectReceiveStream

from assistant import events
from assistant.hookspecs import Session

if TYPE_CHECKING:
    from assistant.bus import Bus
    from assistant.config import Settings
    from assistant.intents import IntentMatcher
    from assistant.lanes import Lane
    from assistant.paths import Paths
    from assistant.plugins import PluginHost
    from assistant.pool import EnginePool


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
    answer: str = ""
    timings: dict[str, float] = field(default_factory=dict)
    prompt_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    began: float = field(default_factory=time.perf_counter)

    @property
    def spoken(self) -> bool:
        """Somebody listens: silence, such as a model that reasons, is to be avoided."""
        return self.speak or self.source == "voice"

    def mark(self, stage: str) -> None:
        """Note when a stage was first reached."""
        self.timings.setdefault(stage, time.perf_counter() - self.began)
