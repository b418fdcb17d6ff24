"""Which models are loaded: leases, idleness, room for others, speech, draft models."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import anyio
import msgspec
import psutil
import pytest
from resident_engines import HELD, Lodger

from assistant.config import LaneSettings, LlmSettings, Settings
from assistant.engines import ChatRequest, LanguageModel, MemoryUse, Message
from assistant.errors import EngineCrashed, ModelError, ModelNotFound, ModelTooLarge
from assistant.events import Event
from assistant.lanes import Lanes
from assistant.models import Models
from assistant.pool import EnginePool
from assistant.residency import IDLE_SECONDS, Residency
from assistant.wire import LoadedModel, ModelInfo

pytestmark = pytest.mark.anyio

REQUEST = ChatRequest(messages=(Message(role="user", content="who are you?"),))


@dataclass
class Clock:
    """Time as the test wants it."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now

    def passes(self, *, seconds: float = 0, minutes: float = 0) -> None:
        """Later."""
        self.now += seconds + 60 * minutes


@dataclass
class House:
    """A pool over real lanes, with models that are folders."""

    folder: Path
    lanes: Lanes
    events: list[Event]
    clock: Clock = field(default_factory=Clock)
    lane: str = "gpu"
    room: int = 100

    def pool(self, **llm: Any) -> EnginePool:
        """A pool with such settings of ``[llm]``."""
        chosen = LlmSettings(engine="lodger", model=self.model("default"), **{"idle_minutes": 30.0, **llm})
        settings = msgspec.structs.replace(Settings(), llm=chosen)
        self.engine = Lodger(self.folder / "diary", self.lane, self.room)
        plugins = cast(Any, Plugins({("llm", "lodger"): self.engine}))
        models = Models(self.folder / "models", self.events.append)
        return EnginePool(settings, plugins, self.lanes, models, Residency(chosen, self.clock, interval=0.005))

    def model(self, name: str, size: int = 10) -> str:
        """A model of a size; its name."""
        path = self.folder / name
        path.mkdir(exist_ok=True)
        (path / "config.json").write_text("{}")
        (path / "size").write_text(str(size))
        return str(path)

    def diary(self, name: str = "") -> list[str]:
        """What happened, or what happened to one model."""
        file = self.folder / "diary"
        lines = file.read_text().splitlines() if file.exists() else []
        return [line.removeprefix(f"{name}: ") for line in lines if line.startswith(f"{name}: ")] if name else lines

    def pid(self) -> int:
        """The lane's process; 0: none."""
        return self.lanes.lane(self.lane).info.pid


@dataclass
class Plugins:
    """The engines on offer."""

    engines: dict[tuple[str, str], LanguageModel]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """An empty house."""
    HELD.clear()
    happened: list[Event] = []
    async with Lanes(LaneSettings(backoff_seconds=0.01), happened.append) as lanes:
        yield House(tmp_path, lanes, happened)


@pytest.fixture
async def quick_house(house: House) -> House:
    """One whose lane is a thread."""
    house.lane = "thread:lodgers"
    return house


async def use(pool: EnginePool, model: str = "") -> str:
    """What a model says of itself."""
    async with (
        pool.using("llm", model=model) as ready,
        ready.lane.stream(ready.key, LanguageModel.generate, REQUEST) as deltas,
    ):
        return "".join([delta.text async for delta in deltas])


def names(pool: EnginePool) -> list[str]:
    """The models that are loaded."""
    return [Path(each.model).name for each in pool.residency.loaded()]


def the(pool: EnginePool, name: str) -> LoadedModel:
    """One that is loaded."""
    return next(each for each in pool.residency.loaded() if Path(each.model).name == name)


async def until(true: Callable[[], Any]) -> None:
    """Wait for something to become so."""
    with anyio.fail_after(20):
        while not true():  # noqa: ASYNC110
            await anyio.sleep(0.005)


# Idleness


async def test_an_idle_model_goes_and_takes_its_process_with_it(house: House) -> None:
    pool = house.pool(idle_minutes=30.0)
    assert await use(pool) == "default"
    pid = house.pid()
    assert psutil.pid_exists(pid)
    house.clock.passes(minutes=29.9)
    await pool.residency.tick()
    assert names(pool) == ["default"]
    house.clock.passes(minutes=0.1)
    await pool.residency.tick()
    assert names(pool) == []
    assert not psutil.pid_exists(pid)
    assert house.diary("default")[-1] == "close"
    assert await use(pool) == "default"
    assert house.pid() not in (0, pid)


async def test_a_model_in_use_stays_however_long_it_takes(quick_house: House) -> None:
    pool = quick_house.pool()
    async with pool.using("llm"):
        quick_house.clock.passes(minutes=600)
        await pool.residency.tick()
        assert the(pool, "default").users == 1
    assert the(pool, "default").idle_seconds == 0
    quick_house.clock.passes(minutes=29)
    await pool.residency.tick()
    assert the(pool, "default").idle_seconds == 29 * 60
    quick_house.clock.passes(minutes=1)
    await pool.residency.tick()
    assert names(pool) == []


