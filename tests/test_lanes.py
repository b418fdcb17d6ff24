"""Lanes: what holds for both kinds, then what only a process has to offer."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from textwrap import dedent

import anyio
import msgspec
import psutil
import pytest
from lane_engines import Base, Fragile, Slow, Sum, Toy

from assistant import events
from assistant.config import LaneSettings
from assistant.errors import (
    AssistantError,
    ContextOverflow,
    EngineCrashed,
    EngineFailed,
    EngineNotFound,
    LaneError,
    LaneQuarantined,
)
from assistant.lanes import Lane, Lanes, Priority, ProcessLane
from assistant.lanes.jobs import WINDOW
from assistant.lanes.link import COMMAND
from assistant.lanes.messages import Beat, FromLane, GarbageError, Inbox, Item, frame

pytestmark = pytest.mark.anyio

QUICK = LaneSettings(backoff_seconds=0.01)
MakeLane = Callable[..., ProcessLane]


@pytest.fixture
def happened() -> list[events.Event]:
    """Every event that the lanes published."""
    return []


@pytest.fixture(params=["gpu", "thread:toy"])
async def lane(request: pytest.FixtureRequest, happened: list[events.Event]) -> AsyncIterator[Lane]:
    """A lane of either kind that holds a Toy as ``toy``."""
    async with Lanes(QUICK, happened.append) as lanes:
        lane = lanes.lane(request.param)
        await lane.add("toy", Toy(), None)
        yield lane


@pytest.fixture
async def make(happened: list[events.Event]) -> AsyncIterator[MakeLane]:
    """Makes process lanes with settings of the test's own."""
    made: list[ProcessLane] = []

    def make_lane(command: tuple[str, ...] = COMMAND, **settings: float) -> ProcessLane:
        made.append(ProcessLane("gpu", msgspec.structs.replace(QUICK, **settings), happened.append, command))
        return made[-1]

    yield make_lane
    for lane in made:
        await lane.close()


@pytest.fixture
async def gpu(make: MakeLane) -> Lane:
    """A process lane that holds a Toy as ``toy``."""
    lane = make()
    await lane.add("toy", Toy(), None)
    return lane


async def until(true: Callable[[], bool]) -> None:
    """Wait for something to become so."""
    with anyio.fail_after(20):
        while not true():  # noqa: ASYNC110
            await anyio.sleep(0.005)


async def drain(items: AsyncIterator[object]) -> None:
    """Take all that comes."""
    async for _ in items:
        pass


def kinds(happened: list[events.Event]) -> list[str]:
    """The names of what happened."""
    return [type(event).__name__ for event in happened]


# What holds for both kinds


async def test_a_call_runs_the_engines_own_method_on_the_thread_that_loaded_it(lane: Lane) -> None:
    assert await lane.call("toy", Base.greet, "you") == "hello you"
    pid, where = await lane.call("toy", Toy.where)
    assert where == "same thread"
    assert (pid == os.getpid()) == lane.name.startswith("thread:")


async def test_a_plain_function_is_called_with_the_engine(lane: Lane) -> None:
    assert await lane.call("toy", repr) != ""
    assert await lane.call("toy", getattr, "history") == []


async def test_a_stream_brings_every_item_in_order(lane: Lane) -> None:
    async with lane.stream("toy", Toy.steps, "llm", 5 * WINDOW + 3) as items:
        assert [item async for item in items] == list(range(5 * WINDOW + 3))
    assert lane.info.jobs == 0


async def test_many_callers_at_once_get_their_own_answers(lane: Lane) -> None:
    answers: dict[str, str] = {}

    async def ask(word: str) -> None:
        answers[word] = await lane.call("toy", Toy.echo, word)

    async with anyio.create_task_group() as tasks:
        for number in range(200):
            tasks.start_soon(ask, str(number))
    assert answers == {str(number): str(number) for number in range(200)}


