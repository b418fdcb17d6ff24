"""The clock: times and dates anywhere, timers that survive, and which sentences it takes for itself."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from datetime import time as clock_time
from pathlib import Path
from typing import Any

import anyio
import assistant_clock
import msgspec
import pytest
from anyio.streams.memory import MemoryObjectReceiveStream
from assistant_clock import Clock, Settings, places, speech
from assistant_clock.calendar_tools import CalendarTools
from assistant_clock.timer_tools import MAX_TIMERS, TimerTools
from assistant_clock.timers import Timers

from assistant import PluginContext, PluginError, Tool, ToolCall, ToolError
from assistant.events import Event, TimerCancelled, TimerFired, TimerSet
from assistant.intents import IntentMatcher
from assistant.toolbox import call_tool

LOG = logging.getLogger("test.clock")


def context_in(folder: Path, publish: Callable[[Event], None] = lambda event: None, zone: str = "") -> PluginContext:
    return PluginContext("clock", Settings(zone=zone), folder / "clock", LOG, publish)


class FakeTime:
    """Two clocks that a test moves: the wall's, and the one that nobody can set."""

    def __init__(self) -> None:
        self.wall = 1_000_000.0
        self.passed = 50.0

    def later(self, seconds: float) -> None:
        self.wall += seconds
        self.passed += seconds

    def timers(self, path: Path, events: list[Event]) -> Timers:
        return Timers(path, events.append, LOG, lambda: self.wall, lambda: self.passed)


@pytest.fixture
def fake() -> FakeTime:
    return FakeTime()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "clock" / "timers.json"


@asynccontextmanager
async def running(
    plugin: Clock, folder: Path
) -> AsyncIterator[tuple[dict[str, Tool], MemoryObjectReceiveStream[Event]]]:
    send, receive = anyio.create_memory_object_stream[Event](100)
    context = context_in(folder, send.send_nowait)
    tools = {tool.name: tool for tool in plugin.register_tools(context)}
    async with plugin.lifespan(context):
        yield tools, receive
    send.close()
    receive.close()


async def say(tools: dict[str, Tool], name: str, /, **arguments: Any) -> str:
    outcome = await call_tool(tools[name], ToolCall(id="1", name=name, arguments=arguments), 10)
    return outcome.result


# times and dates

NOON = datetime(2025, 11, 22, 12, 7, tzinfo=UTC)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("", "It is 1:07 PM."),
        ("Tokyo", "It is 9:07 PM in Tokyo."),
        ("new york", "It is 7:07 AM in New York."),
        ("Mumbai", "It is 5:37 PM in Mumbai."),
        ("san francisco", "It is 4:07 AM in San Francisco."),
        ("japan", "It is 9:07 PM in Japan."),
        ("The Netherlands", "It is 1:07 PM in the Netherlands."),
        ("Paris, France", "It is 1:07 PM in Paris."),
        ("usa", "It is 7:07 AM in Washington."),
        ("Asia/Kathmandu", "It is 5:52 PM in Kathmandu."),
        ("sao paulo", "It is 9:07 AM in S\u00e3o Paulo."),
    ],
)
async def test_the_time_anywhere(place: str, expected: str) -> None:
    assert await CalendarTools("Europe/Berlin", lambda: NOON).get_time(place) == expected


@pytest.mark.anyio
async def test_the_date_anywhere() -> None:
    calendar = CalendarTools("Europe/Berlin", lambda: NOON.replace(hour=23))
    assert await calendar.get_date() == "Today is Sunday, November 23, 2025."
    assert await calendar.get_date(day="tomorrow") == "Tomorrow is Monday, November 24, 2025."
    assert await calendar.get_date(day="yesterday") == "Yesterday was Saturday, November 22, 2025."
    assert await calendar.get_date("Honolulu") == "In Honolulu, today is Saturday, November 22, 2025."
    assert await calendar.get_date("Tokyo", "yesterday") == "In Tokyo, yesterday was Saturday, November 22, 2025."


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("place", "hint"),
    [
        ("Tokio", "Tokyo"),
        ("Berln", "Berlin"),
        ("my head", "nearest big city"),
        ("paris texas", ""),
        ("/", ""),
        ("x" * 5000, ""),
    ],
)
async def test_an_unknown_place_is_refused_with_the_nearest(place: str, hint: str) -> None:
    with pytest.raises(ToolError) as caught:
        await CalendarTools("").get_time(place)
    assert "do not know the time in" in caught.value.message
    assert hint in caught.value.hint
    assert len(caught.value.message) < 120


