"""An answer that is begun before the end of the question is certain, and the turn that adopts it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest

from assistant.engines import AudioChunk
from assistant.errors import AssistantError, EngineFailed
from assistant.hookspecs import Session
from assistant.intents import IntentMatcher
from assistant.sessions import LiveTurn
from assistant.store import STORE, Store
from assistant.testing import ToneTextToSpeech, VoiceHarness
from assistant.turn import Parts, Speculation, Turn, Voice
from assistant.wire import Say, SessionInfo

pytestmark = pytest.mark.anyio

QUESTION = "tell me about the sea"
REPLY = "It is wide. It is deep. It is salty."


class Mouth(ToneTextToSpeech):
    """Remembers what it said."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self.broken = ""

    def speak(self, text: str, voice: str) -> Iterator[AudioChunk]:
        """A tone a word."""
        self.said.append(text)
        if text == self.broken:
            raise EngineFailed("the voice broke")
        yield from super().speak(text, voice)


@dataclass
class Output:
    """A loudspeaker that is done at once."""

    played: list[str] = field(default_factory=list)
    stopped: bool = False

    def begin(self) -> None:
        """Nothing to do."""

    async def room(self) -> None:
        """There always is."""

    def add(self, sentence: str, chunk: AudioChunk) -> None:
        """Take it."""
        if sentence not in self.played:
            self.played.append(sentence)

    def end_sentence(self) -> None:
        """Nothing to do."""

    async def finish(self) -> None:
        """It is done."""

    def stop(self) -> str:
        """What was played."""
        self.stopped = True
        return " ".join(self.played)


@dataclass
class World:
    """A daemon without a network, and a conversation in it."""

    harness: VoiceHarness
    parts: Parts
    session: SessionInfo
    mouth: Mouth
    output: Output = field(default_factory=Output)

    @property
    def asked(self) -> int:
        """How often the model was asked."""
        return len(self.harness.model.requests)  # type: ignore[union-attr]

    def begin(self, text: str = QUESTION) -> Speculation:
        """What the listening loop begins in a pause."""
        turn = Turn(
            uuid.uuid4().hex, Session(self.session.id, "voice"), "voice", text=text, voice=Voice(self.output)
        )  # fmt: skip
        return Speculation(self.parts, turn, self.harness.services.sessions.unchanged())

    async def answer(self, ahead: Speculation | None, text: str = QUESTION) -> LiveTurn:
        """What it does at the end."""
        say = Say(turn_id=uuid.uuid4().hex, text=text, channel="voice", session_id=self.session.id)
        live = await self.harness.services.sessions.answer(say, Voice(self.output, ahead))
        with anyio.fail_after(20):
            await live.done.wait()
        return live

    async def told(self) -> list[tuple[str, str]]:
        """The conversation as it is stored."""
        found = await self.parts.db.call(STORE, Store.messages, self.session.id)
        return [(one.role, one.text) for one in found]


@asynccontextmanager
async def daemon(tmp_path: Path, *replies: str | AssistantError) -> AsyncIterator[World]:
    mouth = Mouth()
    async with VoiceHarness(replies=list(replies), tts=mouth, home=tmp_path) as harness:
        services = harness.services
        parts = Parts(
            services.settings, services.bus, services.db, services.plugins, services.pool,
            IntentMatcher(services.plugins.intents), services.paths,
        )  # fmt: skip
        session = await parts.db.call(STORE, Store.create_session, "voice", "")
        yield World(harness, parts, session, mouth)


async def until(condition: Callable[[], object]) -> None:
    with anyio.fail_after(20):
        while not condition():  # noqa: ASYNC110
            await anyio.sleep(0.005)


async def test_the_reply_and_the_first_sentences_sound_are_there_already(tmp_path: Path) -> None:
    async with daemon(tmp_path, REPLY) as world, anyio.create_task_group() as tasks:
        ahead = world.begin()
        tasks.start_soon(ahead.run)
        await until(lambda: world.mouth.said)
        assert world.mouth.said == ["It is wide."], "no more is made in vain than the first sentence"
        assert await world.told() == []
        assert world.output.played == []
        live = await world.answer(ahead)
        assert live.turn.reason == "complete"
        assert world.asked == 1
        assert world.mouth.said == world.output.played == ["It is wide.", "It is deep.", "It is salty."]
        assert await world.told() == [("user", QUESTION), ("assistant", REPLY)]


async def test_what_has_changed_since_is_read_again(tmp_path: Path) -> None:
    async with daemon(tmp_path, REPLY, "Noon.", "Then ask me tomorrow.") as world, anyio.create_task_group() as tasks:
        ahead = world.begin()
        tasks.start_soon(ahead.run)
        await until(lambda: world.mouth.said)
        await world.answer(None, "what time is it")
        live = await world.answer(ahead)
        assert live.turn.reason == "complete"
        assert world.asked == 3
        assert (await world.told())[-2:] == [("user", QUESTION), ("assistant", "Then ask me tomorrow.")]
        assert "It is wide." not in world.output.played


async def test_another_question_is_answered_anew(tmp_path: Path) -> None:
    async with daemon(tmp_path, REPLY, "Just water.") as world, anyio.create_task_group() as tasks:
        ahead = world.begin("what is a lake")
        tasks.start_soon(ahead.run)
        await until(lambda: world.mouth.said)
        live = await world.answer(ahead)
        assert live.turn.answer == "Just water."
        assert world.output.played == ["Just water."]


async def test_an_error_of_the_model_is_the_turns(tmp_path: Path) -> None:
    async with daemon(tmp_path, EngineFailed("no memory left")) as world, anyio.create_task_group() as tasks:
        ahead = world.begin()
        tasks.start_soon(ahead.run)
        await until(lambda: world.asked)
        live = await world.answer(ahead)
        assert live.turn.reason == "failed"
        assert await world.told() == [("user", QUESTION)]


async def test_an_error_of_the_voice_is_the_turns(tmp_path: Path) -> None:
    async with daemon(tmp_path, REPLY) as world, anyio.create_task_group() as tasks:
        world.mouth.broken = "It is wide."
        ahead = world.begin()
        tasks.start_soon(ahead.run)
        await until(lambda: world.mouth.said)
        live = await world.answer(ahead)
        assert live.turn.reason == "failed"
        assert (await world.told())[0] == ("user", QUESTION)


async def test_one_that_is_given_up_ends(tmp_path: Path) -> None:
    async with daemon(tmp_path, " ".join(["It goes on and on."] * 500)) as world:
        ahead = world.begin()
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ahead.run)
                await until(lambda: world.mouth.said)
                ahead.cancel()
        assert await world.told() == []


async def test_what_cannot_be_written_fails_the_turn_and_nothing_is_said_twice(tmp_path: Path) -> None:
    async with daemon(tmp_path, REPLY, REPLY) as world:
        await world.answer(None)
        say = Say(turn_id="a" * 32, text=QUESTION, channel="voice", session_id=world.session.id)
        await world.parts.db.call(STORE, Store.begin_turn, world.session.id, "a" * 32, "voice")
        live = await world.harness.services.sessions.answer(say, Voice(world.output))
        with anyio.fail_after(20):
            await live.done.wait()
        assert live.turn.reason == "failed"
        assert [text for role, text in await world.told() if role == "user"] == [QUESTION]