async def test_speech_jumps_ahead_between_two_steps_and_background_waits(lane: Lane, tmp_path: Path) -> None:
    async def mark(text: str, priority: int) -> None:
        await lane.call("toy", Toy.mark, text, priority=priority)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(mark, "background", Priority.BACKGROUND)
        async with lane.stream("toy", Toy.steps, "llm", 20) as items:
            await anext(items)
            tasks.start_soon(lane.call, "toy", Toy.gate, tmp_path / "key")
            await until((tmp_path / "key.waiting").exists)
            jobs = lane.info.jobs
            tasks.start_soon(mark, "late background", Priority.BACKGROUND)
            tasks.start_soon(mark, "conversation", Priority.CONVERSATION)
            tasks.start_soon(mark, "speech", Priority.SPEECH)
            await until(lambda: lane.info.jobs == jobs + 3)
            (tmp_path / "key").touch()
            await drain(items)
    history = await lane.call("toy", Toy.remembered)
    after = history[history.index("gate") + 1 :]
    assert after[0] == "speech"
    assert after[-1] == "late background"
    assert "conversation" in after


async def test_equals_take_turns(lane: Lane, tmp_path: Path) -> None:
    async def consume(name: str) -> None:
        async with lane.stream("toy", Toy.steps, name, 10) as items:
            await drain(items)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lane.call, "toy", Toy.gate, tmp_path / "key")
        await until((tmp_path / "key.waiting").exists)
        tasks.start_soon(consume, "a")
        tasks.start_soon(consume, "b")
        await until(lambda: lane.info.jobs == 3)
        (tmp_path / "key").touch()
    history = [word for word in await lane.call("toy", Toy.remembered) if word in "ab"]
    assert history == ["a", "b"] * 10


async def test_leaving_a_stream_closes_its_generator_on_its_thread(lane: Lane) -> None:
    async with lane.stream("toy", Toy.kept_steps, "llm", 1_000_000) as items:
        assert await anext(items) == 0
    history = await lane.call("toy", Toy.remembered)
    assert history[-1] == "llm closed on same thread"
    assert lane.info.jobs == 0


async def test_a_cancelled_scope_closes_the_generator_before_it_is_left(lane: Lane) -> None:
    with anyio.CancelScope() as scope:
        async with lane.stream("toy", Toy.steps, "llm", 1_000_000) as items:
            async for number in items:
                if number == 10:
                    scope.cancel()
    assert scope.cancelled_caught
    assert lane.info.jobs == 0
    assert (await lane.call("toy", Toy.remembered))[-1] == "llm closed on same thread"


async def test_a_stream_that_is_left_while_it_is_queued_never_begins(lane: Lane, tmp_path: Path) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lane.call, "toy", Toy.gate, tmp_path / "key")
        await until((tmp_path / "key.waiting").exists)

        async def leave() -> None:
            async with lane.stream("toy", Toy.steps, "llm", 10):
                (tmp_path / "key").touch()

        tasks.start_soon(leave)
    assert await lane.call("toy", Toy.remembered) == ["gate"]


async def test_a_cancelled_call_is_dropped_when_queued_and_finished_when_running(lane: Lane, tmp_path: Path) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lane.call, "toy", Toy.gate, tmp_path / "key")
        await until((tmp_path / "key.waiting").exists)
        tasks.start_soon(lane.call, "toy", Toy.mark, "dropped")
        await until(lambda: lane.info.jobs == 2)
        tasks.cancel_scope.cancel()
    assert lane.info.jobs == 0
    (tmp_path / "key").touch()
    assert await lane.call("toy", Toy.remembered) == ["gate"]


async def test_our_errors_travel_as_themselves(lane: Lane) -> None:
    with pytest.raises(ContextOverflow, match="9 tokens too many") as caught:
        await lane.call("toy", Toy.refuse)
    assert caught.value.hint == "forget something"


async def test_any_other_error_becomes_engine_failed_with_its_type_and_line(lane: Lane) -> None:
    with pytest.raises(EngineFailed, match=r"'toy': ValueError: no such note \(lane_engines.py:\d+ in stumble\)"):
        await lane.call("toy", Toy.stumble)
    with pytest.raises(EngineFailed, match="SystemExit: bye"):
        await lane.call("toy", Toy.leave)
    assert await lane.call("toy", Toy.echo, "alive") == "alive"


