"""Alarms: at a time of the clock on the wall, through restarts and clock changes, and the sentences for them."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import anyio
import assistant_clock
import msgspec
import pytest
from assistant_clock import Clock, Settings
from assistant_clock.alarm_tools import MAX_ALARMS, AlarmTools
from assistant_clock.alarms import Alarms

from assistant import PluginContext, Tool, ToolCall, ToolError
from assistant.events import Event, TimerCancelled, TimerFired, TimerSet
from assistant.intents import IntentMatcher
from assistant.toolbox import call_tool

pytestmark = pytest.mark.anyio

LOG = logging.getLogger("test.alarms")
BERLIN = ZoneInfo("Europe/Berlin")
SATURDAY_NIGHT = datetime(2025, 11, 22, 22, 0, tzinfo=BERLIN)


class Wall:
    """A clock on the wall of Berlin that a test sets, and alarms that go by it."""

    def __init__(self, path: Path, moment: datetime = SATURDAY_NIGHT) -> None:
        self.path = path
        self.moment = moment
        self.events: list[Event] = []
        self.alarms = self.restarted()
        self.tools = AlarmTools(self.alarms)

    def restarted(self) -> Alarms:
        """The alarms of another daemon in the same home."""
        return Alarms(self.path, self.events.append, LOG, "Europe/Berlin", self.seconds)

    def seconds(self) -> float:
        return self.moment.timestamp()

    def fired(self) -> list[TimerFired]:
        return [event for event in self.events if isinstance(event, TimerFired)]


@pytest.fixture
def wall(tmp_path: Path) -> Wall:
    return Wall(tmp_path / "clock" / "alarms.json")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"hour": 7, "minute": 30}, "7:30 AM tomorrow"),
        ({"hour": 11}, "11:00 PM today"),
        ({"hour": 10}, "10:00 AM tomorrow"),
        ({"hour": 11, "period": "am"}, "11:00 AM tomorrow"),
        ({"hour": 21}, "9:00 PM tomorrow"),
        ({"hour": 12}, "12:00 AM tomorrow"),
        ({"hour": 12, "period": "pm"}, "12:00 PM tomorrow"),
        ({"hour": 0, "minute": 5}, "12:05 AM tomorrow"),
        ({"hour": 11, "day": "today"}, "11:00 PM today"),
        ({"hour": 6, "day": "tomorrow"}, "6:00 AM tomorrow"),
        ({"hour": 3, "day": "tomorrow"}, "3:00 PM tomorrow"),
        ({"hour": 12, "day": "tomorrow"}, "12:00 PM tomorrow"),
        ({"hour": 6, "period": "pm", "day": "tomorrow"}, "6:00 PM tomorrow"),
        ({"hour": 9, "day": "monday"}, "9:00 AM on Monday, November 24"),
        ({"hour": 9, "period": "am", "day": "saturday"}, "9:00 AM on Saturday, November 29"),
        ({"hour": 11, "period": "pm", "day": "saturday"}, "11:00 PM today"),
        ({"hour": 7, "repeat": "daily"}, "7:00 AM every day"),
        ({"hour": 7, "repeat": "weekdays"}, "7:00 AM on weekdays"),
        ({"hour": 7, "repeat": "tuesday"}, "7:00 AM every Tuesday"),
    ],
)
async def test_the_time_that_is_meant(wall: Wall, asked: dict[str, Any], said: str) -> None:
    assert await wall.tools.set_alarm(**asked) == f"Alarm set for {said}."


async def test_alarms_are_set_told_and_cancelled(wall: Wall) -> None:
    tools = wall.tools
    assert await tools.list_alarms() == "There are no alarms set."
    assert await tools.cancel_alarm() == "There are no alarms set."
    assert await tools.set_alarm(7, 30) == "Alarm set for 7:30 AM tomorrow."
    assert await tools.list_alarms() == "There is 1 alarm: 7:30 AM tomorrow."
    said = await tools.set_alarm(9, period="pm", repeat="daily", name="the medicine alarm")
    assert said == "Alarm for the medicine set for 9:00 PM every day."
    assert await tools.list_alarms() == "There are 2 alarms: 7:30 AM tomorrow and 9:00 PM every day for the medicine."
    with pytest.raises(ToolError, match=r"2 alarms: 7:30 AM tomorrow and 9:00 PM every day for the medicine\."):
        await tools.cancel_alarm()
    with pytest.raises(ToolError, match="no such alarm"):
        await tools.cancel_alarm(hour=8)
    with pytest.raises(ToolError, match="no such alarm"):
        await tools.cancel_alarm("tea")
    assert await tools.cancel_alarm(hour=7, minute=30) == "The alarm for 7:30 AM tomorrow is cancelled."
    assert await tools.cancel_alarm("Medicine") == "The alarm for 9:00 PM every day for the medicine is cancelled."
    await tools.set_alarm(6)
    await tools.set_alarm(7)
    assert await tools.cancel_alarm(all_alarms=True) == "All 2 alarms are cancelled."
    told = [(type(event), event.name) for event in wall.events if isinstance(event, TimerSet | TimerCancelled)]
    assert told[:3] == [
        (TimerSet, "7:30 AM alarm"), (TimerSet, "medicine alarm"), (TimerCancelled, "7:30 AM alarm"),
    ]  # fmt: skip
    first = wall.events[0]
    assert isinstance(first, TimerSet)
    assert datetime.fromtimestamp(first.fires_at, UTC) == datetime(2025, 11, 23, 6, 30, tzinfo=UTC)


async def test_what_has_passed_today_is_refused(wall: Wall) -> None:
    with pytest.raises(ToolError, match="has passed today"):
        await wall.tools.set_alarm(9, day="today")
    assert wall.events == []
    assert not wall.path.exists()


async def test_there_is_a_limit_to_alarms(wall: Wall) -> None:
    for minute in range(MAX_ALARMS):
        await wall.tools.set_alarm(minute // 60 + 1, minute % 60, "am")
    with pytest.raises(ToolError, match="alarms already"):
        await wall.tools.set_alarm(9)


async def test_an_alarm_rings_once_and_says_what_it_is(wall: Wall) -> None:
    await wall.tools.set_alarm(7, 30)
    wall.moment = datetime(2025, 11, 23, 7, 29, 59, tzinfo=BERLIN)
    await wall.alarms.fire_due()
    assert wall.fired() == []
    wall.moment = datetime(2025, 11, 23, 7, 30, tzinfo=BERLIN)
    await wall.alarms.fire_due()
    await wall.alarms.fire_due()
    assert [(event.name, event.late_seconds) for event in wall.fired()] == [("7:30 AM alarm", 0.0)]
    assert wall.restarted().pending() == []


async def test_one_that_repeats_rings_on_its_days(wall: Wall) -> None:
    await wall.tools.set_alarm(7, repeat="weekdays", name="work")
    rang = []
    for day in range(23, 31):
        wall.moment = datetime(2025, 11, day, 7, 0, tzinfo=BERLIN)
        before = len(wall.fired())
        await wall.alarms.fire_due()
        if len(wall.fired()) > before:
            rang.append(day)
    assert rang == [24, 25, 26, 27, 28]
    assert {event.name for event in wall.fired()} == {"work alarm"}
    (kept,) = wall.restarted().pending()
    assert str(kept.day) == "2025-12-01"


async def test_a_missed_one_is_told_late_and_only_once(wall: Wall) -> None:
    await wall.tools.set_alarm(7, repeat="daily")
    wall.moment = datetime(2025, 11, 26, 9, 0, tzinfo=BERLIN)
    after = wall.restarted()
    await after.fire_due()
    (fired,) = wall.fired()
    assert fired.late_seconds == (3 * 24 + 2) * 3600
    (kept,) = after.pending()
    assert str(kept.day) == "2025-11-27"


async def test_to_turn_off_what_rings_spares_what_is_still_to_come(wall: Wall) -> None:
    await wall.tools.set_alarm(7, 30, repeat="daily")
    wall.moment = datetime(2025, 11, 23, 7, 30, tzinfo=BERLIN)
    await wall.alarms.fire_due()
    wall.moment = datetime(2025, 11, 23, 7, 31, tzinfo=BERLIN)
    said = await wall.tools.cancel_alarm()
    assert said == "The 7:30 AM alarm is off. There is 1 alarm: 7:30 AM every day."
    assert await wall.tools.cancel_alarm() == "The alarm for 7:30 AM every day is cancelled."


async def test_what_rang_long_ago_is_off_already(wall: Wall) -> None:
    await wall.tools.set_alarm(7, 30)
    await wall.tools.set_alarm(9)
    wall.moment = datetime(2025, 11, 23, 7, 30, tzinfo=BERLIN)
    await wall.alarms.fire_due()
    wall.moment = datetime(2025, 11, 23, 7, 40, tzinfo=BERLIN)
    assert await wall.tools.cancel_alarm() == "The alarm for 9:00 AM today is cancelled."


@pytest.mark.parametrize(
    ("evening", "alarm", "rings"),
    [
        ((2026, 3, 28), (7, 0), datetime(2026, 3, 29, 5, 0, tzinfo=UTC)),
        ((2026, 3, 27), (7, 0), datetime(2026, 3, 28, 6, 0, tzinfo=UTC)),
        ((2026, 10, 24), (7, 0), datetime(2026, 10, 25, 6, 0, tzinfo=UTC)),
        ((2026, 3, 28), (2, 30), datetime(2026, 3, 29, 1, 30, tzinfo=UTC)),
        ((2026, 10, 24), (2, 30), datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),
    ],
    ids=["spring", "before spring", "autumn", "an hour that is left out", "an hour that comes twice"],
)
async def test_it_keeps_its_hour_when_the_clocks_are_changed(
    tmp_path: Path, evening: tuple[int, int, int], alarm: tuple[int, int], rings: datetime
) -> None:
    wall = Wall(tmp_path / "alarms.json", datetime(*evening, 22, 0, tzinfo=BERLIN))
    await wall.tools.set_alarm(*alarm, "am")
    (pending,) = wall.alarms.pending()
    assert wall.moment.timestamp() + wall.alarms.left(pending) == rings.timestamp()


async def test_setting_the_clock_moves_the_alarm_with_it(wall: Wall) -> None:
    await wall.tools.set_alarm(7)
    wall.moment = datetime(2025, 11, 23, 7, 0, tzinfo=BERLIN)
    await wall.alarms.fire_due()
    assert len(wall.fired()) == 1


@pytest.fixture
def set_zone() -> Iterator[Callable[[str], None]]:
    """Move this process to another time zone."""
    before = os.environ.get("TZ")

    def move(zone: str | None) -> None:
        os.environ.pop("TZ", None)
        if zone is not None:
            os.environ["TZ"] = zone
        time.tzset()

    yield move
    move(before)


async def test_without_a_zone_the_systems_counts_even_after_a_journey(
    tmp_path: Path, set_zone: Callable[[str], None]
) -> None:
    set_zone("Europe/Berlin")
    now = SATURDAY_NIGHT.timestamp()
    alarms = Alarms(tmp_path / "alarms.json", lambda event: None, LOG, wall=lambda: now)
    assert await AlarmTools(alarms).set_alarm(7) == "Alarm set for 7:00 AM tomorrow."
    (alarm,) = alarms.pending()
    assert alarms.left(alarm) == 9 * 3600
    set_zone("Europe/London")
    assert alarms.left(alarm) == 10 * 3600


async def test_a_damaged_file_is_moved_aside(wall: Wall, caplog: pytest.LogCaptureFixture) -> None:
    wall.path.parent.mkdir()
    wall.path.write_bytes(b'{"alarms": [{"id": "x", "hour": "seven"}]}')
    assert wall.alarms.pending() == []
    assert "alarms are lost" in caplog.text
    assert [path.name.partition("-")[0] for path in wall.path.parent.iterdir()] == ["alarms.json.corrupt"]


async def test_an_alarm_that_cannot_be_stored_is_not_set(wall: Wall) -> None:
    wall.alarms.load()
    wall.path.parent.write_text("a file where the folder should be")
    with pytest.raises(ToolError, match="alarms cannot be stored"):
        await wall.tools.set_alarm(7)
    assert wall.alarms.pending() == []
    assert wall.events == []


async def test_the_plugin_rings_an_alarm_that_was_due_while_it_was_down(tmp_path: Path) -> None:
    folder = tmp_path / "clock"
    folder.mkdir()
    missed = {"id": "a", "name": "", "hour": 6, "minute": 45, "day": "2020-01-01"}
    (folder / "alarms.json").write_bytes(msgspec.json.encode({"version": 1, "alarms": [missed]}))
    send, receive = anyio.create_memory_object_stream[Event](10)
    context = PluginContext("clock", Settings(zone="Europe/Berlin"), folder, LOG, send.send_nowait)
    plugin = Clock()
    tools = {tool.name: tool for tool in plugin.register_tools(context)}
    async with plugin.lifespan(context):
        with anyio.fail_after(20):
            fired = await receive.receive()
        assert isinstance(fired, TimerFired)
        assert (fired.timer_id, fired.name) == ("a", "6:45 AM alarm")
        assert (await say(tools, "set_alarm", hour=7, period="am", repeat="daily")).startswith("Alarm set for 7:00 AM")
        assert await say(tools, "list_alarms") == "There is 1 alarm: 7:00 AM every day."
        assert await say(tools, "list_timers") == "There are no timers running."
        assert "'hour'" in await say(tools, "set_alarm", hour=24)
    send.close()
    receive.close()


async def say(tools: dict[str, Tool], name: str, **arguments: Any) -> str:
    outcome = await call_tool(tools[name], ToolCall(id="1", name=name, arguments=arguments), 10)
    return outcome.result


# sentences

MATCHER = IntentMatcher(assistant_clock.plugin.register_intents(
    PluginContext("clock", Settings(), Path("unused"), LOG, lambda event: None)
))  # fmt: skip


@pytest.mark.parametrize(
    ("sentence", "arguments"),
    [
        ("set an alarm for seven thirty", {"hour": 7, "minute": 30}),
        ("Set an alarm for 7:30 a.m.", {"hour": 7, "minute": 30, "period": "am"}),
        ("set an alarm for 7:30pm", {"hour": 7, "minute": 30, "period": "pm"}),
        ("set an alarm for 06:30", {"hour": 6, "minute": 30}),
        ("set an alarm for 19:30", {"hour": 19, "minute": 30}),
        ("set an alarm for nineteen thirty", {"hour": 19, "minute": 30}),
        ("set an alarm for seven oh five p m", {"hour": 7, "minute": 5, "period": "pm"}),
        ("set an alarm for half past six", {"hour": 6, "minute": 30}),
        ("set an alarm for quarter to one", {"hour": 12, "minute": 45}),
        ("set an alarm for ten past seven in the evening", {"hour": 7, "minute": 10, "period": "pm"}),
        ("set an alarm for 9 tonight", {"hour": 9, "period": "pm"}),
        ("set an alarm for seven o'clock tomorrow", {"hour": 7, "day": "tomorrow"}),
        ("set an alarm for tomorrow morning at 8", {"hour": 8, "period": "am", "day": "tomorrow"}),
        ("set a 7 am alarm for monday", {"hour": 7, "period": "am", "day": "monday"}),
        ("set an alarm for noon", {"hour": 12, "period": "pm"}),
        ("set an alarm for midnight", {"hour": 0, "period": "am"}),
        ("set an alarm for 7 am every weekday", {"hour": 7, "period": "am", "repeat": "weekdays"}),
        ("set an alarm for 7 on tuesdays", {"hour": 7, "repeat": "tuesday"}),
        ("set an alarm every evening at 9", {"hour": 9, "period": "pm", "repeat": "daily"}),
        ("set a medicine alarm for 9 pm", {"hour": 9, "period": "pm", "name": "medicine"}),
        ("set an alarm for 9 pm called medicine", {"hour": 9, "period": "pm", "name": "medicine"}),
        ("wake me at 6 am tomorrow", {"hour": 6, "period": "am", "day": "tomorrow"}),
        ("could you wake me up at seven oh five please", {"hour": 7, "minute": 5, "period": "am"}),
        ("wake me up at 6 pm", {"hour": 6, "period": "pm"}),
        ("wake me up at two thirty", {"hour": 2, "minute": 30}),
        ("wake me up every morning at 7", {"hour": 7, "period": "am", "repeat": "daily"}),
    ],
)
def test_sentences_that_set_one(sentence: str, arguments: dict[str, object]) -> None:
    match = MATCHER.match(sentence)
    assert match is not None
    assert (match.tool, match.arguments) == ("set_alarm", arguments)


@pytest.mark.parametrize(
    ("sentence", "tool", "arguments"),
    [
        ("cancel my alarm", "cancel_alarm", {}),
        ("turn off the alarm", "cancel_alarm", {}),
        ("cancel all my alarms", "cancel_alarm", {"all_alarms": True}),
        ("cancel the 7:30 alarm", "cancel_alarm", {"hour": 7, "minute": 30}),
        ("cancel my alarm for seven am", "cancel_alarm", {"hour": 7, "period": "am"}),
        ("cancel the medicine alarm", "cancel_alarm", {"name": "medicine"}),
        ("what alarms do i have", "list_alarms", {}),
        ("do I have any alarms set?", "list_alarms", {}),
        ("when is my next alarm", "list_alarms", {}),
        ("list my alarms", "list_alarms", {}),
        ("cancel my timer", "cancel_timer", {}),
    ],
)
def test_sentences_about_them(sentence: str, tool: str, arguments: dict[str, object]) -> None:
    match = MATCHER.match(sentence)
    assert match is not None
    assert (match.tool, match.arguments) == (tool, arguments)


@pytest.mark.parametrize(
    "sentence",
    [
        "set an alarm",
        "set an alarm for 25",
        "set an alarm for ten minutes",
        "set an alarm in ten minutes",
        "set an alarm for 7 am tomorrow and play music",
        "set an alarm for seven in london",
        "set an alarm for seven minus one",
        "wake me up in an hour",
        "wake me up before you go",
        "wake me when september ends",
        "the alarm went off at 7",
        "alarm me",
        "is there an alarm in the building",
    ],
)
def test_other_sentences_are_left_to_the_model(sentence: str) -> None:
    assert MATCHER.match(sentence) is None


async def test_what_recognisers_are_told_of_is_understood(tmp_path: Path) -> None:
    phrases = [phrase for phrase in MATCHER.phrases() if "alarm" in phrase or "wake" in phrase]
    assert len(phrases) > 500
    assert {"set an alarm for seven", "wake me up at six", "cancel alarm", "list alarms"} <= set(phrases)
    context = PluginContext("clock", Settings(), tmp_path, LOG, lambda event: None)
    tools = {tool.name: tool for tool in Clock().register_tools(context)}
    for phrase in phrases[::40]:
        match = MATCHER.match(phrase)
        assert match is not None, phrase
        msgspec.convert(match.arguments, tools[match.tool].arguments)
