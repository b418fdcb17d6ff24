"""The daemon in this process, with a plugin whose model says what the test wrote and keeps every request.

Real: the plugin host and the plugin, the lanes, the store, sessions and turns. Not there: the server.
"""

from __future__ import annotations

import itertools
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest
from third_party import installed

from assistant import events
from assistant.config import LlmSettings, PluginTable, Settings, ToolSettings
from assistant.daemon import running
from assistant.engines import (
    AudioChunk,
    ChatRequest,
    Delta,
    LanguageModel,
    SpeechToText,
    TextToSpeech,
    ToolCall,
    Transcript,
    Transcription,
)
from assistant.errors import ContextOverflow
from assistant.hookspecs import PluginContext, Session, hookimpl
from assistant.intents import Intent
from assistant.services import Services
from assistant.tools import Tool
from assistant.wire import Listen, Say

LANE = "thread:recorder"

PLUGIN = """
from turnkit import prompt_parts, register_intents, register_llm, register_stt, register_tools, register_tts
"""


@dataclass
class Script:
    """What the model is to say, and what it was asked."""

    replies: list[list[Delta]] = field(default_factory=list)
    """One a request; without any left it says ``answer 1``, ``answer 2``…"""
    requests: list[ChatRequest] = field(default_factory=list)
    """Those that it answered."""
    context: int = 0
    """Most words that a prompt may have; 0 for no limit."""
    overflows: int = 0
    hold: threading.Event = field(default_factory=threading.Event)
    """A reply that says ``<hold>`` waits for it, on the lane's thread."""
    met: list[str] = field(default_factory=list)
    """Calls of the tool ``meet`` that have begun."""
    both: anyio.Event | None = None
    heard: str = "what was heard"
    live: list[bool] = field(default_factory=list)
    """What the engine was told of speech."""


script = Script()
_answers = itertools.count(1)
_calls = itertools.count(1)


def text(*pieces: str, reason: str = "stop", cached: int = 0, prompt: int = 10) -> list[Delta]:
    """A reply in these pieces."""
    end: Any = reason
    last = Delta(finish_reason=end, prompt_tokens=prompt, prompt_done=prompt, output_tokens=2, cached_tokens=cached)
    return [*(Delta(text=piece) for piece in pieces), last]


def call(name: str, /, error: str = "", **arguments: Any) -> ToolCall:
    """A tool call with an id of its own."""
    return ToolCall(id=f"call-{next(_calls)}", name=name, arguments=arguments, error=error)


def calling(before: str, *calls: ToolCall) -> list[Delta]:
    """A reply that asks for tools."""
    asked = [Delta(tool_call=one) for one in calls]
    return [*([Delta(text=before)] if before else []), *asked, *text(reason="tool_calls")]


def endless(before: str = "") -> list[Delta]:
    """A reply that goes on until it is cancelled."""
    return [Delta(text=before), Delta(text="<forever>")]


class Recorder(LanguageModel):
    """The scripted model."""

    name = "recorder"
    lane = LANE
    rank = 1000

    def load(self, model: Path | None) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""

    def speech_live(self, live: bool) -> None:
        """Note it."""
        script.live.append(live)

    def generate(self, request: ChatRequest) -> Iterator[Delta]:
        """The next reply of the script."""
        words = sum(len(message.content.split()) for message in request.messages)
        if script.context and words > script.context:
            script.overflows += 1
            raise ContextOverflow(f"the prompt has {words} tokens, and the model's context is {script.context}")
        script.requests.append(request)
        reply = script.replies.pop(0) if script.replies else text(f"answer {next(_answers)}")
        for delta in reply:
            if delta.text == "<hold>":
                yield Delta(text="held")
                script.hold.wait(30)
                yield Delta()
                continue
            while delta.text == "<forever>":
                script.hold.wait(0.002)
                yield Delta()
            yield delta


class Heard(Transcription):
    """Understands what the script says, whatever it is given."""

    def feed(self, pcm: bytes) -> str | None:
        """Take it."""
        return None

    def finish(self) -> Transcript:
        """The words of the script."""
        return Transcript(text=script.heard)


class Ear(SpeechToText):
    """A recogniser."""

    name = "ear"
    lane = "thread:ear"
    rank = 1000

    def load(self, model: Path | None) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""

    def open(self, language: str, phrases: tuple[str, ...]) -> Transcription:
        """Listen."""
        return Heard()