async def test_an_error_in_mid_stream_comes_after_the_items_before_it(lane: Lane) -> None:
    async with lane.stream("toy", Toy.stumbling, 3) as items:
        assert [await anext(items) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(EngineFailed, match="stumbled"):
            await anext(items)
    assert lane.info.jobs == 0


async def test_a_key_that_was_never_added_is_refused(lane: Lane) -> None:
    with pytest.raises(EngineNotFound, match="'other'"):
        await lane.call("other", Toy.echo, "x")
    with pytest.raises(EngineNotFound, match="'other'"):
        async with lane.stream("other", Toy.steps, "x", 1):
            pass


async def test_a_slow_consumer_holds_up_only_its_own_stream(lane: Lane) -> None:
    async with lane.stream("toy", Toy.steps, "llm", 10 * WINDOW) as items:
        assert await anext(items) == 0
        async with lane.stream("toy", Toy.steps, "other", 3 * WINDOW) as others:
            assert len([item async for item in others]) == 3 * WINDOW
        history = await lane.call("toy", Toy.remembered)
        assert history.count("llm") == WINDOW
        assert [item async for item in items] == list(range(1, 10 * WINDOW))


async def test_what_is_opened_stays_in_the_lane_until_it_is_released(lane: Lane) -> None:
    one = await lane.open("toy", Toy.sum)
    two = await lane.open("toy", Toy.sum)
    assert await lane.call(one, Sum.feed, 2) == 2
    assert await lane.call(two, Sum.feed, 5) == 5
    assert await lane.call(one, Sum.feed, 3) == 5
    async with lane.stream(two, Sum.numbers, 3) as items:
        assert [item async for item in items] == [5, 6, 7]
    await lane.release(one)
    await lane.release(one)
    with pytest.raises(EngineFailed, match="nothing is loaded or open"):
        await lane.call(one, Sum.feed, 1)
    assert await lane.call(two, Sum.feed, 1) == 6


async def test_removing_an_engine_fails_its_work_and_kills_its_handles(lane: Lane) -> None:
    await lane.add("second", Toy(), None)
    handle = await lane.open("toy", Toy.sum)
    async with lane.stream("toy", Toy.steps, "llm", 1_000_000) as items:
        await anext(items)
        await lane.remove("toy")
        with pytest.raises(EngineFailed, match="unloaded"):
            await drain(items)
    with pytest.raises(EngineFailed):
        await lane.call(handle, Sum.feed, 1)
    with pytest.raises(EngineNotFound):
        await lane.call("toy", Toy.echo, "x")
    assert lane.info.engines == ("second",)


async def test_the_last_engine_takes_the_lane_down_and_the_next_brings_it_up(
    lane: Lane, happened: list[events.Event], tmp_path: Path
) -> None:
    handle = await lane.open("toy", Toy.sum)
    pid = lane.info.pid
    await lane.remove("toy")
    assert lane.info.state == "down"
    assert not pid or not psutil.pid_exists(pid)
    with pytest.raises(EngineCrashed, match="is gone"):
        await lane.call(handle, Sum.feed, 1)
    await lane.remove("toy")
    await lane.add("toy", Toy(tmp_path / "note"), tmp_path / "weights")
    assert await lane.call("toy", Toy.echo, "again") == "again"
    assert (tmp_path / "note").read_text() == "load weights\n"
    assert (lane.info.state, lane.info.restarts) == ("up", 0)
    assert [kind for kind in kinds(happened) if kind != "LaneStarted"] == [
        "EngineLoaded", "EngineUnloaded", "EngineLoaded",
    ]


async def test_an_engine_loads_once_however_many_ask_for_it(lane: Lane, tmp_path: Path) -> None:
    note = tmp_path / "note"
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(lane.add, "shared", Toy(note), None)
    await lane.add("shared", Toy(note), None)
    assert note.read_text() == "load -\n"


async def test_a_load_goes_on_when_its_caller_is_cancelled(
    lane: Lane, happened: list[events.Event], tmp_path: Path
) -> None:
    note = tmp_path / "note"
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lane.add, "slow", Slow(tmp_path / "key", note), None)
        await until((tmp_path / "key.waiting").exists)
        tasks.cancel_scope.cancel()
    (tmp_path / "key").touch()
    assert await lane.call("slow", Toy.echo, "ready") == "ready"
    assert note.read_text() == "load -\n"
    assert [event.engine for event in happened if isinstance(event, events.EngineLoaded)] == ["toy", "slow"]


async def test_a_failed_load_says_why_and_leaves_the_rest_alone(lane: Lane) -> None:
    with pytest.raises(EngineFailed, match="RuntimeError: bad weights"):
        await lane.add("bad", Fragile("raise"), None)
    with pytest.raises(EngineNotFound):
        await lane.call("bad", Toy.echo, "x")
    assert lane.info.engines == ("toy",)
    assert await lane.call("toy", Toy.echo, "alive") == "alive"


