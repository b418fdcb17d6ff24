"""A daemon with a model that follows scripts, and OpenAI's own client of it."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx2
import msgspec
import openai
from serverkit import LANE, World, assembled

from assistant.engines import ChatRequest, Delta, LanguageModel, ToolCall
from assistant.errors import ContextOverflow, EngineCrashed, EngineFailed, ModelError
from assistant.server.app import build_api, build_app
from assistant.server.listener import bind, serving
from assistant.server.openai.gate import Gate
from assistant.server.tcp import bind_tcp, url
from assistant.server.token import read as read_token

FAILURES = {
    "overflow": ContextOverflow("the prompt has 9 tokens, and the model's context is 8", hint="shorten it"),
    "refuse": ModelError("this schema cannot be enforced", hint="write another"),
    "crash": EngineCrashed("the lane died"),
    "break": EngineFailed("it broke"),
}
ENDLESS = {"forever": Delta(text=". "), "flood": Delta(text="." * 100_000), "prefill": Delta(prompt_tokens=100_000)}
BROKEN = ToolCall(id="x", name="weather", arguments={}, error="it is no JSON", text='{"name": "weath')
SCRIPTS = {
    "think": [
        Delta(prompt_done=5, prompt_tokens=10), Delta(reasoning="hm, "), Delta(reasoning="well"), Delta(text="It is "),
        Delta(text="4."),
    ],
    "cut": [Delta(text="and so on")],
    "tools": [
        Delta(text="Let me see."),
        Delta(tool_call=ToolCall(id="one", name="weather", arguments={"city": "Zürich"})),
        Delta(tool_call=ToolCall(id="two", name="time", arguments={})),
    ],
    "unreadable": [Delta(tool_call=BROKEN)],
}  # fmt: skip
FINISH: dict[str, Any] = {"cut": "length", "tools": "tool_calls", "unreadable": "tool_calls"}


class Chatty(LanguageModel):
    """Does what the last message says, a word a step."""

    name = "chatty"
    lane = LANE
    rank = 1
    default_model = "starter"

    def __init__(self) -> None:
        self.running: list[ChatRequest] = []
        self.ended = threading.Event()
        self.requests: list[ChatRequest] = []

    @property
    def live(self) -> int:
        """How many answers are being made."""
        return len(self.running)

    def load(self, model: Path | None) -> None:
        """Nothing to load."""

    def close(self) -> None:
        """Nothing to give back."""

    def generate(self, request: ChatRequest) -> Iterator[Delta]:
        """Answer."""
        self.requests.append(request)
        self.running.append(request)
        try:
            yield from self._steps(request.messages[-1].content.split())
        finally:
            self.running.remove(request)
            self.ended.set()

    def _steps(self, words: list[str]) -> Iterator[Delta]:
        match words:
            case ["count", number]:
                for i in range(int(number)):
                    time.sleep(0.002)
                    yield Delta(text=f"{i} ")
            case [endless] if endless in ENDLESS:
                for done in itertools.count():
                    time.sleep(0.002)
                    yield msgspec.structs.replace(ENDLESS[endless], prompt_done=done)
            case ["fail", name]:
                raise FAILURES[name]
            case ["late", name]:
                yield Delta(text="so far")
                raise FAILURES[name]
            case [scripted] if scripted in SCRIPTS:
                yield from SCRIPTS[scripted]
            case _:
                yield Delta(text="you said: " + " ".join(words))
        finish = FINISH.get(words[0], "stop")
        yield Delta(finish_reason=finish, prompt_tokens=10, output_tokens=4, cached_tokens=6)


@dataclass
class Api:
    """A daemon with its API on both sockets."""

    world: World
    engine: Chatty
    url: str
    token: str
    gate: Gate

    @asynccontextmanager
    async def client(self, *, unix: bool = False, key: str = "") -> AsyncIterator[openai.AsyncOpenAI]:
        """OpenAI's client, as its users make it."""
        if unix:
            transport = httpx2.AsyncHTTPTransport(uds=str(self.world.paths.socket))
            http = openai.DefaultAsyncHttpxClient(transport=transport)
            client = openai.AsyncOpenAI(base_url="http://localhost/v1", api_key="none", http_client=http)
        else:
            client = openai.AsyncOpenAI(base_url=self.url, api_key=key or self.token)
        async with client.with_options(max_retries=0) as ready:
            yield ready

    @asynccontextmanager
    async def raw(self) -> AsyncIterator[httpx2.AsyncClient]:
        """HTTP by hand, with the token."""
        sent = {"Authorization": f"Bearer {self.token}"}
        async with httpx2.AsyncClient(base_url=self.url.removesuffix("/v1"), headers=sent) as client:
            yield client


@asynccontextmanager
async def served_api(home: Path) -> AsyncIterator[Api]:
    """A served daemon whose model is ``Chatty``."""
    async with assembled(home) as world:
        engine, gate = Chatty(), Gate()
        world.plugins.engines["llm", engine.name] = engine
        with bind(world.paths) as sock, bind_tcp("127.0.0.1:0") as tcp:
            assert tcp is not None
            both = build_app(world.services, gate=gate), build_api(world.services, gate)
            async with serving(both[0], sock, (both[1], tcp)):
                yield Api(world, engine, url(tcp), read_token(world.paths.token), gate)


def user(text: str) -> list[Any]:
    """A conversation of one message."""
    return [{"role": "user", "content": text}]


def chunks_of(text: str) -> list[Any]:
    """The messages of a stream."""
    return [json.loads(line[6:]) for line in text.split("\n\n") if line.startswith("data: {")]


async def wait_until(condition: Any) -> None:
    """Return once the condition is true; fail if it never is."""
    with anyio.fail_after(20):
        while True:
            if condition():
                return
            await anyio.sleep(0.005)
