"""Engines ready to use: which one is meant, its model on the disk, and its lane with it loaded."""

from __future__ import annotations

import copy
import difflib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from .engines import Engine, LanguageModel
from .errors import EngineNotFound
from .residency import Residency
from .wire import EngineInfo

if TYPE_CHECKING:
    from .config import Settings
    from .lanes import Lane, Lanes
    from .models import Models
    from .plugins import PluginHost

Kind = Literal["stt", "llm", "tts"]
TITLES: dict[Kind, str] = {"stt": "speech-to-text", "llm": "language-model", "tts": "text-to-speech"}


@dataclass(frozen=True)
class Ready:
    """A loaded engine and where it runs."""

    lane: Lane
    key: str
    engine: Engine


class EnginePool:
    """Finds, places and loads engines; the only one who knows both plugins and lanes.

    Args:
        residency: who uses what is loaded; by default one that goes by ``[llm]`` and the real clock.
    """

    def __init__(
        self,
        settings: Settings,
        plugins: PluginHost,
        lanes: Lanes,
        models: Models,
        residency: Residency | None = None,
    ) -> None:
        self._settings = settings
        self._plugins = plugins
        self._lanes = lanes
        self._models = models
        self.residency = residency or Residency(settings.llm)

    def choose(self, kind: Kind, name: str = "") -> Engine:
        """The engine of that name, or the configured one; ``auto`` is the highest-ranked that can run here.

        Raises:
            EngineNotFound: no plugin offers it, or it cannot run on this machine.
        """
        wanted = name or self._configured(kind)
        offered = {engine.name: engine for (of, _), engine in sorted(self._plugins.engines.items()) if of == kind}
        if wanted == "auto":
            usable = [engine for engine in offered.values() if not engine.available()]
            if usable:
                return max(usable, key=lambda engine: engine.rank)
            reasons = "; ".join(f"{engine.name}: {engine.available()}" for engine in offered.values())
            raise EngineNotFound(
                f"no {TITLES[kind]} engine can run here ({reasons or 'no plugin offers one'})",
                hint="`assistant doctor` names what to install",
            )
        if wanted not in offered:
            near = difflib.get_close_matches(wanted, offered, 1)
            raise EngineNotFound(
                f"there is no {TITLES[kind]} engine named {wanted!r}",
                hint=f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(offered) or 'none'}",
            )
        if reason := offered[wanted].available():
            raise EngineNotFound(f"the {TITLES[kind]} engine {wanted!r} cannot run here: {reason}",
                                 hint="`assistant doctor` names what to install")
        return offered[wanted]

    @asynccontextmanager
    async def using(self, kind: Kind, name: str = "", model: str = "") -> AsyncIterator[Ready]:
        """The engine, loaded on its lane with its model, which is fetched if it is absent; it is not unloaded while
        the block runs.

        Raises:
            EngineNotFound, ModelError, LaneError: it cannot be had.
        """
        engine = self.choose(kind, name)
        configured = self._model(kind) or engine.default_model
        chosen = model or configured
        folder: Path | None = await self._models.resolve(chosen) if chosen else None
        key = f"{kind}:{engine.name}:{chosen}" if chosen else f"{kind}:{engine.name}"
        if isinstance(engine, LanguageModel) and not self.residency.holds(key):
            draft = await self._draft(chosen, configured)
            if draft or self.residency.is_taken(engine, key):
                engine = copy.copy(engine)
                engine.draft_model = draft
        lane = self._lanes.lane(engine.lane)
        async with self.residency.lease(key, chosen, engine, lane, folder):
            yield Ready(lane, key, engine)

    async def ready(self, kind: Kind, name: str = "", model: str = "") -> Ready:
        """As ``using``, but nothing keeps the engine from being unloaded when it has been idle or another needs room.

        Raises:
            EngineNotFound, ModelError, LaneError: it cannot be had.
        """
        async with self.using(kind, name, model) as ready:
            return ready

    def speech(self) -> AbstractAsyncContextManager[None]:
        """While such a block runs, the language models keep their steps short."""
        return self.residency.speech()

    async def _draft(self, model: str, configured: str) -> Path | None:
        """The folder of the draft model, which goes with the configured model only."""
        draft = self._settings.llm.draft_model
        return await self._models.resolve(draft) if draft and model == configured and draft != model else None

    def selected(self, kind: Kind) -> str:
        """``engine:model`` that would be used, or why there is none."""
        try:
            engine = self.choose(kind)
        except EngineNotFound as error:
            return error.message
        model = self._model(kind) or engine.default_model
        return f"{engine.name}:{model}" if model else engine.name

    def infos(self) -> tuple[EngineInfo, ...]:
        """Every engine on offer."""
        chosen = {kind: self.selected(kind).partition(":")[0] for kind in TITLES}
        return tuple(
            EngineInfo(
                kind=kind,
                name=name,
                plugin=self._plugins.engine_plugin(kind, name),
                lane=engine.lane,
                selected=chosen[kind] == name,
                unavailable=engine.available(),
            )
            for (kind, name), engine in sorted(self._plugins.engines.items())
        )

    def _configured(self, kind: Kind) -> str:
        settings = self._settings
        return {"stt": settings.stt.engine, "llm": settings.llm.engine, "tts": settings.tts.engine}[kind]

    def _model(self, kind: Kind) -> str:
        return {"stt": self._settings.stt.model, "llm": self._settings.llm.model, "tts": ""}[kind]