async def test_close_fails_the_work_and_closes_engines_on_their_thread(lane: Lane, tmp_path: Path) -> None:
    note = tmp_path / "note"
    await lane.add("noted", Toy(note), None)
    pid = lane.info.pid
    failures: list[AssistantError] = []

    async def consume() -> None:
        try:
            async with lane.stream("toy", Toy.steps, "llm", 1_000_000) as items:
                await drain(items)
        except AssistantError as error:
            failures.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consume)
        await until(lambda: lane.info.jobs == 1)
        await lane.close()
    assert [type(error) for error in failures] == [LaneError]
    assert note.read_text() == "load -\nclose same thread\n"
    assert lane.info.state == "down"
    assert not pid or not psutil.pid_exists(pid)
    with pytest.raises(LaneError, match="closed"):
        await lane.add("toy", Toy(), None)
    await lane.close()


async def test_nothing_is_left_behind(lane: Lane) -> None:
    await lane.close()
    before = psutil.Process().num_fds(), psutil.Process().num_threads()
    tasks = len(asyncio.all_tasks())
    for name in ("cpu", "thread:other"):
        async with Lanes(LaneSettings(), lambda event: None) as lanes:
            await lanes.lane(name).add("toy", Toy(), None)
            await lanes.lane(name).call("toy", Toy.echo, "x")
    await until(lambda: (psutil.Process().num_fds(), psutil.Process().num_threads()) == before)
    assert len(asyncio.all_tasks()) == tasks


async def test_lanes_are_made_once_and_listed_by_name() -> None:
    async with Lanes(LaneSettings(), lambda event: None) as lanes:
        assert lanes.lane("gpu") is lanes.lane("gpu")
        lanes.lane("thread:store")
        lanes.lane("ane")
        infos = lanes.infos()
    assert [(info.name, info.state) for info in infos] == [("ane", "down"), ("gpu", "down"), ("thread:store", "down")]


# What only a process has to offer


async def test_a_process_lane_tells_who_it_is(gpu: Lane, happened: list[events.Event]) -> None:
    pid, _ = await gpu.call("toy", Toy.where)
    assert happened[0] == events.LaneStarted(lane="gpu", pid=pid, at=happened[0].at)
    assert (gpu.info.name, gpu.info.state, gpu.info.pid, gpu.info.engines) == ("gpu", "up", pid, ("toy",))
    await until(lambda: gpu.info.rss > 1_000_000)
    assert os.getpgid(pid) == pid != os.getpgid(0)


async def test_what_cannot_be_pickled_fails_its_own_call_only(gpu: Lane) -> None:
    with pytest.raises(EngineFailed, match="cannot pickle"):
        await gpu.call("toy", Toy.lock)
    with pytest.raises(LaneError, match="cannot be sent"):
        await gpu.call("toy", lambda toy: 1)
    with pytest.raises(LaneError, match="odd 3") as caught:
        await gpu.call("toy", Toy.odd)
    assert caught.value.hint == "even it"
    assert await gpu.call("toy", Toy.echo, "alive") == "alive"


async def test_a_process_killed_in_mid_stream_fails_the_stream_and_serves_the_next_call(
    gpu: Lane, happened: list[events.Event]
) -> None:
    pid = gpu.info.pid
    handle = await gpu.open("toy", Toy.sum)
    async with gpu.stream("toy", Toy.steps, "llm", 1_000_000) as items:
        assert await anext(items) == 0
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(EngineCrashed) as caught:
            await drain(items)
    assert "'gpu'" in caught.value.message
    assert "'toy'" in caught.value.message
    assert "killed (signal 9), perhaps out of memory" in caught.value.message
    assert caught.value.hint
    assert not caught.value.permanent
    with pytest.raises(EngineCrashed, match="gone"):
        await gpu.call(handle, Sum.feed, 1)
    assert await gpu.call("toy", Toy.echo, "back") == "back"
    assert gpu.info.pid not in (0, pid)
    assert gpu.info.restarts == 1
    assert kinds(happened) == ["LaneStarted", "EngineLoaded", "LaneCrashed", "LaneStarted", "EngineLoaded"]
    crash = happened[2]
    assert isinstance(crash, events.LaneCrashed)
    assert (crash.lane, crash.restart_seconds) == ("gpu", QUICK.backoff_seconds)