def test_every_place_has_a_zone_and_a_name_fit_to_be_said() -> None:
    known = places.known()
    assert len(known) > 700
    for place in known.values():
        assert places.zone_of(place.zone) is not None, place
        assert not re.search(r"[(&_]|Rep\.|Terr\.", place.name), place


@pytest.mark.parametrize(
    ("seconds", "said", "adjective"),
    [
        (0, "0 seconds", "0 second"),
        (1, "1 second", "1 second"),
        (59.2, "1 minute", "1 minute"),
        (90, "1 minute and 30 seconds", "1 minute 30 second"),
        (3600, "1 hour", "1 hour"),
        (5400, "1 hour and 30 minutes", "1 hour 30 minute"),
        (5401, "1 hour and 31 minutes", "1 hour 31 minute"),
        (86_400 + 7_260, "1 day, 2 hours and 1 minute", "1 day 2 hour 1 minute"),
    ],
)
def test_durations_are_said(seconds: float, said: str, adjective: str) -> None:
    assert speech.duration(seconds) == said
    assert speech.adjective(seconds) == adjective


def test_moments_are_said() -> None:
    assert speech.clock_time(clock_time(0, 5)) == "12:05 AM"
    assert speech.clock_time(clock_time(12, 0)) == "12:00 PM"
    assert speech.calendar_date(date(2026, 1, 2)) == "Friday, January 2, 2026"


def test_the_zone_is_a_setting(tmp_path: Path) -> None:
    tools = {tool.name: tool for tool in Clock().register_tools(context_in(tmp_path, zone="Kathmandu"))}
    timers = {"set_timer", "cancel_timer", "timer_left", "list_timers"}
    assert set(tools) == {"get_time", "get_date", *timers, "set_alarm", "cancel_alarm", "list_alarms"}
    with pytest.raises(PluginError, match="'Narnia' is no time zone"):
        Clock().register_tools(context_in(tmp_path, zone="Narnia"))


# timers


@pytest.mark.anyio
async def test_timers_are_set_told_and_cancelled(file: Path, fake: FakeTime) -> None:
    events: list[Event] = []
    tools = TimerTools(fake.timers(file, events))
    assert await tools.list_timers() == "There are no timers running."
    assert await tools.timer_left() == "There are no timers running."
    assert await tools.cancel_timer() == "There are no timers running."
    assert await tools.set_timer(minutes=10) == "Timer set for 10 minutes."
    fake.later(30)
    assert await tools.timer_left() == "9 minutes and 30 seconds left."
    assert await tools.list_timers() == "There is 1 timer: 9 minutes and 30 seconds left on the 10 minute timer."
    assert (
        await tools.set_timer(hours=1, minutes=30, name="the pasta")
        == "Timer set for 1 hour and 30 minutes for the pasta."
    )
    assert await tools.timer_left("pasta") == "1 hour and 30 minutes left on the pasta timer."
    assert await tools.timer_left(minutes=10) == "9 minutes and 30 seconds left on the 10 minute timer."
    assert await tools.cancel_timer("pasta") == "The pasta timer is cancelled."
    assert await tools.cancel_timer() == "The 10 minute timer is cancelled."
    assert await tools.list_timers() == "There are no timers running."
    kinds = [(type(event), event.name) for event in events if isinstance(event, TimerSet | TimerCancelled)]
    assert kinds == [(TimerSet, ""), (TimerSet, "pasta"), (TimerCancelled, "pasta"), (TimerCancelled, "")]
    first = events[0]
    assert isinstance(first, TimerSet)
    assert first.fires_at == 1_000_600.0


