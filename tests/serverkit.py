"""A small daemon for the tests of the server and the client.

Real: the bus, the store on its lane, sessions and turns, the engine pool, uvicorn on a Unix socket. Stand-ins: the
engines, the plugins and the models, which do the little that the tests look at.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import anyio

from assistant.bus import Bus
from assistant.client import Client, Connection
from assistant.config import Settings
from assistant.engines import (
    AudioChunk,
    ChatRequest,
    Delta,
    Engine,
    LanguageModel,
    SpeechToText,
    TextToSpeech,
    Transcript,
    Transcription,
)
from assistant.errors import EngineFailed, ModelDownloadFailed, ModelNotFound
from assistant.events import Event, ModelProgressed, TurnFinished
from assistant.finetune.jobs import Finetuner
from assistant.hookspecs import Route, Session
from assistant.lanes import Lanes
from assistant.paths import Paths, find
from assistant.pool import EnginePool
from assistant.server.app import build_app
from assistant.server.listener import bind, serving
from assistant.services import Services
from assistant.sessions import Sessions
from assistant.store import STORE, Store
from assistant.tools import Tool
from assistant.turn import Parts
from assistant.voice.service import VoiceService
from assistant.wire import ModelInfo, PluginInfo

LANE = "thread:test"


class Echo(LanguageModel):
    """Says the question again word by word; ``forever ...`` never ends by itself."""

    name = "echo"
    lane = LANE

    def load(self, model: Path | None) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""

    def generate(self, request: ChatRequest) -> Iterator[Delta]:
        """The words of the last message."""
        text = request.messages[-1].content
        while text.startswith("forever"):
            time.sleep(0.002)
            yield Delta(text=".")
        words = text.split()
        for word in words:
            yield Delta(text=f"{word} ")
        yield Delta(finish_reason="stop", prompt_tokens=3, output_tokens=len(words))


class Counting(Transcription):
    """Understands how much it was given."""

    def __init__(self, language: str) -> None:
        self.language = language
        self.bytes = 0

    def feed(self, pcm: bytes) -> str | None:
        """How much so far."""
        self.bytes += len(pcm)
        return f"{self.bytes} bytes"

    def finish(self) -> Transcript:
        """How much in all."""
        return Transcript(text=f"{self.bytes} bytes", language=self.language, seconds=self.bytes / 32_000)


class Counter(SpeechToText):
    """A recogniser that counts."""

    name = "counter"
    lane = LANE

    def load(self, model: Path | None) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""

    def open(self, language: str, phrases: tuple[str, ...]) -> Transcription:
        """Begin to count."""
        return Counting(language)


class Beeper(TextToSpeech):
    """A chunk a word; ``forever`` never ends by itself, ``broken`` fails."""

    name = "beeper"
    lane = LANE

    def __init__(self) -> None:
        self.stopped = threading.Event()

    def load(self, model: Path | None) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""

    def speak(self, text: str, voice: str) -> Iterator[AudioChunk]:
        """Beep."""
        try:
            for number, word in enumerate(text.split()):
                if word.startswith("broken"):
                    raise EngineFailed("the voice broke")
                yield AudioChunk(pcm=bytes([number, len(voice)]) * 100, sample_rate=22_050)
                while word.startswith("forever"):
                    time.sleep(0.002)
                    yield AudioChunk(pcm=b"\x01\x02" * 1000, sample_rate=22_050)
        finally:
            self.stopped.set()


@dataclass
class StandInPlugins:
    """What the server and the turns ask of the plugin host."""

    engines: dict[tuple[str, str], Engine]
    plugins: list[PluginInfo] = field(default_factory=list)
    routes: list[tuple[str, Route]] = field(default_factory=list)
    tools: dict[str, Tool] = field(default_factory=dict)

    def engine_plugin(self, kind: str, name: str) -> str:
        """Who offers an engine."""
        return f"plugin-of-{name}"

    def prompt_parts(self, session: Session) -> list[str]:
        """Nothing to add."""
        return []


class StandInModels:
    """Two models in memory; ``hf:test/offline`` cannot be fetched."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.present = {"starter": True, "hf:test/small": False, "/folder/model": True}

    def known(self) -> list[ModelInfo]:
        """All of them."""
        return [self.info(name) for name in self.present]

    def info(self, name: str) -> ModelInfo:
        """One of them."""
        if name not in self.present:
            raise ModelNotFound(f"there is no model {name!r}", hint="`assistant models list`")
        return ModelInfo(name=name, present=self.present[name])

    async def resolve(self, name: str, *, force: bool = False) -> Path:
        """Fetch."""
        if name == "hf:test/offline":
            raise ModelDownloadFailed("there is no network")
        self.info(name)
        for done in (1, 2):
            self._bus.publish(ModelProgressed(model=name, phase="download", done=done, total=2))
        self.present[name] = True
        return Path("/nowhere")

    async def remove(self, name: str) -> None:
        """Forget."""
        self.info(name)
        self.present[name] = False


class NoIntents:
    """Sends every sentence to the model."""

    def match(self, text: str) -> None:
        """Never."""

    def phrases(self) -> tuple[str, ...]:
        """None."""
        return ()


@dataclass
class World:
    """A served daemon and a client of it."""

    services: Services
    client: Client
    bus: Bus
    plugins: StandInPlugins
    beeper: Beeper
    stopped: anyio.Event

    @property
    def paths(self) -> Paths:
        """Its folders."""
        return self.services.paths


@asynccontextmanager
async def assembled(home: Path) -> AsyncIterator[World]:
    """The daemon's parts, not served yet."""
    paths = find({"ASSISTANT_HOME": str(home)})
    paths.make()
    bus, settings, beeper, stopped = Bus(), Settings(), Beeper(), anyio.Event()
    engines: list[Engine] = [Echo(), Counter(), beeper]
    plugins = StandInPlugins({(engine.kind, engine.name): engine for engine in engines})
    models = StandInModels(bus)
    async with Lanes(settings.lanes, bus.publish) as lanes, anyio.create_task_group() as tasks:
        db = lanes.lane("thread:store")
        await db.add(STORE, Store(paths.database), None)
        host = cast(Any, plugins)
        pool = EnginePool(settings, host, lanes, cast(Any, models))
        parts = Parts(settings, bus, db, host, pool, cast(Any, NoIntents()), paths)
        sessions = Sessions(parts, tasks)
        finetuner = Finetuner(settings, paths, bus.publish, db, lanes, cast(Any, models), pool, tasks)
        services = Services(
            settings=settings, paths=paths, bus=bus, plugins=host, lanes=lanes, db=db, models=cast(Any, models),
            pool=pool, sessions=sessions, finetuner=finetuner,
            voice=VoiceService(parts, sessions, cast(Any, models), tasks), started_at=time.time(), stop=stopped.set,
        )  # fmt: skip
        yield World(services, Client(paths.socket), bus, plugins, beeper, stopped)
        await sessions.cancel_all()
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def served(world: World, stall_seconds: float = 30.0) -> AsyncIterator[None]:
    """Serve it on its socket while the block runs."""
    with bind(world.paths) as sock:
        async with serving(build_app(world.services, stall_seconds=stall_seconds), sock):
            yield


def new_id() -> str:
    """A turn's id."""
    return uuid.uuid4().hex


async def until_finished(connection: Connection, turn_id: str) -> list[Event]:
    """The events up to the end of a turn."""
    found: list[Event] = []
    async for event in connection:
        found.append(event)
        if isinstance(event, TurnFinished) and event.turn_id == turn_id:
            break
    return found