@pytest.mark.parametrize("pinned", [True, False])
async def test_a_model_that_shall_stay_stays(quick_house: House, pinned: bool) -> None:
    default = quick_house.model("default")
    pool = quick_house.pool(pinned=[default]) if pinned else quick_house.pool(idle_minutes=0.0)
    await use(pool)
    quick_house.clock.passes(minutes=1e6)
    await pool.residency.tick()
    assert names(pool) == ["default"]
    assert the(pool, "default").pinned == pinned


async def test_an_engine_tidies_up_once_after_its_work(quick_house: House) -> None:
    pool = quick_house.pool()
    await use(pool)
    async with pool.using("llm"):
        quick_house.clock.passes(seconds=IDLE_SECONDS)
        await pool.residency.tick()
    assert "idle" not in quick_house.diary("default")
    quick_house.clock.passes(seconds=IDLE_SECONDS)
    for _ in range(3):
        await pool.residency.tick()
    assert quick_house.diary("default").count("idle") == 1
    await use(pool)
    quick_house.clock.passes(seconds=IDLE_SECONDS)
    await pool.residency.tick()
    assert quick_house.diary("default").count("idle") == 2


async def test_the_keeper_unloads_by_itself_and_goes_on(quick_house: House) -> None:
    pool = quick_house.pool()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pool.residency.keep)
        for _ in range(2):
            await use(pool)
            quick_house.clock.passes(minutes=31)
            await until(lambda: not names(pool))
        tasks.cancel_scope.cancel()
    assert quick_house.diary("default").count("close") == 2


# Room for others


async def test_the_model_used_least_recently_makes_room(quick_house: House) -> None:
    pool = quick_house.pool(max_loaded=2)
    one, two, three = (quick_house.model(name) for name in ("one", "two", "three"))
    for model in (one, two, one, three):
        assert await use(pool, model) == Path(model).name
        quick_house.clock.passes(seconds=1)
    assert sorted(names(pool)) == ["one", "three"]
    assert await use(pool, two) == "two"
    assert sorted(names(pool)) == ["three", "two"]


async def test_pinned_models_and_those_in_use_do_not_make_room(
    quick_house: House, caplog: pytest.LogCaptureFixture
) -> None:
    one, two, three, four = (quick_house.model(name) for name in ("one", "two", "three", "four"))
    pool = quick_house.pool(max_loaded=2, pinned=[one])
    await use(pool, one)
    quick_house.clock.passes(seconds=1)
    await use(pool, two)
    quick_house.clock.passes(seconds=1)
    await use(pool, three)
    assert sorted(names(pool)) == ["one", "three"]
    async with pool.using("llm", model=three):
        with caplog.at_level(logging.WARNING):
            await use(pool, four)
        quick_house.clock.passes(seconds=1)
        assert "max_loaded" in caplog.text
        assert sorted(names(pool)) == ["four", "one", "three"]
    quick_house.clock.passes(seconds=1)
    await pool.residency.tick()
    assert sorted(names(pool)) == ["one", "three"], "the least recently used goes as soon as it can"


async def test_idle_models_go_until_a_large_one_fits(house: House) -> None:
    pool = house.pool(max_loaded=9)
    one, two, three = house.model("one", 40), house.model("two", 30), house.model("three", 20)
    for model in (one, two, three):
        await use(pool, model)
        house.clock.passes(seconds=1)
    assert await use(pool, house.model("large", 70)) == "large"
    assert sorted(names(pool)) == ["large", "three"]
    assert house.diary("large") == ["refused", "refused", "load"]


async def test_what_never_fits_is_refused_and_forgotten(house: House) -> None:
    pool = house.pool(max_loaded=9)
    one, two, giant = house.model("one", 40), house.model("two", 30), house.model("giant", 101)
    await use(pool, one)
    async with pool.using("llm", model=two):
        with pytest.raises(ModelTooLarge, match="101 does not fit beside 30"):
            await use(pool, giant)
        assert names(pool) == ["two"]
    assert await use(pool, one) == "one"
    house.clock.passes(minutes=31)
    await pool.residency.tick()
    assert (names(pool), house.pid()) == ([], 0)


async def test_who_wants_a_model_that_is_leaving_gets_it_again(quick_house: House) -> None:
    pool = quick_house.pool()
    await use(pool)
    stuck = quick_house.folder / "default" / "stuck"
    stuck.touch()
    quick_house.clock.passes(minutes=31)
    said: list[str] = []

    async def want() -> None:
        said.append(await use(pool))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pool.residency.tick)
        await until(lambda: "closing" in quick_house.diary("default"))
        tasks.start_soon(want)
        await anyio.wait_all_tasks_blocked()
        assert said == []
        stuck.unlink()
    assert said == ["default"]
    assert quick_house.diary("default") == ["load", "closing", "close", "load"]