@pytest.mark.anyio
async def test_one_of_several_has_to_be_named(file: Path, fake: FakeTime) -> None:
    events: list[Event] = []
    tools = TimerTools(fake.timers(file, events))
    await tools.set_timer(minutes=10)
    await tools.set_timer(minutes=5, name="Tea")
    with pytest.raises(ToolError, match="the Tea timer and the 10 minute timer"):
        await tools.cancel_timer()
    with pytest.raises(ToolError, match="no timer for the pizza"):
        await tools.cancel_timer("pizza")
    with pytest.raises(ToolError, match="no 7 minute timer"):
        await tools.cancel_timer(minutes=7)
    assert await tools.timer_left() == "5 minutes left on the Tea timer and 10 minutes left on the 10 minute timer."
    assert await tools.cancel_timer("TEA timer") == "The Tea timer is cancelled."
    await tools.set_timer(seconds=5)
    assert await tools.cancel_timer(all_timers=True) == "All 2 timers are cancelled."
    assert sum(isinstance(event, TimerCancelled) for event in events) == 3


@pytest.mark.anyio
@pytest.mark.parametrize(
    "amounts",
    [{}, {"seconds": 0.4}, {"hours": 169}, {"minutes": -5}, {"hours": float("inf")}, {"seconds": float("nan")}],
)
async def test_nonsense_durations_are_refused(file: Path, fake: FakeTime, amounts: dict[str, Any]) -> None:
    events: list[Event] = []
    with pytest.raises(ToolError):
        await TimerTools(fake.timers(file, events)).set_timer(**amounts)
    assert events == []
    assert not file.exists()


@pytest.mark.anyio
async def test_there_is_a_limit_to_timers(file: Path, fake: FakeTime) -> None:
    tools = TimerTools(fake.timers(file, []))
    for number in range(MAX_TIMERS):
        await tools.set_timer(minutes=number + 1)
    with pytest.raises(ToolError, match="timers already"):
        await tools.set_timer(minutes=1)
    assert (await tools.list_timers()).startswith(f"There are {MAX_TIMERS} timers: ")


@pytest.mark.anyio
async def test_names_are_kept_short_and_printable(file: Path, fake: FakeTime) -> None:
    timers = fake.timers(file, [])
    await TimerTools(timers).set_timer(minutes=1, name="  the\x07 very\n" + "long " * 50 + "timer")
    (timer,) = timers.running()
    assert timer.name.startswith("very long")
    assert len(timer.name) <= 60
    assert timer.name.isprintable()


@pytest.mark.anyio
async def test_due_timers_fire_once_and_in_order(file: Path, fake: FakeTime) -> None:
    events: list[Event] = []
    timers = fake.timers(file, events)
    await timers.add(20, "later")
    await timers.add(10, "sooner")
    await timers.add(600, "last")
    fake.later(9)
    await timers.fire_due()
    assert [event for event in events if isinstance(event, TimerFired)] == []
    fake.later(11)
    await timers.fire_due()
    await timers.fire_due()
    fired = [event for event in events if isinstance(event, TimerFired)]
    assert [(event.name, event.late_seconds) for event in fired] == [("sooner", 10.0), ("later", 0.0)]
    assert [timer.name for timer in timers.running()] == ["last"]


@pytest.mark.anyio
async def test_to_stop_the_one_that_rings_spares_those_that_run(file: Path, fake: FakeTime) -> None:
    timers = fake.timers(file, [])
    tools = TimerTools(timers)
    await tools.set_timer(seconds=10, name="tea")
    await tools.set_timer(minutes=10)
    fake.later(10)
    await timers.fire_due()
    fake.later(20)
    left = "9 minutes and 30 seconds left on the 10 minute timer"
    assert await tools.cancel_timer() == f"The tea timer is off. There is 1 timer: {left}."
    assert await tools.cancel_timer() == "The 10 minute timer is cancelled."


@pytest.mark.anyio
async def test_setting_the_wall_clock_moves_no_timer(file: Path, fake: FakeTime) -> None:
    events: list[Event] = []
    timers = fake.timers(file, events)
    timer = await timers.add(60, "")
    fake.wall += 7200
    await timers.fire_due()
    assert timers.left(timer) == 60
    fake.wall -= 14_400
    fake.passed += 60
    await timers.fire_due()
    assert isinstance(events[-1], TimerFired)