async def test_a_lane_restarts_by_itself_and_reloads_what_is_asked_for(gpu: Lane) -> None:
    await gpu.add("second", Toy(), None)
    with pytest.raises(EngineCrashed, match="exited with code 7"):
        await gpu.call("toy", Toy.quit, 7)
    assert gpu.info.engines == ()
    await until(lambda: gpu.info.state == "up")
    async with gpu.stream("second", Toy.steps, "x", 2) as items:
        assert [item async for item in items] == [0, 1]
    await gpu.add("toy", Toy(), None)
    assert list(gpu.info.engines) == ["second", "toy"]


async def test_every_job_of_a_dead_lane_fails_also_the_queued_ones(gpu: Lane) -> None:
    failures: list[EngineCrashed] = []

    async def call(code: int) -> None:
        try:
            await gpu.call("toy", Toy.quit, code)
        except EngineCrashed as error:
            failures.append(error)

    async with anyio.create_task_group() as tasks:
        for code in range(5):
            tasks.start_soon(call, code)
    assert len(failures) == 5


async def test_garbage_from_a_process_ends_it(gpu: Lane) -> None:
    async with gpu.stream("toy", Toy.steps, "llm", 1_000_000) as items:
        assert await anext(items) == 0
        with pytest.raises(EngineCrashed, match="garbage"):
            await gpu.call("toy", Toy.babble)
        with pytest.raises(EngineCrashed, match="garbage"):
            await drain(items)
    assert await gpu.call("toy", Toy.echo, "back") == "back"


async def test_a_step_that_takes_too_long_ends_the_process_and_what_it_started(make: MakeLane) -> None:
    lane = make(heartbeat_seconds=0.1, step_seconds=1.0)
    await lane.add("toy", Toy(), None)
    orphan = psutil.Process(await lane.call("toy", Toy.spawn))
    with pytest.raises(EngineCrashed, match="hung: one step of engine 'toy' took longer than 1 s"):
        await lane.call("toy", Toy.sleep, 600.0)
    await until(lambda: not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE)
    assert await lane.call("toy", Toy.echo, "back") == "back"


async def test_a_load_that_takes_too_long_ends_the_process(make: MakeLane) -> None:
    lane = make(heartbeat_seconds=0.1, load_seconds=1.0)
    with pytest.raises(EngineCrashed, match="hung: loading engine 'bad' took longer"):
        await lane.add("bad", Fragile("hang"), None)
    await until(lambda: lane.info.state == "down")


@pytest.mark.parametrize("busy", [False, True])
async def test_a_process_that_stops_beating_is_killed(
    make: MakeLane, happened: list[events.Event], busy: bool
) -> None:
    lane = make(heartbeat_seconds=0.1)
    await lane.add("toy", Toy(), None)
    if busy:
        with pytest.raises(EngineCrashed, match="no heartbeat"):
            await lane.call("toy", Toy.stop)
    else:
        os.kill(lane.info.pid, signal.SIGSTOP)
        await until(lambda: "LaneCrashed" in kinds(happened))
    assert await lane.call("toy", Toy.echo, "back") == "back"


async def test_a_step_that_holds_the_interpreter_is_not_taken_for_dead(make: MakeLane) -> None:
    lane = make(heartbeat_seconds=0.05)
    await lane.add("toy", Toy(), None)
    await lane.call("toy", Toy.grab, 0.8)
    assert lane.info.restarts == 0


async def test_a_lane_that_dies_too_often_is_quarantined(make: MakeLane, happened: list[events.Event]) -> None:
    lane = make(restart_limit=3)
    await lane.add("toy", Toy(), None)
    for _ in range(3):
        with pytest.raises(EngineCrashed):
            await lane.call("toy", Toy.quit, 1)
    for _ in range(2):
        with pytest.raises(LaneQuarantined, match="exited with code 1"):
            await lane.call("toy", Toy.echo, "x")
    with pytest.raises(LaneQuarantined):
        await lane.add("other", Toy(), None)
    assert (lane.info.state, lane.info.pid) == ("quarantined", 0)
    ends = [event for event in happened if isinstance(event, events.LaneCrashed | events.LaneQuarantined)]
    assert kinds(list(ends)) == ["LaneCrashed", "LaneCrashed", "LaneQuarantined"]
    assert [event.restart_seconds for event in ends if isinstance(event, events.LaneCrashed)] == [0.01, 0.02]


async def test_deaths_outside_the_window_are_forgiven(make: MakeLane) -> None:
    lane = make(restart_limit=2, restart_window_seconds=0.001)
    await lane.add("toy", Toy(), None)
    for _ in range(3):
        with pytest.raises(EngineCrashed):
            await lane.call("toy", Toy.quit, 1)
    assert await lane.call("toy", Toy.echo, "x") == "x"


