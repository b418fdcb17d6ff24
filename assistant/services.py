"""What the running daemon is made of, for those who serve it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .bus import Bus
    from .config import Settings
    from .finetune.jobs import Finetuner
    from .lanes import Lane, Lanes
    from .models import Models
    from .paths import Paths
    from .plugins import PluginHost
    from .pool import EnginePool
    from .sessions import Sessions
    from .voice.service import VoiceService


@dataclass(frozen=True)
class Services:
    """The parts that the composition root put together."""

    settings: Settings
    paths: Paths
    bus: Bus
    plugins: PluginHost
    lanes: Lanes
    db: Lane
    """The lane of the ``Store``."""
    models: Models
    pool: EnginePool
    sessions: Sessions
    finetuner: Finetuner
    voice: VoiceService
    started_at: float
    """Unix time in seconds."""
    stop: Callable[[], None]
    """Asks the daemon to go down in good order."""
    api: str = ""
    """The base URL of the OpenAI-compatible API over TCP; empty if there is none."""