async def test_a_cancelled_load_is_kept_track_of(quick_house: House) -> None:
    pool = quick_house.pool()
    slow = Path(quick_house.model("default")) / "slow"
    slow.touch()
    with anyio.move_on_after(0.1) as scope:
        await use(pool)
    assert scope.cancelled_caught
    slow.unlink()
    await until(lambda: names(pool))
    assert the(pool, "default").users == 0
    quick_house.clock.passes(minutes=31)
    await pool.residency.tick()
    assert quick_house.diary("default") == ["load", "closing", "close"]


async def test_a_cancelled_use_gives_its_lease_back(quick_house: House) -> None:
    pool = quick_house.pool()

    async def forever() -> None:
        async with pool.using("llm"):
            await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(forever)
        await until(lambda: names(pool) and the(pool, "default").users == 3)
        tasks.cancel_scope.cancel()
    assert the(pool, "default").users == 0
    assert quick_house.diary("default") == ["load"]


async def test_after_a_crash_the_model_is_loaded_again(house: House) -> None:
    pool = house.pool()
    async with pool.using("llm") as ready:
        with pytest.raises(EngineCrashed):
            await ready.lane.call(ready.key, Lodger.die)
        assert names(pool) == []
    assert await use(pool) == "default"
    assert names(pool) == ["default"]


async def test_ready_still_serves_who_needs_no_lease(quick_house: House) -> None:
    pool = quick_house.pool()
    ready = await pool.ready("llm")
    assert (names(pool), the(pool, "default").users) == (["default"], 0)
    assert await ready.lane.call(ready.key, Lodger.memory) == the_memory(10)


def the_memory(active: int) -> MemoryUse:
    """What a lodger of that size says."""
    return MemoryUse(active=active, limit=100)


# By hand


async def test_a_model_is_unloaded_by_its_name_or_key_unless_it_is_in_use(quick_house: House) -> None:
    default = quick_house.model("default")
    pool = quick_house.pool(pinned=[default])
    with pytest.raises(ModelNotFound, match="is not loaded"):
        await pool.residency.unload(default)
    async with pool.using("llm") as ready:
        with pytest.raises(ModelError, match="is in use"):
            await pool.residency.unload(default)
    assert pool.residency.has_language_model(default)
    await pool.residency.unload(default)
    assert names(pool) == []
    await use(pool)
    await pool.residency.unload(ready.key)
    assert names(pool) == []


async def test_what_is_loaded_is_described_with_its_memory_as_last_known(quick_house: House) -> None:
    default, other = quick_house.model("default"), quick_house.model("other")
    pool = quick_house.pool(pinned=[default])
    quick_house.model("default", 42)
    await use(pool)
    assert the(pool, "default").memory.active == 0
    for _ in range(3):
        await pool.residency.tick()
    assert the(pool, "default").memory == the_memory(42)
    assert quick_house.diary("default").count("memory") == 1, "nothing is asked while nothing changes"
    described = pool.residency.describe(ModelInfo(name=default, present=True))
    assert (described.loaded, described.pinned, described.memory) == (True, True, 42)
    absent = pool.residency.describe(ModelInfo(name=other, present=True))
    assert (absent.loaded, absent.pinned, absent.memory) == (False, False, 0)


# Speech and drafts


async def test_models_know_while_speech_is_live(house: House) -> None:
    pool = house.pool(max_loaded=9)
    deaf = house.model("deaf")
    (Path(deaf) / "deaf").touch()
    await use(pool)
    await use(pool, deaf)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pool.residency.keep)
        async with pool.speech():
            await until(lambda: "speech True" in house.diary("default") and "speech True" in house.diary("deaf"))
            async with pool.speech():
                await use(pool, house.model("late"))
                await until(lambda: "speech True" in house.diary("late"))
            assert not any("speech False" in line for line in house.diary())
        await until(lambda: sum("speech False" in line for line in house.diary()) == 3)
        tasks.cancel_scope.cancel()
    told = [line for line in house.diary("default") if line.startswith("speech")]
    assert told == ["speech True", "speech False"]


async def test_the_draft_model_goes_with_the_configured_model(quick_house: House) -> None:
    pool = quick_house.pool(draft_model=quick_house.model("draft"))
    await use(pool)
    await use(pool, quick_house.model("other"))
    assert quick_house.diary("default") == ["load with draft"]
    assert quick_house.diary("other") == ["load"]
    assert quick_house.engine.draft_model is None


async def test_a_model_is_not_its_own_draft(quick_house: House) -> None:
    pool = quick_house.pool(draft_model=quick_house.model("default"))
    await use(pool)
    assert quick_house.diary("default") == ["load"]


async def test_a_draft_model_that_does_not_exist_is_an_error_that_says_so(quick_house: House) -> None:
    pool = quick_house.pool(draft_model="hf:nothing")
    with pytest.raises(ModelNotFound, match="hf:nothing"):
        await use(pool)
