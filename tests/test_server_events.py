"""The WebSocket, over a real socket."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from serverkit import World, assembled, new_id, served, until_finished
from websockets.asyncio.client import unix_connect
from websockets.exceptions import InvalidStatus

from assistant.client import Connection
from assistant.errors import DaemonUnreachable
from assistant.events import (
    CommandFailed,
    DaemonStopping,
    Event,
    FinalTranscript,
    PartialTranscript,
    PluginEvent,
    SpeechSynthesized,
    SubscriberLagged,
    TextDelta,
    TurnFinished,
    TurnStarted,
)
from assistant.wire import Cancel, EndAudio, Listen, Say, Subscribe

pytestmark = pytest.mark.anyio

URL = "ws://localhost/api/events"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A served daemon."""
    async with assembled(tmp_path) as world, served(world):
        yield world


def news(number: int) -> PluginEvent:
    return PluginEvent(plugin="test", name="news", data={"number": number, "text": "x" * 2000})


class Told(logging.Handler):
    """Waits for words in the log."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self.words = words
        self.event = anyio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        """Look for them."""
        if self.words in record.getMessage():
            self.event.set()


async def exhaust(connection: Connection) -> list[Event]:
    return [event async for event in connection]


async def refusal(connection: Connection) -> CommandFailed:
    event = await anext(connection)
    assert isinstance(event, CommandFailed)
    return event


async def test_a_typed_turn_is_followed_to_its_end(world: World) -> None:
    turn = new_id()
    async with world.client.connect() as connection:
        await connection.send(Say(turn_id=turn, text="hello there", speak=True))
        found = await until_finished(connection, turn)
    said = [event for event in found if event.turn_id == turn]
    assert isinstance(said[0], TurnStarted)
    assert [event.text for event in said if isinstance(event, TextDelta)] == ["hello ", "there "]
    assert [event.pcm for event in said if isinstance(event, SpeechSynthesized)]
    assert isinstance(said[-1], TurnFinished)
    assert said[-1].reason == "complete"
    assert {event.session_id for event in said} == {said[0].session_id} != {""}


async def test_one_connection_holds_several_turns(world: World) -> None:
    first, second = new_id(), new_id()
    async with world.client.connect() as connection:
        await connection.send(Say(turn_id=first, text="forever", new=True))
        started = await anext(connection)
        await connection.send(Say(turn_id=second, text="two words", new=True))
        found = await until_finished(connection, second)
        await connection.send(Cancel(session_id=started.session_id, turn_id=first))
        found += await until_finished(connection, first)
    assert "".join(e.text for e in found if isinstance(e, TextDelta) and e.turn_id == second) == "two words "
    ends = [(event.turn_id, event.reason) for event in found if isinstance(event, TurnFinished)]
    assert ends == [(second, "complete"), (first, "cancelled")]


async def test_a_connection_gets_its_own_turns_and_what_concerns_all(world: World) -> None:
    turn = new_id()
    async with world.client.connect() as connection, world.client.connect() as other:
        await connection.send(Say(turn_id=turn, text="hello"))
        await until_finished(connection, turn)
        world.bus.publish(news(1))
        while not isinstance(event := await anext(other), PluginEvent):
            assert event.session_id == ""
        assert event.data["number"] == 1


async def test_a_conversation_is_watched_from_another_connection(world: World) -> None:
    session = await world.client.create_session()
    for wanted in (session.id[:5], ""):
        turn = new_id()
        async with world.client.connect() as connection, world.client.connect() as watcher:
            await watcher.send(Subscribe(session_id=wanted))
            await watcher.send(EndAudio())
            await refusal(watcher)
            await connection.send(Say(turn_id=turn, text="hello", session_id=session.id))
            expected = [event for event in await until_finished(connection, turn) if event.turn_id]
            assert [event for event in await until_finished(watcher, turn) if event.turn_id] == expected


async def test_a_refused_command_is_told_to_its_sender_only(world: World) -> None:
    turn = new_id()
    async with world.client.connect() as connection, world.client.connect() as other:
        await connection.send(Say(turn_id=turn, text="hello", session_id="nothere1"))
        refused = await refusal(connection)
        assert (refused.turn_id, refused.error.code) == (turn, "session_not_found")
        await connection.send(Say(turn_id=turn, text="  "))
        refused = await refusal(connection)
        assert (refused.turn_id, refused.error.code) == (turn, "prompt")
        await connection.send(Subscribe(session_id="nothere1"))
        assert (await refusal(connection)).error.code == "session_not_found"
        await connection.send(Say(turn_id=turn, text="hello"))
        assert isinstance((await until_finished(connection, turn))[-1], TurnFinished)
        world.bus.publish(news(1))
        async for event in other:
            assert not isinstance(event, CommandFailed)
            if isinstance(event, PluginEvent):
                break


@pytest.mark.parametrize(
    ("message", "names"),
    [
        ("{", "truncated"),
        ("", "truncated"),
        ("[1]", "object"),
        ('{"type": "dance"}', "dance"),
        ('{"type": "say", "text": "x"}', "turn_id"),
        ('{"type": "say", "turn_id": 1, "text": "x"}', "turn_id"),
        ('{"type": "say", "turn_id": "", "text": "x"}', "turn id"),
        ('{"type": "listen", "turn_id": "abc"}', "'abc'"),
        ('{"type": "end_audio"}', "no speech"),
        (b"\0\0", "listen"),
    ],
)
async def test_what_is_no_command_is_refused_and_the_connection_lives(
    world: World, message: str | bytes, names: str
) -> None:
    async with unix_connect(str(world.paths.socket), URL) as link:
        connection = Connection(link)
        await link.send(message)
        refused = await refusal(connection)
        assert refused.error.code == "request"
        assert names in refused.error.message
        assert refused.error.hint
        turn = new_id()
        await connection.send(Say(turn_id=turn, text="hello"))
        assert isinstance((await until_finished(connection, turn))[-1], TurnFinished)


async def test_a_turn_id_is_used_once(world: World) -> None:
    turn = new_id()
    async with world.client.connect() as connection:
        await connection.send(Say(turn_id=turn, text="forever"))
        started = await anext(connection)
        await connection.send(Say(turn_id=turn, text="again"))
        while not isinstance(event := await anext(connection), CommandFailed):
            assert event.turn_id in {turn, ""}
        assert (event.turn_id, event.error.code) == (turn, "request")
        await connection.send(Cancel(session_id=started.session_id))
        assert isinstance((await until_finished(connection, turn))[-1], TurnFinished)


async def test_a_prompt_of_two_megabytes_is_refused_with_a_reason(world: World) -> None:
    turn = new_id()
    async with world.client.connect() as connection:
        await connection.send(Say(turn_id=turn, text="x" * (2 << 20)))
        refused = await refusal(connection)
        assert (refused.turn_id, refused.error.code) == (turn, "prompt")
        assert "1,048,576" in refused.error.message


async def test_a_message_beyond_all_limits_ends_the_connection(world: World) -> None:
    async def shout() -> None:
        async with world.client.connect() as connection:
            await connection.send(Say(turn_id=new_id(), text="x" * (17 << 20)))
            await anext(connection)

    with pytest.raises(DaemonUnreachable):
        await shout()
    assert (await world.client.status()).live_turns == 0


async def test_a_spoken_turn(world: World) -> None:
    turn = new_id()
    async with world.client.connect() as connection:
        await connection.send(Listen(turn_id=turn))
        for _ in range(3):
            await connection.send_audio(bytes(640))
        await connection.send(EndAudio())
        found = await until_finished(connection, turn)
    assert [event.text for event in found if isinstance(event, PartialTranscript)][-1] == "1920 bytes"
    assert [event.text for event in found if isinstance(event, FinalTranscript)] == ["1920 bytes"]
    assert isinstance(found[0], TurnStarted)
    assert found[0].source == "voice"


async def test_audio_after_a_refused_listen_is_ignored(world: World) -> None:
    refused_turn, turn = new_id(), new_id()
    async with world.client.connect() as connection:
        await connection.send(Listen(turn_id=refused_turn, session_id="nothere1"))
        for _ in range(3):
            await connection.send_audio(bytes(640))
        await connection.send(EndAudio())
        await connection.send(Listen(turn_id=turn))
        await connection.send_audio(bytes(64))
        await connection.send(EndAudio())
        found = await until_finished(connection, turn)
    failures = [event for event in found if isinstance(event, CommandFailed)]
    assert [event.turn_id for event in failures] == [refused_turn]
    assert "64 bytes" in [event.text for event in found if isinstance(event, FinalTranscript)]


async def test_half_a_sample_ends_the_spoken_turn(world: World) -> None:
    turn = new_id()
    async with world.client.connect() as connection:
        await connection.send(Listen(turn_id=turn))
        await connection.send_audio(bytes(3))
        await connection.send_audio(bytes(3))
        found = await until_finished(connection, turn)
    assert [(e.turn_id, e.error.code) for e in found if isinstance(e, CommandFailed)] == [(turn, "audio")]
    assert isinstance(found[-1], TurnFinished)
    assert found[-1].reason == "cancelled"


async def test_listening_anew_gives_up_what_was_said_before(world: World) -> None:
    first, second = new_id(), new_id()
    async with world.client.connect() as connection:
        await connection.send(Listen(turn_id=first, new=True))
        await connection.send_audio(bytes(640))
        await connection.send(Listen(turn_id=second, new=True))
        await connection.send_audio(bytes(64))
        await connection.send(EndAudio())
        found = await until_finished(connection, second)
    assert [(e.turn_id, e.text) for e in found if isinstance(e, FinalTranscript)] == [(second, "64 bytes")]
    assert (first, "cancelled") in [(e.turn_id, e.reason) for e in found if isinstance(e, TurnFinished)]


async def test_a_client_that_vanishes_while_it_speaks_ends_the_turn(world: World) -> None:
    turn = new_id()
    async with world.client.connect() as watcher:
        await watcher.send(Subscribe())
        async with world.client.connect() as connection:
            await connection.send(Listen(turn_id=turn))
            await connection.send_audio(bytes(640))
            assert isinstance(await anext(watcher), TurnStarted)
        finished = (await until_finished(watcher, turn))[-1]
    assert isinstance(finished, TurnFinished)
    assert finished.reason == "cancelled"


async def test_a_turn_outlives_the_client_that_typed_it(world: World) -> None:
    turn = new_id()
    async with world.client.connect() as watcher:
        await watcher.send(Subscribe())
        async with world.client.connect() as connection:
            await connection.send(Say(turn_id=turn, text="forever"))
            started = await anext(connection)
        assert (await world.client.status()).live_turns == 1
        await watcher.send(Cancel(session_id=started.session_id))
        assert isinstance((await until_finished(watcher, turn))[-1], TurnFinished)


async def test_a_client_that_does_not_read_harms_nobody_and_is_told(world: World) -> None:
    total = 5000
    async with world.client.connect() as slow, world.client.connect() as quick:
        for start in range(0, total, 100):
            for number in range(start, start + 100):
                world.bus.publish(news(number))
            for number in range(start, start + 100):
                event = await anext(quick)
                assert isinstance(event, PluginEvent)
                assert event.data["number"] == number
        found = await exhaust(slow)
    lagged = found[-1]
    assert isinstance(lagged, SubscriberLagged)
    assert lagged.missed > 0
    assert len(found) - 1 + lagged.missed == total


async def test_a_client_that_never_reads_is_dropped(tmp_path: Path) -> None:
    told = Told("did not read")
    logging.getLogger("assistant.server").addHandler(told)
    try:
        async with assembled(tmp_path) as world, served(world, stall_seconds=0.1), world.client.connect() as slow:
            for number in range(900):
                world.bus.publish(news(number))
            with anyio.fail_after(20):
                await told.event.wait()
            with pytest.raises(DaemonUnreachable):
                await exhaust(slow)
    finally:
        logging.getLogger("assistant.server").removeHandler(told)


async def test_a_client_that_never_reads_does_not_hold_up_the_stop(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with assembled(tmp_path) as world:
        async with served(world):
            link = await unix_connect(str(world.paths.socket), URL, close_timeout=0.1)
            for number in range(900):
                world.bus.publish(news(number))
            await anyio.sleep(0.05)
        await link.close()
    assert "timeout graceful shutdown exceeded" not in caplog.text


async def test_a_daemon_that_stops_says_so(world: World) -> None:
    async with world.client.connect() as connection:
        world.bus.publish(DaemonStopping())
        assert [type(event) async for event in connection] == [DaemonStopping]


async def test_the_same_client_works_after_a_restart(tmp_path: Path) -> None:
    async with assembled(tmp_path) as world:
        for _ in range(2):
            async with served(world), world.client.connect() as connection:
                turn = new_id()
                await connection.send(Say(turn_id=turn, text="hello"))
                assert isinstance((await until_finished(connection, turn))[-1], TurnFinished)
        with pytest.raises(DaemonUnreachable):
            await world.client.status()


async def test_web_pages_of_other_hosts_get_no_connection(world: World) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await unix_connect(str(world.paths.socket), URL, origin="http://evil.example")
    assert refused.value.response.status_code == 403
    async with unix_connect(str(world.paths.socket), URL, origin="http://localhost:8000"):
        pass
