"""Which models are loaded: who uses them, which one makes room for another, and which one has been idle for too long.

A use is a lease. A model with a lease is never unloaded. Language models without one are unloaded after
``[llm] idle_minutes``, when there are more than ``[llm] max_loaded``, or when another one does not fit beside them; the
last engine of a lane takes the lane's process with it, so the memory really returns.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import anyio
import msgspec

from .engines import Engine, LanguageModel, MemoryUse
from .errors import AssistantError, ModelError, ModelNotFound, ModelTooLarge
from .lanes import Priority
from .wire import LoadedModel, ModelInfo

if TYPE_CHECKING:
    from .config import LlmSettings
    from .lanes import Lane

TICK_SECONDS = 5.0
"""How often models are looked at while any is loaded."""

IDLE_SECONDS = 20.0
"""After so long without work an engine may tidy up: a pause between two sentences of a conversation is shorter."""

ASK_SECONDS = 5.0
"""How long an engine that is busy may take to say what it holds; after that the last known value stays."""

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass
class Resident:
    """An engine that was loaded, and who uses it."""

    key: str
    model: str
    """As it was asked for; empty for an engine that needs none."""
    engine: Engine
    lane: Lane
    used: float
    """When the last lease ended, by the clock of the residency."""
    leases: int = 0
    leaving: bool = False
    tidied: bool = False
    measured: bool = False
    memory: MemoryUse = field(default_factory=MemoryUse)
    told: tuple[int, bool] = (0, False)
    """Which process was last told whether speech is live, and what."""

    @property
    def loaded(self) -> bool:
        """Whether its lane holds it."""
        return self.key in self.lane.info.engines

    @property
    def is_language_model(self) -> bool:
        """Whether it may be unloaded: recognisers and voices stay, for speech cannot wait until they are loaded."""
        return isinstance(self.engine, LanguageModel)


class Residency:
    """Leases of engines, and the room they take.

    Args:
        settings: ``[llm]``.
        clock: seconds that only ever grow.
        interval: seconds between two looks at what is idle.
    """

    def __init__(
        self, settings: LlmSettings, clock: Callable[[], float] = time.monotonic, interval: float = TICK_SECONDS
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._interval = interval
        self._residents: dict[str, Resident] = {}
        self._moving = anyio.Lock()
        self._arrival = anyio.Event()
        self._news = anyio.Event()
        self._speaking = 0

    def holds(self, key: str) -> bool:
        """Whether an engine is loaded and stays so."""
        resident = self._residents.get(key)
        return resident is not None and resident.loaded and not resident.leaving

    def is_taken(self, engine: Engine, key: str) -> bool:
        """Whether this very object stands for another model already, as it may in a thread of the daemon."""
        return any(each.engine is engine and each.key != key for each in self._residents.values())

    @asynccontextmanager
    async def lease(self, key: str, model: str, engine: Engine, lane: Lane, folder: Path | None) -> AsyncIterator[None]:
        """Have an engine loaded for as long as the block runs; other models make room if they must.

        Raises:
            ModelTooLarge: it does not fit, though everything that is idle was unloaded.
            LaneError, ModelError: it cannot be loaded.
        """
        resident = self._residents.get(key)
        if resident is None:
            resident = self._residents[key] = Resident(key, model, engine, lane, self._clock())
            self._arrival.set()
        resident.leases += 1
        try:
            await self._have(resident, engine, folder)
            resident.tidied = False
            self._news.set()
            yield
        finally:
            resident.leases -= 1
            resident.used = self._clock()
            resident.measured = False

    async def _have(self, resident: Resident, engine: Engine, folder: Path | None) -> None:
        try:
            if resident.is_language_model:
                if not self.holds(resident.key):
                    async with self._moving:
                        await self._make_room(resident)
                        await self._load(resident, engine, folder)
                return
            try:
                await resident.lane.add(resident.key, engine, folder)
            except ModelTooLarge:
                async with self._moving:
                    await self._load(resident, engine, folder)
        except AssistantError:
            if resident.leases == 1 and not resident.loaded:
                self._residents.pop(resident.key, None)
            raise

    async def _load(self, resident: Resident, engine: Engine, folder: Path | None) -> None:
        """Load, unloading what is idle on the same device until it fits."""
        while True:
            try:
                await resident.lane.add(resident.key, engine, folder)
                return
            except ModelTooLarge:
                others = [other for other in self._idle() if other.lane is resident.lane]
                if not others:
                    raise
                await self._give_way(others[0], resident)

    async def _make_room(self, comer: Resident) -> None:
        """Unload what was used least recently until one more may be loaded."""
        while len(self._language_models(but=comer)) >= self._settings.max_loaded:
            idle = self._idle()
            if not idle:
                log.warning("more models than `[llm] max_loaded` are in use or pinned; %s is loaded as well", comer.key)
                return
            await self._give_way(idle[0], comer)

    async def _give_way(self, goer: Resident, comer: Resident) -> None:
        log.info("%s is unloaded to make room for %s", goer.key, comer.key)
        await self._remove(goer)

    def _language_models(self, but: Resident | None = None) -> list[Resident]:
        known = self._residents.values()
        return [each for each in known if each.is_language_model and each.loaded and each is not but]

    def _idle(self) -> list[Resident]:
        """Language models that may be unloaded, the least recently used first."""
        free = [each for each in self._language_models() if not each.leases and not self.is_pinned(each.model)]
        return sorted(free, key=lambda each: each.used)

    def is_pinned(self, model: str) -> bool:
        """Whether the configuration keeps a model loaded."""
        return any(_same(model, name) for name in self._settings.pinned)

    async def _remove(self, resident: Resident) -> None:
        """Unload; whoever wants it meanwhile waits for ``_moving`` and loads it again."""
        resident.leaving = True
        try:
            with anyio.CancelScope(shield=True):
                await resident.lane.remove(resident.key)
        finally:
            resident.leaving = False
            resident.memory, resident.told = MemoryUse(), (0, False)
            if not resident.leases:
                self._residents.pop(resident.key, None)

    async def unload(self, model: str) -> None:
        """Unload a language model, pinned or not.

        Args:
            model: its name, or the key of its engine.

        Raises:
            ModelNotFound: it is not loaded.
            ModelError: it is in use.
        """
        async with self._moving:
            found = [each for each in self._language_models() if each.key == model or _same(each.model, model)]
            if not found:
                raise ModelNotFound(f"the model {model} is not loaded", hint="`assistant status` shows what is")
            if any(each.leases for each in found):
                raise ModelError(f"the model {model} is in use", hint="try again when the answer is complete")
            for each in found:
                await self._remove(each)

    def loaded(self) -> tuple[LoadedModel, ...]:
        """What is loaded now, with the memory as it was last known."""
        now = self._clock()
        return tuple(
            LoadedModel(
                key=each.key, model=each.model, kind=each.engine.kind, lane=each.lane.name,
                pinned=each.is_language_model and self.is_pinned(each.model), users=each.leases,
                idle_seconds=0.0 if each.leases else max(0.0, now - each.used), memory=each.memory,
            )
            for each in self._residents.values() if each.loaded
        )  # fmt: skip

    def has_language_model(self, model: str) -> bool:
        """Whether a language model of that name is loaded."""
        return any(_same(each.model, model) for each in self._language_models())

    def describe(self, info: ModelInfo) -> ModelInfo:
        """A model, with whether it is loaded and pinned, and what it holds."""
        found = [each for each in self._residents.values() if each.loaded and _same(each.model, info.name)]
        return msgspec.structs.replace(
            info, loaded=bool(found), pinned=self.is_pinned(info.name),
            memory=sum(each.memory.active for each in found),
        )  # fmt: skip

    @asynccontextmanager
    async def speech(self) -> AsyncIterator[None]:
        """While such a block runs, the language models know that speech is live; nobody waits until they do."""
        self._speaking += 1
        self._news.set()
        try:
            yield
        finally:
            self._speaking -= 1
            self._news.set()

    async def keep(self) -> None:
        """Look after the models until cancelled; sleeps without waking while there are none."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep_telling)
            while True:
                await self.tick()
                await anyio.sleep(self._interval)
                while not self._residents:
                    self._arrival = anyio.Event()
                    await self._arrival.wait()

    async def tick(self) -> None:
        """Unload, tidy up and measure what is due."""
        for each in list(self._residents.values()):
            if each.is_language_model and self._is_over(each):
                async with self._moving:
                    if self._is_over(each):
                        log.info("%s is unloaded after %g idle minutes", each.key, self._settings.idle_minutes)
                        await self._remove(each)
                continue
            if each.is_language_model and not each.tidied and each.loaded and self._idle_for(each) >= IDLE_SECONDS:
                each.tidied, _ = await self._ask(each, Engine.idle, Priority.BACKGROUND)
            if not each.measured and each.loaded and type(each.engine).memory is not Engine.memory:
                answered, found = await self._ask(each, Engine.memory, Priority.CONVERSATION)
                each.measured = answered and not each.leases
                each.memory = found or each.memory
        self._news.set()

    def _idle_for(self, resident: Resident) -> float:
        return 0.0 if resident.leases else self._clock() - resident.used

    def _is_over(self, resident: Resident) -> bool:
        if resident.leases or self.is_pinned(resident.model) or self._residents.get(resident.key) is not resident:
            return False
        minutes = self._settings.idle_minutes
        too_many = len(self._language_models()) > self._settings.max_loaded and self._idle()[:1] == [resident]
        return too_many or 0 < minutes * 60 <= self._idle_for(resident)

    async def _ask(
        self, resident: Resident, method: Callable[[Engine], T], priority: Priority
    ) -> tuple[bool, T | None]:
        """Whether a method could be called, and its result; the last known value is good enough where it could not."""
        try:
            with anyio.move_on_after(ASK_SECONDS):
                return True, await resident.lane.call(resident.key, method, priority=priority)
        except AssistantError as error:
            log.debug("%s does not answer: %s", resident.key, error)
            return True, None
        return False, None

    async def _keep_telling(self) -> None:
        while True:
            await self._news.wait()
            self._news = anyio.Event()
            live = self._speaking > 0
            async with anyio.create_task_group() as tasks:
                for each in self._language_models():
                    pid = each.lane.info.pid
                    if each.told != (pid, live) and (live or each.told == (pid, True)):
                        tasks.start_soon(self._tell, each, pid, live)

    async def _tell(self, resident: Resident, pid: int, live: bool) -> None:
        try:
            with anyio.move_on_after(ASK_SECONDS):
                await resident.lane.call(resident.key, LanguageModel.speech_live, live, priority=Priority.SPEECH)
                resident.told = (pid, live)
        except AssistantError as error:
            resident.told = (pid, live)
            log.debug("%s was not told about speech: %s", resident.key, error)


def _same(model: str, other: str) -> bool:
    """Whether two names mean one model; folders may be written with ``~``."""
    return model == other or (bool(model and other) and Path(model).expanduser() == Path(other).expanduser())
