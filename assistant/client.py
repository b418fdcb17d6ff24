"""The client of the daemon, used by the command line, the terminal UI and the tests.

Nothing heavy is imported before it is needed: HTTP is the standard library's over the Unix socket, in a worker
thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, ParamSpec, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from . import events, unixhttp
from .engines import AudioChunk, Transcript
from .errors import AssistantError, DaemonError, from_code
from .events import Event
from .wire import Command, Conversation, ErrorBody, ModelInfo, PluginInfo, SearchHit, SessionInfo, Status, VoiceInfo

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

    from .finetune import AdapterInfo, FinetuneRequest

log = logging.getLogger(__name__)

T = TypeVar("T")
P = ParamSpec("P")

QUICK_SECONDS = 30.0
"""How long the answer to a question that needs no model may take."""
MAX_EVENT_BYTES = 64 << 20
VoiceAction = Literal["listen", "stop", "leave", "mute", "unmute", "talk", "release", "hush"]
ORDERLY = (1000, 1001, 1012, 1013)
"""Close codes of a daemon that ends the connection on purpose."""


class Client:
    """Talks to the daemon at a Unix socket; holds no connection between calls."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket

    async def get(self, path: str, type: type[T], **query: str | int) -> T:
        """Fetch an answer.

        Raises:
            DaemonUnreachable: nothing answers on the socket.
            AssistantError: what the daemon says is wrong.
        """
        return _decode(await self._ask("GET", path, query, timeout=QUICK_SECONDS), type)

    async def post(self, path: str, body: object, type: type[T], **query: str | int) -> T:
        """Send something (``bytes`` as they are, else as JSON) and wait for the answer as long as it takes.

        Raises: see ``get``.
        """
        return _decode(await self._ask("POST", path, query, body), type)

    async def patch(self, path: str, body: object, type: type[T]) -> T:
        """Change something.

        Raises: see ``get``.
        """
        return _decode(await self._ask("PATCH", path, {}, body, QUICK_SECONDS), type)

    async def delete(self, path: str) -> None:
        """Remove something.

        Raises: see ``get``.
        """
        await self._ask("DELETE", path, {}, timeout=QUICK_SECONDS)

    async def status(self) -> Status:
        """The daemon at a glance."""
        return await self.get("/api/status", Status)

    async def stop(self) -> None:
        """Ask the daemon to go down; it does so after the answer."""
        await self._ask("POST", "/api/stop", {}, timeout=QUICK_SECONDS)

    async def sessions(self, limit: int = 50, offset: int = 0) -> list[SessionInfo]:
        """Conversations, the newest first."""
        return await self.get("/api/sessions", list[SessionInfo], limit=limit, offset=offset)

    async def create_session(self, title: str = "", channel: str = "api") -> SessionInfo:
        """Begin a conversation."""
        return await self.post("/api/sessions", {"title": title, "channel": channel}, SessionInfo)

    async def conversation(self, session_id: str) -> Conversation:
        """A conversation with its messages; a unique beginning of its id is enough."""
        return await self.get(f"/api/sessions/{_part(session_id)}", Conversation)

    async def rename(self, session_id: str, title: str) -> SessionInfo:
        """Give a conversation another title."""
        return await self.patch(f"/api/sessions/{_part(session_id)}", {"title": title}, SessionInfo)

    async def remove_session(self, session_id: str) -> None:
        """Forget a conversation."""
        await self.delete(f"/api/sessions/{_part(session_id)}")

    async def search(self, query: str, limit: int = 20) -> list[SearchHit]:
        """Messages that match."""
        return await self.get("/api/search", list[SearchHit], q=query, limit=limit)

    async def plugins(self) -> list[PluginInfo]:
        """Every plugin that the daemon found."""
        return await self.get("/api/plugins", list[PluginInfo])

    async def models(self) -> list[ModelInfo]:
        """Models that are known or on the disk."""
        return await self.get("/api/models", list[ModelInfo])

    async def model(self, name: str) -> ModelInfo:
        """One model."""
        return await self.get(f"/api/models/{_part(name)}", ModelInfo)

    async def pull_model(self, name: str, *, force: bool = False) -> ModelInfo:
        """Fetch a model, however long it takes; ``ModelProgressed`` events tell how far it is.

        Args:
            force: also if the machine has not the memory for it.
        """
        return await self.post("/api/models/pull", {"name": name, "force": force}, ModelInfo)

    async def load_model(self, name: str) -> ModelInfo:
        """Load a language model, which is fetched if it is absent."""
        return await self.post("/api/models/load", {"name": name}, ModelInfo)

    async def unload_model(self, name: str) -> None:
        """Unload a language model that is not in use, by its name or the key of its engine."""
        await self._ask("POST", "/api/models/unload", {}, {"name": name})

    async def remove_model(self, name: str) -> None:
        """Delete a model from the disk."""
        await self.delete(f"/api/models/{_part(name)}")

    async def adapters(self) -> list[AdapterInfo]:
        """Adapters, and how their training stands."""
        from .finetune import AdapterInfo

        return await self.get("/api/finetune", list[AdapterInfo])

    async def adapter(self, name: str) -> AdapterInfo:
        """One adapter."""
        from .finetune import AdapterInfo

        return await self.get(f"/api/finetune/{_part(name)}", AdapterInfo)

    async def finetune(self, request: FinetuneRequest) -> AdapterInfo:
        """Begin to train; ``FinetuneProgressed`` and ``FinetuneFinished`` events follow."""
        from .finetune import AdapterInfo

        return await self.post("/api/finetune", request, AdapterInfo)

    async def cancel_finetune(self, name: str) -> bool:
        """Stop a training and wait until it is saved; False if it does not run."""
        return await self.post(f"/api/finetune/{_part(name)}/cancel", None, bool)

    async def remove_adapter(self, name: str) -> None:
        """Delete an adapter with its data."""
        await self.delete(f"/api/finetune/{_part(name)}")

    async def transcribe(self, pcm: bytes, language: str = "") -> Transcript:
        """What is said in 16 kHz 16-bit little-endian mono PCM; no language: the configured one."""
        query = {"language": language} if language else {}
        return await self.post("/api/transcribe", pcm, Transcript, **query)

    async def speak(self, text: str, voice: str = "") -> AsyncGenerator[AudioChunk, None]:
        """The text as speech, as it is made; closing the iterator stops the voice."""
        async with self._exchange("POST", "/api/speak", {"text": text, "voice": voice}) as exchange:
            rate = _decode(exchange.header("X-Sample-Rate").encode(), int)
            rest = b""
            while data := await _in_thread(exchange, exchange.read_some):
                whole = rest + data
                rest = whole[len(whole) & ~1 :]
                if pcm := whole[: len(whole) & ~1]:
                    yield AudioChunk(pcm=pcm, sample_rate=rate)

    async def voice_info(self) -> VoiceInfo | None:
        """What the listening loop does; None if it does not listen."""
        return _maybe(await self._ask("GET", "/api/voice", {}, timeout=QUICK_SECONDS), VoiceInfo)

    async def voice(self, action: VoiceAction) -> VoiceInfo | None:
        """Tell the listening loop what to do.

        Args:
            action: ``leave``: stop, unless the configuration says to listen always; ``talk`` and ``release``: a key to
                talk is held, and let go; ``hush``: be quiet, and forget what is being said.

        Returns: what is going on afterwards; None if it does not listen.

        Raises:
            VoiceError: it cannot listen; or it does not, and is asked for anything but ``listen``, ``stop``, ``leave``.
            AssistantError: what else the daemon says is wrong.
        """
        return _maybe(await self._ask("POST", "/api/voice", {}, {"action": action}), VoiceInfo)

    async def simulate(self, pcm: bytes) -> AsyncGenerator[Event, None]:
        """The listening loop over 16 kHz 16-bit mono PCM: its events, at last all that was played, in pieces.

        Raises:
            AssistantError: it cannot be done, or not to its end.
        """
        async with self._exchange("POST", "/api/voice/simulate", pcm) as exchange:
            rest = bytearray()
            event: Event | None = None
            while data := await _in_thread(exchange, exchange.read_some):
                *lines, tail = data.split(b"\n")
                for line in lines:
                    event = events.decode(bytes(rest) + line)
                    rest.clear()
                    yield event
                rest += tail
        if isinstance(event, events.VoiceFailed):
            raise from_code(event.error.code, event.error.message, event.error.hint)
        if not isinstance(event, events.SpeechSynthesized):
            raise unixhttp.cut()

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Connection]:
        """A connection for turns and events.

        Raises:
            DaemonUnreachable: nothing answers on the socket.
        """
        from websockets.asyncio.client import unix_connect
        from websockets.exceptions import InvalidHandshake

        try:
            link = await unix_connect(
                str(self.socket), "ws://localhost/api/events", compression=None, max_size=MAX_EVENT_BYTES,
                ping_interval=None, close_timeout=1, open_timeout=QUICK_SECONDS, user_agent_header=None,
            )
        except (OSError, InvalidHandshake) as problem:
            raise unixhttp.unreachable(self.socket, problem) from problem
        try:
            yield Connection(link)
        finally:
            await link.close()

    async def _ask(
        self, method: str, path: str, query: dict[str, str | int], body: object = None, timeout: float | None = None
    ) -> bytes:
        target = f"{path}?{urlencode(query)}" if query else path
        async with self._exchange(method, target, body, timeout) as exchange:
            return await _in_thread(exchange, exchange.read_all)

    @asynccontextmanager
    async def _exchange(
        self, method: str, target: str, body: object = None, timeout: float | None = None
    ) -> AsyncIterator[unixhttp.Exchange]:
        """A request whose answer has begun and is not an error."""
        content = body if isinstance(body, bytes) or body is None else msgspec.json.encode(body)
        exchange = unixhttp.Exchange(self.socket, timeout)
        try:
            status = await _in_thread(exchange, exchange.send, method, target, content, isinstance(body, bytes))
            if status >= 400:
                raise _error(status, await _in_thread(exchange, exchange.read_all))
            yield exchange
        finally:
            exchange.close()