class Mouth(TextToSpeech):
    """A voice."""

    name = "mouth"
    lane = "thread:mouth"
    rank = 1000

    def load(self, model: Path | None) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""

    def speak(self, text: str, voice: str) -> Iterator[AudioChunk]:
        """One chunk a sentence."""
        yield AudioChunk(pcm=b"\0\0" * len(text), sample_rate=16_000)


@hookimpl
def register_llm(context: PluginContext) -> Iterator[LanguageModel]:
    """The scripted model."""
    yield Recorder()


@hookimpl
def register_stt(context: PluginContext) -> Iterator[SpeechToText]:
    """The recogniser."""
    yield Ear()


@hookimpl
def register_tts(context: PluginContext) -> Iterator[TextToSpeech]:
    """The voice."""
    yield Mouth()


@hookimpl
def register_tools(context: PluginContext) -> Iterator[Tool]:
    """Tools of every pace."""

    def add(a: int, b: int) -> str:
        """Add two numbers."""
        return f"{a} plus {b} is {a + b}."

    async def meet(name: str) -> str:
        """Come back only when two are here."""
        script.both = script.both or anyio.Event()
        script.met.append(name)
        if len(script.met) == 2:
            script.both.set()
        await script.both.wait()
        if name == "first":
            await anyio.sleep(0.02)
        return f"{name} was here"

    async def never() -> str:
        """Do not come back."""
        await anyio.sleep_forever()
        return ""

    yield from (Tool.of(add), Tool.of(meet), Tool.of(never))


@hookimpl
def register_intents(context: PluginContext) -> Iterator[Intent]:
    """One sentence."""
    yield Intent(tool="add", sentences=("two and two",), arguments={"a": 2, "b": 2})


@hookimpl
def prompt_parts(session: Session) -> str:
    """A sentence that never changes."""
    return "The user is called Ada."


@dataclass
class World:
    """A daemon and what was asked of it."""

    services: Services
    path: Path
    last: list[events.Event] = field(default_factory=list)
    """The events of the last turn."""

    async def ask(self, words: str, session: str = "", **fields: Any) -> events.TurnFinished:
        """A typed turn, to its end."""
        return await self.turn(Say(turn_id=uuid.uuid4().hex, text=words, session_id=session, **fields))

    async def hear(self, session: str = "", **fields: Any) -> events.TurnFinished:
        """A spoken turn, to its end."""
        return await self.turn(Listen(turn_id=uuid.uuid4().hex, session_id=session, **fields))

    async def turn(
        self, command: Say | Listen, until: Callable[[events.Event], bool] = lambda event: False
    ) -> events.TurnFinished:
        """One turn to its end; it is cancelled at the event that ``until`` picks."""
        sessions, self.last = self.services.sessions, []
        async with self.services.bus.subscribe(lambda event: event.turn_id == command.turn_id, 10_000) as found:
            if isinstance(command, Say):
                session = await sessions.say(command)
            else:
                utterance = await sessions.listen(command)
                session = utterance.session
                await utterance.feed(b"\0\0" * 160)
                await utterance.end()
            async for event in found:
                self.last.append(event)
                if isinstance(event, events.TurnFinished):
                    return event
                if until(event):
                    await sessions.cancel(session.id)
        raise AssertionError("the turn never ended")

    async def cancelled(
        self, words: str, session: str, until: Callable[[events.Event], bool]
    ) -> events.TurnFinished:
        """A typed turn that is cancelled at an event."""
        say = Say(turn_id=uuid.uuid4().hex, text=words, session_id=session)
        return await self.turn(say, until)

    async def session(self) -> str:
        """A new conversation."""
        from assistant.store import STORE, Store

        return (await self.services.db.call(STORE, Store.create_session, "cli", "")).id


@asynccontextmanager
async def daemon(folder: Path, tools: ToolSettings | None = None, **llm: Any) -> AsyncIterator[World]:
    """The daemon while the block runs; ``llm`` are settings of that section."""
    fresh = Script()
    vars(script).update(vars(fresh))
    with pytest.MonkeyPatch.context() as patch, installed(folder, patch) as site:
        site.install("recorder", PLUGIN)
        site.paths.make()
        settings = Settings(
            llm=LlmSettings(engine="recorder", **llm), tools=tools or ToolSettings(), plugins=PluginTable(site.bundled)
        )
        async with running(settings, site.paths, lambda: None) as services:
            assert [plugin.name for plugin in services.plugins.plugins if plugin.state == "loaded"] == ["recorder"]
            try:
                yield World(services, site.paths.database)
            finally:
                script.hold.set()
