"""The configured engine in a lane of its own, timed as the daemon would see it."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from assistant import config, events
from assistant.engines import ChatRequest, Delta, LanguageModel, MemoryUse
from assistant.lanes import Lanes
from assistant.models import Models
from assistant.plugins import PluginHost
from assistant.pool import EnginePool, Ready

from .report import MemoryFigures
from .streams import BenchError, Messages, Stream, Target

if TYPE_CHECKING:
    from assistant.events import Event
    from assistant.paths import Paths


class LocalTarget(Target):
    """The engine; loaded by ``load``.

    Args:
        model: empty for the configured one.
    """

    kind = "engine"

    def __init__(self, pool: EnginePool, models: Models, model: str) -> None:
        self._pool = pool
        self._models = models
        self._asked_for = model
        self._ready: Ready | None = None
        self._loaded_bytes = 0
        self._rss = 0
        self.loads: list[float] = []
        """Seconds of every load so far, without fetching and without starting the process."""
        engine, _, name = pool.selected("llm").partition(":")
        self.engine = engine
        self.model = model or name
        self.title = Path(self.model).name or engine

    @property
    def ready(self) -> Ready:
        """The loaded engine."""
        assert self._ready is not None, "load() comes first"
        return self._ready

    async def folder(self) -> Path | None:
        """Where the model lies; None for an engine that needs none."""
        return await self._models.resolve(self.model) if self.model else None

    async def load(self) -> None:
        """Fetch the model if it is absent, start the lane and load.

        Raises:
            AssistantError: it cannot be had.
        """
        self._ready = await self._pool.ready("llm", model=self._asked_for)
        memory = await self._memory()
        self._loaded_bytes = self._loaded_bytes or memory.active - memory.prompt_cache

    def heard(self, event: Event) -> None:
        """Take the events of the lane."""
        if isinstance(event, events.EngineLoaded):
            self.loads.append(event.seconds)

    async def ask(self, messages: Messages, max_tokens: int) -> Stream:
        """Answer greedily, timed where the deltas arrive."""
        request = ChatRequest(messages=messages, max_tokens=max_tokens)
        ticks: list[float] = []
        text: list[str] = []
        last = Delta()
        began = time.perf_counter()
        async with self.ready.lane.stream(self.ready.key, LanguageModel.generate, request) as deltas:
            async for delta in deltas:
                last = delta
                text.append(delta.text)
                if not delta.prompt_tokens:
                    ticks.append(time.perf_counter())
        self._rss = max(self._rss, self.ready.lane.info.rss)
        if not ticks:
            raise BenchError("the engine answered with nothing at all", hint="choose another model")
        return Stream(began, tuple(ticks), last.output_tokens, last.prompt_tokens, last.cached_tokens, "".join(text))

    async def restart(self) -> bool:
        """Let the engine tidy up, end its process and load it again."""
        await self.ready.lane.call(self.ready.key, LanguageModel.idle)
        await self.ready.lane.remove(self.ready.key)
        await self.load()
        return True

    async def memory(self) -> MemoryFigures:
        """What the engine holds now."""
        now = await self._memory()
        return MemoryFigures(
            loaded=self._loaded_bytes, active=now.active, peak=now.peak, prompt_cache=now.prompt_cache,
            limit=now.limit, rss=max(self._rss, self.ready.lane.info.rss),
        )

    async def _memory(self) -> MemoryUse:
        return await self.ready.lane.call(self.ready.key, LanguageModel.memory)


@asynccontextmanager
async def local(paths: Paths, model: str, hear: Callable[[Event], None]) -> AsyncIterator[LocalTarget]:
    """The engine that the configuration chooses, its plugins' own files in a folder that is thrown away afterwards.

    Args:
        model: empty for the configured one.
        hear: takes the events of lanes and downloads.

    Raises:
        ConfigError: the configuration is wrong.
        EngineNotFound: no language model can run here.
    """
    settings = config.load(paths)
    paths.cache.mkdir(parents=True, exist_ok=True)
    found: list[LocalTarget] = []

    def publish(event: Event) -> None:
        for target in found:
            target.heard(event)
        hear(event)

    with tempfile.TemporaryDirectory(prefix="bench-", dir=paths.cache, ignore_cleanup_errors=True) as folder:
        plugins = PluginHost(settings, dataclasses.replace(paths, data=Path(folder)), publish)
        plugins.load()
        try:
            async with Lanes(settings.lanes, publish) as lanes:
                models = Models(paths.models, publish)
                pool = EnginePool(settings, plugins, lanes, models)
                pool.choose("llm")
                found.append(LocalTarget(pool, models, model))
                yield found[0]
        finally:
            plugins.close()