class Connection:
    """An open WebSocket: commands and audio out, events in."""

    def __init__(self, link: ClientConnection) -> None:
        self._link = link

    async def send(self, command: Command) -> None:
        """Send a command.

        Raises:
            DaemonUnreachable: the connection was cut.
        """
        await self._send(msgspec.json.encode(command).decode())

    async def send_audio(self, pcm: bytes) -> None:
        """Send speech after a ``Listen``: 16 kHz 16-bit little-endian mono PCM.

        Raises:
            DaemonUnreachable: the connection was cut.
        """
        await self._send(pcm)

    async def _send(self, message: str | bytes) -> None:
        from websockets.exceptions import ConnectionClosed

        try:
            await self._link.send(message)
        except ConnectionClosed as problem:
            raise unixhttp.cut() from problem

    def __aiter__(self) -> Connection:
        return self

    async def __anext__(self) -> Event:
        """The next event; the iteration ends when the daemon closes the connection in good order.

        Raises:
            DaemonUnreachable: the connection was cut.
        """
        from websockets.exceptions import ConnectionClosed

        while True:
            try:
                line = await self._link.recv(decode=False)
            except ConnectionClosed as problem:
                if problem.rcvd is not None and problem.rcvd.code in ORDERLY:
                    raise StopAsyncIteration from None
                raise unixhttp.cut() from problem
            try:
                return events.decode(line)
            except msgspec.ValidationError as problem:
                log.debug("skipped an event that a newer daemon may have sent: %s", problem)


async def _in_thread(exchange: unixhttp.Exchange, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run one blocking step; a cancelled caller cuts the connection, so that no thread stays behind."""
    try:
        return await asyncio.to_thread(work, *args, **kwargs)
    except asyncio.CancelledError:
        exchange.abort()
        raise


def _part(name: str) -> str:
    return quote(name, safe="")


def _decode(content: bytes, type: type[T]) -> T:
    try:
        return msgspec.json.decode(content, type=type)
    except msgspec.DecodeError as problem:
        raise DaemonError(
            f"the daemon's answer is not understood: {problem}",
            hint="it may be of another version: `assistant down && assistant up`",
        ) from problem


def _maybe(content: bytes, type: type[T]) -> T | None:
    """What may be null, which is sent as nothing at all."""
    return None if content.strip() in (b"", b"null") else _decode(content, type)


def _error(status: int, content: bytes) -> AssistantError:
    try:
        error = msgspec.json.decode(content, type=ErrorBody).error
    except msgspec.DecodeError:
        return DaemonError(f"the daemon answered with HTTP status {status}", hint="`assistant logs` has the details")
    return from_code(error.code, error.message, error.hint)