@pytest.mark.anyio
async def test_timers_survive_and_overdue_ones_fire_late(file: Path, fake: FakeTime) -> None:
    before = fake.timers(file, [])
    await before.add(60, "eggs")
    await before.add(600, "rice")
    assert [path.name for path in file.parent.iterdir()] == ["timers.json"]
    fake.wall += 100
    fake.passed = 3.0
    events: list[Event] = []
    after = fake.timers(file, events)
    await after.fire_due()
    (fired,) = events
    assert isinstance(fired, TimerFired)
    assert (fired.name, fired.late_seconds) == ("eggs", 40.0)
    (rice,) = after.running()
    assert after.left(rice) == 500
    assert [timer.name for timer in fake.timers(file, []).running()] == ["rice"]


@pytest.mark.anyio
@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe", b'{"timers": 5}', b'{"timers": [{"id": "x"}]}', b"[]"])
async def test_a_damaged_file_is_moved_aside_and_reported(
    file: Path, fake: FakeTime, caplog: pytest.LogCaptureFixture, damage: bytes
) -> None:
    file.parent.mkdir()
    file.write_bytes(damage)
    timers = fake.timers(file, [])
    assert timers.running() == []
    assert "damaged" in caplog.text
    (aside,) = file.parent.iterdir()
    assert aside.name.startswith("timers.json.corrupt-")
    assert aside.read_bytes() == damage
    await timers.add(60, "")
    assert len(fake.timers(file, []).running()) == 1


@pytest.mark.anyio
async def test_a_file_that_cannot_be_read_fails_loudly(file: Path, fake: FakeTime) -> None:
    file.mkdir(parents=True)
    timers = fake.timers(file, [])
    with pytest.raises(PluginError, match="cannot read the timers"):
        timers.running()


@pytest.mark.anyio
async def test_a_timer_that_cannot_be_stored_is_not_set(file: Path, fake: FakeTime) -> None:
    file.parent.write_text("a file where the folder should be")
    events: list[Event] = []
    timers = Timers(file, events.append, LOG, lambda: fake.wall, lambda: fake.passed)
    file.parent.unlink()
    timers.load()
    file.parent.write_text("a file where the folder should be")
    with pytest.raises(ToolError, match="cannot be stored"):
        await TimerTools(timers).set_timer(minutes=1)
    assert timers.running() == []
    assert events == []


@pytest.mark.anyio
async def test_what_fired_is_gone_even_if_the_disk_is(
    file: Path, fake: FakeTime, caplog: pytest.LogCaptureFixture
) -> None:
    events: list[Event] = []
    timers = fake.timers(file, events)
    await timers.add(5, "")
    file.unlink()
    file.parent.rmdir()
    file.parent.write_text("a file where the folder should be")
    fake.later(5)
    await timers.fire_due()
    await timers.fire_due()
    assert sum(isinstance(event, TimerFired) for event in events) == 1
    assert "may fire again" in caplog.text


@pytest.mark.anyio
async def test_timers_set_at_once_are_all_kept(file: Path, fake: FakeTime) -> None:
    timers = fake.timers(file, [])
    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(timers.add, 60 + number, f"number {number}")
    assert len(timers.running()) == 20
    assert fake.timers(file, []).running() == timers.running()


@pytest.mark.anyio
async def test_the_scheduler_fires_a_timer_set_while_it_sleeps(tmp_path: Path) -> None:
    async with running(Clock(), tmp_path) as (tools, events):
        assert await say(tools, "set_timer", minutes=5) == "Timer set for 5 minutes."
        assert await say(tools, "set_timer", seconds=1, name="egg") == "Timer set for 1 second for the egg."
        with anyio.fail_after(20):
            seen = [await events.receive() for _ in range(3)]
        assert [type(event) for event in seen] == [TimerSet, TimerSet, TimerFired]
        assert isinstance(seen[2], TimerFired)
        assert seen[2].name == "egg"
        assert "1 timer" in await say(tools, "list_timers")


