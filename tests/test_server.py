"""The HTTP routes, over a real socket."""

from __future__ import annotations

import http.client
import json
import logging
import os
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import msgspec
import pytest
from serverkit import Beeper, World, assembled, new_id, served, until_finished

from assistant import __version__
from assistant.engines import AudioChunk
from assistant.errors import (
    AssistantError,
    AudioError,
    DaemonUnreachable,
    EngineFailed,
    EngineNotFound,
    ModelDownloadFailed,
    ModelError,
    ModelNotFound,
    PromptError,
    SessionNotFound,
)
from assistant.events import TurnFinished
from assistant.hookspecs import Route
from assistant.server.auth import refusal
from assistant.wire import PluginInfo, Say

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A served daemon."""
    async with assembled(tmp_path) as world, served(world):
        yield world


class UnixHttp(http.client.HTTPConnection):
    """The standard library's client on a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self.path = path

    def connect(self) -> None:
        """Open the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self.path))


def exchange(path: Path, method: str, target: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
    connection = UnixHttp(path)
    try:
        connection.request(method, target, body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


async def raw(
    world: World, method: str, target: str, body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, Any]]:
    status, content = await anyio.to_thread.run_sync(exchange, world.paths.socket, method, target, body, headers)
    return status, json.loads(content) if content else {}


async def test_status_tells_what_the_daemon_is_and_costs(world: World) -> None:
    world.plugins.plugins += [
        PluginInfo(name="a", version="1", distribution="a", state="loaded"),
        PluginInfo(name="b", version="1", distribution="b", state="failed", reason="no"),
        PluginInfo(name="c", version="1", distribution="c", state="disabled"),
    ]
    await world.client.create_session("one")
    status = await world.client.status()
    assert (status.version, status.pid, status.socket) == (__version__, os.getpid(), str(world.paths.socket))
    assert (status.llm, status.stt, status.tts) == ("echo", "counter", "beeper")
    assert (status.plugins_loaded, status.plugins_failed, status.sessions, status.live_turns) == (1, 1, 1, 0)
    assert [engine.plugin for engine in status.engines] == ["plugin-of-echo", "plugin-of-counter", "plugin-of-beeper"]
    assert "thread:store" in [lane.name for lane in status.lanes]
    assert status.rss > 1 << 20
    assert status.home_config == ""
    world.paths.config_file.write_text("")
    assert (await world.client.status()).home_config == str(world.paths.config_file)


async def test_conversations_are_made_listed_renamed_and_removed(world: World) -> None:
    first = await world.client.create_session("first", "tui")
    second = await world.client.create_session()
    assert (first.title, first.channel, second.channel) == ("first", "tui", "api")
    assert {session.id for session in await world.client.sessions()} == {first.id, second.id}
    assert len(await world.client.sessions(limit=1)) == 1
    assert await world.client.sessions(limit=10, offset=2) == []
    assert (await world.client.rename(first.id[:4], "other")).title == "other"
    assert (await world.client.conversation(first.id)).session.title == "other"
    await world.client.remove_session(first.id)
    assert [session.id for session in await world.client.sessions()] == [second.id]


async def test_a_conversation_has_its_messages_and_is_found(world: World) -> None:
    turn = new_id()
    async with world.client.connect() as connection:
        await connection.send(Say(turn_id=turn, text="the quick fox"))
        await until_finished(connection, turn)
    (session,) = await world.client.sessions()
    conversation = await world.client.conversation(session.id)
    assert [(message.role, message.text.strip()) for message in conversation.messages] == [
        ("user", "the quick fox"), ("assistant", "the quick fox"),
    ]  # fmt: skip
    hits = await world.client.search("quick", limit=5)
    assert {hit.session_id for hit in hits} == {session.id}
    assert "[quick]" in hits[0].snippet
    assert await world.client.search("absent") == []


async def test_removing_a_conversation_cancels_its_live_turn(world: World) -> None:
    turn = new_id()
    async with world.client.connect() as connection:
        await connection.send(Say(turn_id=turn, text="forever"))
        started = await anext(connection)
        await world.client.remove_session(started.session_id)
        finished = (await until_finished(connection, turn))[-1]
    assert isinstance(finished, TurnFinished)
    assert finished.reason == "cancelled"
    assert await world.client.sessions() == []


async def test_a_conversation_that_is_not_there(world: World) -> None:
    with pytest.raises(SessionNotFound):
        await world.client.conversation("nothere1")
    with pytest.raises(SessionNotFound):
        await world.client.rename("nothere1", "x")
    with pytest.raises(SessionNotFound):
        await world.client.remove_session("nothere1")
    status, body = await raw(world, "GET", "/api/sessions/nothere1")
    assert status == 404
    assert body["error"]["code"] == "session_not_found"


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "names"),
    [
        ("GET", "/api/sessions?limit=many", None, 400, "limit"),
        ("GET", "/api/sessions?limit=0", None, 400, "limit"),
        ("GET", "/api/sessions?offset=-1", None, 400, "offset"),
        ("GET", "/api/search", None, 400, "q"),
        ("POST", "/api/sessions", b'{"titel": "x"}', 400, "titel"),
        ("POST", "/api/sessions", b"{", 400, "truncated"),
        ("POST", "/api/models/pull", b'{"name": 3}', 400, "name"),
        ("GET", "/api/nowhere", None, 404, ""),
        ("PUT", "/api/status", b"", 405, ""),
        ("GET", "/plugins/none/x", None, 404, "none"),
    ],
)
async def test_a_malformed_request_is_told_what_is_wrong(
    world: World, *, method: str, target: str, body: bytes | None, status: int, names: str
) -> None:
    found, answer = await raw(world, method, target, body)
    assert found == status
    assert answer["error"]["code"] == "request"
    assert names.lower() in answer["error"]["message"].lower()


async def test_plugins_are_listed(world: World) -> None:
    world.plugins.plugins.append(PluginInfo(name="a", version="1", distribution="a", state="failed", reason="no"))
    assert await world.client.plugins() == world.plugins.plugins


async def test_models_are_listed_fetched_and_removed(world: World) -> None:
    assert len(await world.client.models()) == 3
    async with world.client.connect() as connection:
        assert (await world.client.pull_model("hf:test/small")).present
        progress = [await anext(connection), await anext(connection)]
    assert [msgspec.structs.asdict(event)["done"] for event in progress] == [1, 2]
    assert (await world.client.model("hf:test/small")).present
    await world.client.remove_model("hf:test/small")
    assert not (await world.client.model("hf:test/small")).present
    assert (await world.client.model("/folder/model")).name == "/folder/model"


async def test_models_are_loaded_and_unloaded(world: World) -> None:
    loaded = await world.client.load_model("starter")
    assert (loaded.loaded, loaded.pinned) == (True, False)
    assert [model.name for model in await world.client.models() if model.loaded] == ["starter"]
    held = (await world.client.status()).models
    assert [(each.model, each.kind, each.users) for each in held] == [("starter", "llm", 0)]
    await world.client.unload_model("starter")
    assert not (await world.client.model("starter")).loaded
    assert (await world.client.status()).models == ()
    with pytest.raises(ModelNotFound, match="is not loaded"):
        await world.client.unload_model("starter")
    with pytest.raises(ModelDownloadFailed):
        await world.client.load_model("hf:test/offline")


async def test_a_model_in_use_is_neither_unloaded_nor_removed(world: World) -> None:
    async with world.services.pool.using("llm", model="starter"):
        with pytest.raises(ModelError, match="is in use"):
            await world.client.unload_model("starter")
        with pytest.raises(ModelError, match="is in use"):
            await world.client.remove_model("starter")
    await world.client.remove_model("starter")
    assert not (await world.client.model("starter")).loaded


async def test_models_that_cannot_be_had(world: World) -> None:
    with pytest.raises(ModelNotFound):
        await world.client.pull_model("hf:test/absent")
    with pytest.raises(ModelNotFound):
        await world.client.model("hf:test/absent")
    with pytest.raises(ModelNotFound):
        await world.client.remove_model("hf:test/absent")
    with pytest.raises(ModelDownloadFailed):
        await world.client.pull_model("hf:test/offline")
    status, body = await raw(world, "POST", "/api/models/pull", b'{"name": "hf:test/offline"}')
    assert status == 503
    assert body["error"]["permanent"] is False


async def test_audio_is_transcribed(world: World) -> None:
    transcript = await world.client.transcribe(bytes(64_000), "de")
    assert (transcript.text, transcript.language, transcript.seconds) == ("64000 bytes", "de", 2.0)
    assert (await world.client.transcribe(bytes(2))).language == "en"


async def test_audio_that_is_none(world: World) -> None:
    with pytest.raises(AudioError):
        await world.client.transcribe(b"")
    with pytest.raises(AudioError):
        await world.client.transcribe(bytes(3))
    world.plugins.engines.clear()
    with pytest.raises(EngineNotFound):
        await world.client.transcribe(bytes(2))


async def collect(world: World, text: str, voice: str = "") -> list[AudioChunk]:
    return [chunk async for chunk in world.client.speak(text, voice)]


async def test_speech_comes_with_its_sample_rate(world: World) -> None:
    chunks = await collect(world, "one two three", "abc")
    assert {chunk.sample_rate for chunk in chunks} == {22_050}
    assert b"".join(chunk.pcm for chunk in chunks) == b"".join(bytes([n, 3]) * 100 for n in range(3))


async def test_speech_that_cannot_be_made(world: World) -> None:
    with pytest.raises(PromptError):
        await collect(world, "  ")
    with pytest.raises(EngineFailed, match="the voice broke"):
        await collect(world, "broken")
    with pytest.raises(DaemonUnreachable):
        await collect(world, "one broken")
    world.plugins.engines.clear()
    with pytest.raises(EngineNotFound):
        await collect(world, "one")


async def test_a_listener_who_leaves_stops_the_voice(world: World) -> None:
    beeper: Beeper = world.beeper
    speech = world.client.speak("forever")
    await anext(speech)
    assert not beeper.stopped.is_set()
    await speech.aclose()
    assert await anyio.to_thread.run_sync(beeper.stopped.wait, 10)


async def test_a_plugin_serves_its_routes(world: World) -> None:
    async def shout(body: bytes) -> bytes:
        return msgspec.json.encode(body.decode().upper())

    async def fail(body: bytes) -> bytes:
        raise ValueError("oh no")

    async def refuse(body: bytes) -> bytes:
        raise AudioError("not audio")

    world.plugins.routes += [
        ("loud", Route("POST", "shout", shout)), ("loud", Route("GET", "/a/b", shout)),
        ("loud", Route("DELETE", "fail", fail)), ("loud", Route("GET", "refuse", refuse)),
    ]  # fmt: skip
    assert await world.client.post("/plugins/loud/shout", b"hello", str) == "HELLO"
    assert await world.client.get("/plugins/loud/a/b", str) == ""
    with pytest.raises(AudioError):
        await world.client.get("/plugins/loud/refuse", str)
    with pytest.raises(AssistantError, match="no route GET 'shout'"):
        await world.client.get("/plugins/loud/shout", str)


async def test_a_bug_is_answered_and_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async def fail(body: bytes) -> bytes:
        raise ValueError("oh no")

    world.plugins.routes.append(("sad", Route("GET", "fail", fail)))
    with caplog.at_level(logging.ERROR):
        status, body = await raw(world, "GET", "/plugins/sad/fail")
    assert (status, body["error"]["code"]) == (500, "internal")
    assert "'sad'" in body["error"]["message"]
    assert "oh no" in caplog.text
    assert "Traceback" in caplog.text


async def test_stop_asks_the_daemon_to_go(world: World) -> None:
    await world.client.stop()
    with anyio.fail_after(5):
        await world.stopped.wait()


async def test_the_openapi_document_needs_no_other_host(world: World) -> None:
    status, document = await raw(world, "GET", "/api/schema")
    assert status == 200
    assert {"/api/status", "/api/sessions/{session_id}", "/api/speak"} <= document["paths"].keys()


async def test_web_pages_of_other_hosts_are_refused(world: World) -> None:
    for origin in ("http://evil.example", "null", "http://localhost.evil.example", "https://[::"):
        status, body = await raw(world, "GET", "/api/status", Origin=origin)
        assert (status, body["error"]["code"]) == (403, "request")
    for origin in ("http://localhost:3000", "http://127.0.0.1", "http://[::1]:80"):
        assert (await raw(world, "GET", "/api/status", Origin=origin))[0] == 200
    status, _ = await raw(world, "POST", "/api/stop", b"", Origin="http://evil.example")
    assert status == 403
    assert not world.stopped.is_set()


@pytest.mark.parametrize(
    ("host", "refused"), [("localhost:80", False), ("127.0.0.1", False), ("evil.example", True), (None, True)]
)
def test_over_tcp_only_loopback_names_are_served(host: str | None, refused: bool) -> None:
    assert bool(refusal(None, host, over_tcp=True)) is refused
    assert refusal(None, host, over_tcp=False) == ""


async def test_a_body_that_is_too_large_is_refused_with_a_reason(world: World) -> None:
    with pytest.raises(AssistantError, match=r"(?i)too large"):
        await world.client.post("/api/sessions", {"title": "x" * (20 << 20)}, dict[str, str])


async def test_an_answer_takes_as_long_as_it_takes(world: World) -> None:
    async def slow(body: bytes) -> bytes:
        await anyio.sleep(0.3)
        return b"1"

    world.plugins.routes.append(("slow", Route("POST", "x", slow)))
    before = time.time()
    assert await world.client.post("/plugins/slow/x", None, int) == 1
    assert (await world.client.status()).started_at <= before
