"""The client, against a real server and against servers that misbehave."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from serverkit import World, assembled, new_id, served
from websockets.asyncio.server import ServerConnection, unix_serve

from assistant import events
from assistant.client import Client
from assistant.errors import AssistantError, DaemonError, DaemonUnreachable
from assistant.events import TextDelta
from assistant.wire import Say, SessionInfo, Status

pytestmark = pytest.mark.anyio

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

HEAVY = {"anyio", "litestar", "uvicorn", "numpy", "websockets", "httpx", "http.client", "rich", "textual", "click"}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A served daemon."""
    async with assembled(tmp_path) as world, served(world):
        yield world


@asynccontextmanager
async def scripted(path: Path, answer: Answer) -> AsyncIterator[Client]:
    """A client of a server that does what ``answer`` does with every connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(reader, writer)
        finally:
            writer.close()
            await writer.wait_closed()

    async with await asyncio.start_unix_server(serve, path):
        yield Client(path)


def saying(content: bytes) -> Answer:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(content)
        await writer.drain()

    return answer


def test_importing_it_is_cheap() -> None:
    code = "import sys, assistant.client; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "assistant.client" in loaded
    assert HEAVY.isdisjoint(loaded)


async def everything_fails(client: Client) -> list[DaemonUnreachable]:
    found: list[DaemonUnreachable] = []

    async def connect() -> None:
        async with client.connect():
            pass

    async def speak() -> None:
        async for _ in client.speak("hello"):
            pass

    for work in (client.status, client.sessions, client.stop, connect, speak):
        with pytest.raises(DaemonUnreachable) as error:
            await work()
        found.append(error.value)
    return found


async def test_no_daemon(tmp_path: Path) -> None:
    for error in await everything_fails(Client(tmp_path / "daemon.sock")):
        assert error.message == "the daemon is not running"
        assert "assistant up" in error.hint


async def test_a_socket_that_nobody_listens_on(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    for error in await everything_fails(Client(path)):
        assert error.message == "the daemon is not running"


async def test_a_path_that_no_socket_can_have(tmp_path: Path) -> None:
    for error in await everything_fails(Client(tmp_path / ("x" * 200))):
        assert "cannot reach the daemon" in error.message


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nX-Sample-Rate: 1\r\nContent-Length: 100\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nX-Sample-Rate: 1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"I am no web server\r\n\r\n",
    ],
)
async def test_a_connection_that_is_cut(tmp_path: Path, content: bytes) -> None:
    async with scripted(tmp_path / "s", saying(content)) as client:
        for error in await everything_fails(client):
            assert error.hint


async def test_an_answer_that_is_not_understood(tmp_path: Path) -> None:
    content = b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"version":1}'
    async with scripted(tmp_path / "s", saying(content)) as client:
        with pytest.raises(DaemonError, match="not understood"):
            await client.status()


async def test_speech_without_a_rate_is_not_understood(tmp_path: Path) -> None:
    async with scripted(tmp_path / "s", saying(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab")) as client:
        with pytest.raises(DaemonError, match="not understood"):
            async for _ in client.speak("hello"):
                pass


async def test_an_error_that_is_not_understood(tmp_path: Path) -> None:
    content = b"HTTP/1.1 502 Bad\r\nContent-Length: 4\r\n\r\noops"
    async with scripted(tmp_path / "s", saying(content)) as client:
        with pytest.raises(DaemonError, match="502"):
            await client.status()


async def test_an_answer_before_the_request_was_read_is_seen(tmp_path: Path) -> None:
    body = b'{"error": {"code": "audio", "message": "too long"}}'
    content = b"HTTP/1.1 413 Too Large\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    async with scripted(tmp_path / "s", saying(content)) as client:
        with pytest.raises(AssistantError, match="too long"):
            await client.transcribe(bytes(8 << 20))


async def test_a_cancelled_request_is_cut(tmp_path: Path) -> None:
    asked, left = anyio.Event(), anyio.Event()

    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        assert await reader.read() == b""
        left.set()

    async with scripted(tmp_path / "s", never) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(client.get, "/api/status", Status)
        await asked.wait()
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True), anyio.fail_after(10):
            await left.wait()


async def test_unknown_events_are_skipped(tmp_path: Path) -> None:
    async def serve(link: ServerConnection) -> None:
        await link.send('{"type": "moon_landed", "at": 1}')
        await link.send('{"type": "text_delta", "text": "x", "at": 1, "mood": "new field"}')
        await link.send('{"type": "text_delta", "text": 7}')
        await link.send(events.encode(TextDelta(text="y")).decode())

    async with unix_serve(serve, str(tmp_path / "s")), Client(tmp_path / "s").connect() as connection:
        found = [event.text for event in [event async for event in connection] if isinstance(event, TextDelta)]
    assert found == ["x", "y"]


async def test_a_websocket_that_is_cut(tmp_path: Path) -> None:
    async def serve(link: ServerConnection) -> None:
        link.transport.abort()

    async with unix_serve(serve, str(tmp_path / "s")), Client(tmp_path / "s").connect() as connection:
        with pytest.raises(DaemonUnreachable, match="cut"):
            await anext(connection)
        with pytest.raises(DaemonUnreachable, match="cut"):
            await connection.send(Say(turn_id=new_id(), text="x"))
        with pytest.raises(DaemonUnreachable, match="cut"):
            await connection.send_audio(b"\0\0")


async def test_a_websocket_that_is_refused(tmp_path: Path) -> None:
    content = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"
    async with scripted(tmp_path / "s", saying(content)) as client:
        with pytest.raises(DaemonUnreachable, match="500"):
            async with client.connect():
                pass


async def test_audio_arrives_in_whole_samples(tmp_path: Path) -> None:
    head = b"HTTP/1.1 200 OK\r\nX-Sample-Rate: 8000\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with scripted(tmp_path / "s", saying(head + b"3\r\nabc\r\n4\r\ndefg\r\n1\r\nh\r\n0\r\n\r\n")) as client:
        chunks = [chunk async for chunk in client.speak("x")]
    assert all(len(chunk.pcm) % 2 == 0 for chunk in chunks)
    assert b"".join(chunk.pcm for chunk in chunks) == b"abcdefgh"
    assert {chunk.sample_rate for chunk in chunks} == {8000}


async def test_many_requests_at_once(world: World) -> None:
    made: list[SessionInfo] = []

    async def make(number: int) -> None:
        made.append(await world.client.create_session(f"number {number}"))

    async with anyio.create_task_group() as tasks:
        for number in range(40):
            tasks.start_soon(make, number)
    assert len({session.id for session in made}) == 40
    assert len(await world.client.sessions(limit=100)) == 40


async def test_words_of_any_script_survive(world: World) -> None:
    session = await world.client.create_session("größe & 天気?")
    assert (await world.client.conversation(session.id)).session.title == "größe & 天気?"
    assert await world.client.search("größe & 天気?#") == []