@pytest.mark.anyio
async def test_overdue_timers_fire_when_the_daemon_starts(tmp_path: Path) -> None:
    file = tmp_path / "clock" / "timers.json"
    file.parent.mkdir()
    overdue = {"id": "a", "name": "tea", "seconds": 60.0, "fires_at": time.time() - 3600}
    file.write_bytes(msgspec.json.encode({"version": 1, "timers": [overdue]}))
    async with running(Clock(), tmp_path) as (_, events):
        with anyio.fail_after(20):
            fired = await events.receive()
    assert isinstance(fired, TimerFired)
    assert fired.late_seconds >= 3599
    assert msgspec.json.decode(file.read_bytes())["timers"] == []


@pytest.mark.anyio
async def test_a_restart_in_the_same_process_reads_the_file_again(tmp_path: Path) -> None:
    plugin = Clock()
    for _ in range(2):
        async with running(plugin, tmp_path) as (tools, _):
            await say(tools, "set_timer", minutes=5)
            count = await say(tools, "list_timers")
    assert count.startswith("There are 2 timers")


@pytest.mark.anyio
async def test_two_daemons_share_nothing(tmp_path: Path) -> None:
    plugin = assistant_clock.plugin
    async with running(plugin, tmp_path / "one") as (one, _), running(plugin, tmp_path / "two") as (two, two_events):
        await say(one, "set_timer", minutes=5)
        assert await say(two, "list_timers") == "There are no timers running."
        assert two_events.statistics().current_buffer_used == 0


@pytest.mark.anyio
async def test_tools_work_without_the_scheduler(tmp_path: Path) -> None:
    tools = {tool.name: tool for tool in Clock().register_tools(context_in(tmp_path))}
    assert await say(tools, "set_timer", minutes=5) == "Timer set for 5 minutes."
    assert await say(tools, "timer_left") in {"5 minutes left.", "4 minutes and 59 seconds left."}
    assert re.fullmatch(r"It is 1?\d:\d\d [AP]M\.", await say(tools, "get_time"))
    assert "'minutes'" in await say(tools, "set_timer", minutes=-1)
    assert "'minutes'" in await say(tools, "set_timer", minutes="five")


# sentences

MATCHER = IntentMatcher(assistant_clock.plugin.register_intents(context_in(Path("unused"))))