async def test_a_process_that_cannot_start_is_quarantined(make: MakeLane, tmp_path: Path) -> None:
    lane = make((sys.executable, "-c", "raise SystemExit(3)"), restart_limit=2)
    with pytest.raises(LaneQuarantined, match="exited with code 3"):
        await lane.add("toy", Toy(), None)
    lane = make((str(tmp_path / "nowhere"),), restart_limit=2)
    with pytest.raises(LaneQuarantined, match="could not start"):
        await lane.add("toy", Toy(), None)


async def test_an_engine_that_dies_while_loading_may_be_loaded_again(make: MakeLane, tmp_path: Path) -> None:
    lane = make()
    engine = Fragile("die", once=tmp_path / "mended")
    with pytest.raises(EngineCrashed, match="exited with code 9"):
        await lane.add("bad", engine, None)
    (tmp_path / "mended").touch()
    await lane.add("bad", engine, None)
    assert await lane.call("bad", Toy.echo, "x") == "x"


async def test_a_failed_first_load_leaves_no_process(make: MakeLane) -> None:
    lane = make()
    with pytest.raises(EngineFailed):
        await lane.add("bad", Fragile("raise"), None)
    await until(lambda: lane.info.state == "down")
    assert lane.info.restarts == 0


async def test_a_lane_that_hangs_is_closed_all_the_same(
    make: MakeLane, happened: list[events.Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assistant.lanes.link.CLOSE_SECONDS", 0.1)
    monkeypatch.setattr("assistant.lanes.link.TERM_SECONDS", 0.1)
    lane = make()
    await lane.add("toy", Toy(), None)
    pid = lane.info.pid
    async with anyio.create_task_group() as tasks:

        async def hang() -> None:
            with pytest.raises(LaneError, match="closed"):
                await lane.call("toy", Toy.sleep, 600.0)

        tasks.start_soon(hang)
        await until(lambda: lane.info.jobs == 1)
        await lane.close()
    assert not psutil.pid_exists(pid)
    assert "LaneCrashed" not in kinds(happened)


async def test_closing_while_the_process_starts_ends_it(make: MakeLane) -> None:
    lane = make()

    async def add() -> None:
        with pytest.raises(LaneError, match="closed"):
            await lane.add("toy", Toy(), None)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(add)
        await until(lambda: lane.info.pid != 0)
        pid = lane.info.pid
        await lane.close()
    assert not psutil.pid_exists(pid)
    assert lane.info.state == "down"


async def test_the_process_ends_when_its_host_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "host.py"
    script.write_text(
        dedent(
            """
            import sys
            sys.path.insert(0, sys.argv[1])
            from pathlib import Path
            import anyio
            from lane_engines import Toy
            from assistant.config import LaneSettings
            from assistant.lanes import Lanes

            async def main():
                async with Lanes(LaneSettings(), lambda event: None) as lanes:
                    await lanes.lane("gpu").add("toy", Toy(Path(sys.argv[2])), None)
                    print(lanes.lane("gpu").info.pid, flush=True)
                    await anyio.sleep_forever()

            anyio.run(main)
            """
        )
    )
    note = tmp_path / "note"
    command = [sys.executable, str(script), str(Path(__file__).parent), str(note)]
    async with await anyio.open_process(command, stderr=None) as host:
        assert host.stdout
        pid = int(await host.stdout.receive())
        assert psutil.pid_exists(pid)
        host.kill()
    await until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    assert note.read_text() == "load -\nclose same thread\n"


# The wire


def test_frames_are_put_together_however_they_are_cut() -> None:
    messages: list[FromLane] = [Item(1, b"x" * 300), Beat(1, 0.5, "toy", False, ("toy",)), Item(2, b"")]
    data = b"".join(frame(message) for message in messages)
    for size in (1, 3, 7, len(data)):
        inbox = Inbox()
        got = [message for at in range(0, len(data), size) for message in inbox.feed(data[at : at + size])]
        assert got == messages


@pytest.mark.parametrize("garbage", [b"\xff\xff\xff\xff", b"\x00\x00\x00\x01\xc1", b"\x00\x00\x00\x03abc"])
def test_garbage_is_recognised(garbage: bytes) -> None:
    with pytest.raises(GarbageError):
        Inbox().feed(garbage)
