"""The listening loop over the wire: the routes, the client, and recordings through the real loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import anyio
import msgspec
import pytest
from serverkit import assembled

from assistant import events
from assistant.client import Client
from assistant.config import Settings, VoiceSettings
from assistant.engines import AudioChunk
from assistant.errors import AssistantError, AudioError, DaemonUnreachable, EngineCrashed, VoiceError
from assistant.events import Event
from assistant.server.app import build_app
from assistant.server.listener import bind, serving
from assistant.server.voice import PIECE_BYTES
from assistant.services import Services
from assistant.testing import KnownSpeechToText, ScriptedWakeWord, Timeline, VoiceHarness, words_in
from assistant.voice.frames import RATE
from assistant.wire import VoiceInfo

pytestmark = pytest.mark.anyio

INFO = VoiceInfo(
    state="idle", microphone="open", device="Desk microphone", output_device="", wake_words=("hey_jarvis",),
    duplex="full", attenuation_db=12.5, recording=False, overflows=0, listened_seconds=3.0,
)  # fmt: skip


@dataclass
class Ear:
    """Stands in for the service: does at once what devices take their time for."""

    info: VoiceInfo | None = None
    refusal: AssistantError | None = None
    pressed: list[bool] = field(default_factory=list)
    hushed: int = 0
    slow: float = 0.0
    """Seconds until the microphone has closed."""
    items: tuple[Event | AudioChunk | AssistantError, ...] = ()
    left: anyio.Event = field(default_factory=anyio.Event)

    async def listen(self) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.info = INFO

    async def stop(self) -> None:
        self.info = None

    def mute(self) -> None:
        self._running()
        closed = msgspec.structs.replace(INFO, state="muted", microphone="muted")
        asyncio.get_running_loop().call_later(self.slow, setattr, self, "info", closed)

    def unmute(self) -> None:
        self._running()
        self.info = INFO

    def talk(self, pressed: bool) -> None:
        self._running()
        self.pressed.append(pressed)

    def hush(self) -> None:
        self._running()
        self.hushed += 1

    async def simulate(self, pcm: bytes) -> AsyncIterator[Event | AudioChunk]:
        try:
            for item in self.items:
                if isinstance(item, AssistantError):
                    raise item
                yield item
            if not self.items:
                await anyio.sleep_forever()
        finally:
            self.left.set()

    def _running(self) -> None:
        if self.info is None:
            raise VoiceError("the assistant is not listening", hint="`assistant listen`")


@asynccontextmanager
async def served(services: Services) -> AsyncIterator[Client]:
    with bind(services.paths) as sock:
        async with serving(build_app(services), sock):
            yield Client(services.paths.socket)


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
async def client(tmp_path: Path, ear: Ear) -> AsyncIterator[Client]:
    """A client of a daemon with that ear."""
    async with assembled(tmp_path) as world, served(replace(world.services, voice=cast(Any, ear))) as client:
        yield client


async def test_listening_begins_and_ends(client: Client) -> None:
    assert await client.voice_info() is None
    assert (await client.status()).voice is None
    assert await client.voice("listen") == INFO
    assert await client.voice_info() == (await client.status()).voice == INFO
    assert await client.voice("stop") is None
    assert await client.voice("stop") is None


async def test_leaving_ends_it_unless_it_always_listens(tmp_path: Path, ear: Ear) -> None:
    async with assembled(tmp_path) as world:
        services = replace(world.services, voice=cast(Any, ear))
        async with served(services) as client:
            await client.voice("listen")
            assert await client.voice("leave") is None
        always = msgspec.structs.replace(services.settings, voice=VoiceSettings(enabled=True))
        async with served(replace(services, settings=always)) as client:
            await client.voice("listen")
            assert await client.voice("leave") == INFO
            assert await client.voice("stop") is None


async def test_mute_answers_when_the_microphone_is_closed(client: Client, ear: Ear) -> None:
    await client.voice("listen")
    ear.slow = 0.2
    muted = await client.voice("mute")
    assert muted is not None
    assert (muted.microphone, muted.state) == ("muted", "muted")
    opened = await client.voice("unmute")
    assert opened is not None
    assert opened.microphone == "open"


async def test_talk_and_hush_are_passed_on(client: Client, ear: Ear) -> None:
    await client.voice("listen")
    await client.voice("talk")
    await client.voice("release")
    await client.voice("hush")
    assert (ear.pressed, ear.hushed) == ([True, False], 1)


@pytest.mark.parametrize("action", ["mute", "unmute", "talk", "release", "hush"])
async def test_what_needs_listening_is_refused_without(client: Client, action: Any) -> None:
    with pytest.raises(VoiceError, match="is not listening") as caught:
        await client.voice(action)
    assert caught.value.hint == "`assistant listen`"


async def test_why_it_cannot_listen_is_told(client: Client, ear: Ear) -> None:
    ear.refusal = VoiceError("there is no wake word", hint="name one")
    with pytest.raises(VoiceError, match="no wake word"):
        await client.voice("listen")


async def test_an_unknown_action_is_refused(client: Client) -> None:
    with pytest.raises(AssistantError, match="action"):
        await client.voice(cast(Any, "whistle"))


# recordings, scripted


async def simulated(client: Client, pcm: bytes = b"\0\0") -> list[Event]:
    async with aclosing(client.simulate(pcm)) as happened:
        return [event async for event in happened]


async def test_what_was_played_comes_last_and_in_pieces(client: Client, ear: Ear) -> None:
    played = bytes(range(256)) * (PIECE_BYTES // 256 * 2 + 10)
    told = events.WakeWordHeard(name="hey_jarvis", score=0.9, accepted=True, clock=1.0)
    ear.items = (told, AudioChunk(pcm=played, sample_rate=RATE))
    first, *pieces = await simulated(client)
    assert first == told
    chunks = [piece for piece in pieces if isinstance(piece, events.SpeechSynthesized)]
    assert [len(chunk.pcm) for chunk in chunks] == [PIECE_BYTES, PIECE_BYTES, len(played) - 2 * PIECE_BYTES]
    assert b"".join(chunk.pcm for chunk in chunks) == played
    assert {chunk.sample_rate for chunk in chunks} == {RATE}


@pytest.mark.parametrize(("pcm", "words"), [(b"", "no audio"), (b"\0\0\0", "half a sample")])
async def test_what_is_no_audio_is_refused(client: Client, pcm: bytes, words: str) -> None:
    with pytest.raises(AudioError, match=words):
        await simulated(client, pcm)


async def test_a_failure_before_the_first_event_is_the_answer(client: Client, ear: Ear) -> None:
    ear.items = (VoiceError("there is no wake word", hint="name one"),)
    with pytest.raises(VoiceError, match="no wake word") as caught:
        await simulated(client)
    assert caught.value.hint == "name one"


async def test_a_failure_on_the_way_is_told_and_raised(client: Client, ear: Ear) -> None:
    told = events.SpeechStarted(clock=1.0)
    ear.items = (told, EngineCrashed("the recogniser died", hint="again"))
    seen: list[Event] = []

    async def watch() -> None:
        async for event in client.simulate(b"\0\0"):
            seen.append(event)

    with pytest.raises(EngineCrashed, match="the recogniser died"):
        await watch()
    assert seen[0] == told
    assert isinstance(seen[1], events.VoiceFailed)


async def test_an_answer_that_ends_too_soon_is_noticed(client: Client, ear: Ear) -> None:
    ear.items = (events.SpeechStarted(clock=1.0),)
    with pytest.raises(DaemonUnreachable, match="cut"):
        await simulated(client)


async def test_a_client_that_leaves_ends_the_simulation(client: Client, ear: Ear) -> None:
    with anyio.move_on_after(0.3):
        await simulated(client)
    with anyio.fail_after(20):
        await ear.left.wait()


# recordings through the real loop


@pytest.fixture
async def harness(tmp_path: Path, silero_model: Path, smart_turn_model: Path) -> AsyncIterator[VoiceHarness]:
    """A whole assistant with the models of the ear, and a clock."""
    models = tmp_path / "data" / "models"
    models.mkdir(parents=True)
    for model in (silero_model, smart_turn_model):
        (models / model.name).symlink_to(model)
    async with VoiceHarness(installed=["clock"], replies=["Not much."], settings=Settings(), home=tmp_path) as harness:
        yield harness


def recording(harness: VoiceHarness, *said: str) -> bytes:
    """The wake word and words, each time; it ends with the last word."""
    timeline = Timeline()
    for words in said:
        timeline = timeline.silence(1).wake().say(words)
    rendered = timeline.render()
    assert isinstance(harness.ear, KnownSpeechToText)
    for speech in rendered.speeches:
        harness.ear.learn(speech)
    return rendered.pcm


def essence(happened: list[Event]) -> list[object]:
    """What does not differ between one run and the next."""
    kept: list[object] = []
    for event in happened:
        match event:
            case events.TurnFinished():
                kept.append((event.reason, event.text))
            case events.WakeWordHeard() | events.SpeechStarted() | events.SpeechEnded() | events.VoiceStateChanged():
                kept.append(msgspec.structs.replace(event, at=0.0, turn_id="", session_id=""))
            case events.FinalTranscript():
                kept.append(event.text)
            case events.SpeechSynthesized():
                kept.append(event.pcm)
    return kept


async def test_a_recording_is_answered_to_the_end(harness: VoiceHarness) -> None:
    pcm = recording(harness, "set an alarm for seven thirty")
    async with served(harness.services) as client:
        happened = await simulated(client, pcm)
        again = await simulated(client, pcm)
        assert await client.voice_info() is None, "no device was opened"
    kinds = [type(event).__name__ for event in happened]
    order = ["WakeWordHeard", "SpeechEnded", "TurnStarted", "FinalTranscript", "TurnFinished"]
    assert [kind for kind in kinds if kind in order] == order
    [finished] = [event for event in happened if isinstance(event, events.TurnFinished)]
    assert finished.reason == "complete"
    assert finished.text.startswith("Alarm set for 7:30")
    played = b"".join(event.pcm for event in happened if isinstance(event, events.SpeechSynthesized))
    assert len(played) > len(pcm), "the answer is not cut off with the recording"
    assert words_in(played)[:3] == ["alarm", "set", "for"]
    assert essence(again) == essence(happened)


async def test_a_client_that_leaves_does_no_harm(harness: VoiceHarness) -> None:
    pcm = recording(harness, "tell me something") * 20
    async with served(harness.services) as client:
        async with aclosing(client.simulate(pcm)) as happened:
            async for event in happened:
                if isinstance(event, events.TurnStarted):
                    break
        short = recording(harness, "what time is it")
        assert events.TurnFinished in {type(event) for event in await simulated(client, short)}
        assert (await client.status()).voice is None


class Faulty(ScriptedWakeWord):
    """A plugin's detector with a bug."""

    broken = False

    def load(self) -> None:
        """Get it wrong."""
        if self.broken:
            raise ValueError("the shape is (1, 16), not (1, 96)")


async def test_a_bug_in_a_plugins_detector_ends_the_listening_and_nothing_else(
    tmp_path: Path, silero_model: Path, smart_turn_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tmp_path / "data" / "models"
    models.mkdir(parents=True)
    for model in (silero_model, smart_turn_model):
        (models / model.name).symlink_to(model)
    async with VoiceHarness(wake_words=[Faulty()], settings=Settings(), home=tmp_path) as harness:
        monkeypatch.setattr(Faulty, "broken", True)
        async with served(harness.services) as client:
            for _ in range(2):
                with pytest.raises(VoiceError, match=r"ValueError: the shape is \(1, 16\)") as caught:
                    await simulated(client, bytes(32_000))
                assert "bug" in caught.value.hint