@pytest.mark.parametrize(
    ("sentence", "tool", "arguments"),
    [
        ("what time is it", "get_time", {}),
        ("What's the time?", "get_time", {}),
        ("can you tell me what time it is", "get_time", {}),
        ("what is the time right now please", "get_time", {}),
        ("what's the time in Tokyo", "get_time", {"place": "tokyo"}),
        ("what time is it in new york right now", "get_time", {"place": "new york"}),
        ("what time is it in the Netherlands", "get_time", {"place": "netherlands"}),
        ("what time is it in S\u00e3o Paulo?", "get_time", {"place": "sao paulo"}),
        ("what's tokyo time", "get_time", {"place": "tokyo"}),
        ("what's the date", "get_date", {"day": "today"}),
        ("what is today's date?", "get_date", {"day": "today"}),
        ("what day is it", "get_date", {"day": "today"}),
        ("what day is tomorrow", "get_date", {"day": "tomorrow"}),
        ("what was yesterday's date", "get_date", {"day": "yesterday"}),
        ("what day is it in sydney", "get_date", {"place": "sydney"}),
        ("set a timer for ten minutes", "set_timer", {"minutes": 10}),
        ("set a 10 minute timer", "set_timer", {"minutes": 10}),
        ("set a ten-minute timer", "set_timer", {"minutes": 10}),
        ("timer 5 minutes", "set_timer", {"minutes": 5}),
        ("five minute timer please", "set_timer", {"minutes": 5}),
        ("could you set me a timer for 5 minutes", "set_timer", {"minutes": 5}),
        ("please start another timer for twenty five minutes", "set_timer", {"minutes": 25}),
        ("start a timer for one hour and 30 minutes", "set_timer", {"hours": 1, "minutes": 30}),
        ("set a timer for half an hour", "set_timer", {"minutes": 30}),
        ("set a half hour timer", "set_timer", {"minutes": 30}),
        ("set a timer for an hour", "set_timer", {"hours": 1}),
        ("set a timer for an hour and a half", "set_timer", {"hours": 1, "minutes": 30}),
        ("set a timer for a minute and a half", "set_timer", {"minutes": 1, "seconds": 30}),
        ("set a timer for two and a half hours", "set_timer", {"hours": 2, "minutes": 30}),
        ("set a timer for three minutes and a half", "set_timer", {"minutes": 3, "seconds": 30}),
        ("set a timer for 2 hours 15 minutes and 10 secs", "set_timer", {"hours": 2, "minutes": 15, "seconds": 10}),
        ("set a timer for a quarter of an hour", "set_timer", {"minutes": 15}),
        ("set a timer for one hundred and twenty minutes", "set_timer", {"minutes": 120}),
        ("set a pasta timer for ten minutes", "set_timer", {"name": "pasta", "minutes": 10}),
        ("set a ten minute pasta timer", "set_timer", {"name": "pasta", "minutes": 10}),
        ("set a timer for ten minutes for the pasta", "set_timer", {"name": "pasta", "minutes": 10}),
        ("set a timer for pasta for ten minutes", "set_timer", {"name": "pasta", "minutes": 10}),
        ("set a timer called tea for three minutes", "set_timer", {"name": "tea", "minutes": 3}),
        ("set a second timer for 5 minutes", "set_timer", {"minutes": 5}),
        ("set a timer for five minutes for me", "set_timer", {"minutes": 5}),
        ("cancel the timer", "cancel_timer", {}),
        ("stop the timer", "cancel_timer", {}),
        ("cancel my timer", "cancel_timer", {}),
        ("cancel all timers", "cancel_timer", {"all_timers": True}),
        ("cancel timers", "cancel_timer", {"all_timers": True}),
        ("cancel the pasta timer", "cancel_timer", {"name": "pasta"}),
        ("cancel the timer for the pasta", "cancel_timer", {"name": "pasta"}),
        ("cancel the ten minute timer", "cancel_timer", {"minutes": 10}),
        ("how much time is left", "timer_left", {}),
        ("how much time is left on the timer", "timer_left", {}),
        ("how long is left on the pasta timer", "timer_left", {"name": "pasta"}),
        ("how long is left on the ten minute timer", "timer_left", {"minutes": 10}),
        ("how many minutes are left", "timer_left", {}),
        ("what timers are running", "list_timers", {}),
        ("list my timers", "list_timers", {}),
        ("do i have any timers", "list_timers", {}),
    ],
)
def test_the_usual_sentences(sentence: str, tool: str, arguments: dict[str, object]) -> None:
    match = MATCHER.match(sentence)
    assert match is not None
    assert (match.tool, match.arguments) == (tool, arguments)


@pytest.mark.parametrize(
    "sentence",
    [
        "remind me in ten minutes",
        "set a timer",
        "set a timer for ten",
        "set the table for ten",
        "set a timer for banana minutes",
        "set a timer for minus five minutes",
        "set a timer for ten minutes and then play music",
        "set a timer for ten minutes and five apples",
        "what time is it in my head",
        "what time is it in",
        "what time is dinner",
        "what is the time complexity of quicksort",
        "what's the best time to visit tokyo",
        "how much time does it take to boil an egg",
        "how much time is left in the game",
        "what's the date of the battle of hastings",
        "what day is christmas",
        "what is today's weather",
        "what year is it in dune",
        "cancel my subscription",
        "cancel the meeting",
        "stop",
        "cancel",
        "stop the music",
        "check the oven",
        "time flies",
        "tell me about tokyo",
        "start a meeting for one hour",
    ],
)
def test_other_sentences_are_left_to_the_model(sentence: str) -> None:
    assert MATCHER.match(sentence) is None


@pytest.mark.anyio
async def test_every_matched_argument_is_one_that_its_tool_takes(tmp_path: Path) -> None:
    tools = {tool.name: tool for tool in Clock().register_tools(context_in(tmp_path))}
    phrases = MATCHER.phrases()
    assert len(phrases) > 1000
    for phrase in phrases[::20]:
        match = MATCHER.match(phrase)
        assert match is not None, phrase
        msgspec.convert(match.arguments, tools[match.tool].arguments)
