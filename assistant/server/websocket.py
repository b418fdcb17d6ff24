"""The WebSocket: commands and audio in, events out; one connection may hold several turns."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
from litestar import WebSocket, websocket
from litestar.exceptions import WebSocketDisconnect
from litestar.handlers import WebsocketRouteHandler

from assistant import events
from assistant.errors import AssistantError, AudioError
from assistant.events import CommandFailed, DaemonStopping, Event, SubscriberLagged, TurnFinished
from assistant.services import Services
from assistant.store import STORE, Store
from assistant.wire import Attend, Cancel, Command, EndAudio, Listen, Say, Subscribe, error_info

from .failures import RequestError

if TYPE_CHECKING:
    from assistant.sessions import Utterance

log = logging.getLogger(__name__)

STALL_SECONDS = 30.0
"""How long one event may wait for a client that does not read."""
GOING_AWAY = 1001
"""RFC 6455, section 7.4.1."""
TRY_AGAIN_LATER = 1013
"""From the WebSocket close-code registry: the client may connect again."""

TURN_ID = re.compile(r"[0-9a-fA-F]{32}")
SAY = '{"type": "say", "turn_id": "<32 hexadecimal digits>", "text": "hello"}'
LISTEN = '{"type": "listen", "turn_id": "<32 hexadecimal digits>"}'

_commands: msgspec.json.Decoder[Command] = msgspec.json.Decoder(Command)

Socket = WebSocket[Any, Any, Any]


def events_route(services: Services, stall_seconds: float) -> WebsocketRouteHandler:
    """The handler of ``/api/events``."""

    @websocket("/api/events")
    async def serve_events(socket: Socket) -> None:
        connection = Connection(services, socket, stall_seconds)
        async with services.bus.subscribe(connection.wants) as stream:
            with suppress(OSError, WebSocketDisconnect):
                await socket.accept()
                await connection.run(stream)

    return serve_events


class Connection:
    """One client: what it wants to see, and the speech it is sending."""

    def __init__(self, services: Services, socket: Socket, stall_seconds: float) -> None:
        self._services = services
        self._socket = socket
        self._stall_seconds = stall_seconds
        self._scope = anyio.CancelScope()
        self._turns: set[str] = set()
        self._sessions: set[str] = set()
        self._all = False
        self._utterance: Utterance | None = None
        self._spoken_turn = ""
        self._ignores_audio = False
        self._attends = False

    def wants(self, event: Event) -> bool:
        """Whether the event goes to this client."""
        return (
            not event.session_id or self._all or event.turn_id in self._turns or event.session_id in self._sessions
        )

    async def run(self, stream: AsyncIterator[Event]) -> None:
        """Read and write until either side ends; speech that was not ended is dropped."""
        try:
            with self._scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._write, stream)
                    await self._read()
                    self._scope.cancel()
        finally:
            if self._attends:
                self._services.voice.depart()
            if self._utterance is not None:
                with anyio.CancelScope(shield=True):
                    await self._utterance.abort()

    async def _write(self, stream: AsyncIterator[Event]) -> None:
        async for event in stream:
            await self._send(event)
            match event:
                case TurnFinished():
                    self._turns.discard(event.turn_id)
                case SubscriberLagged():
                    log.warning("a client read too slowly and missed %d events; it is dropped", event.missed)
                    await self._close(TRY_AGAIN_LATER, "too slow")
                    break
                case DaemonStopping():
                    await self._close(GOING_AWAY, "the daemon is stopping")
                    break
        self._scope.cancel()

    async def _send(self, event: Event) -> None:
        """Send, or end the connection if the client is gone or does not read."""
        try:
            with anyio.fail_after(self._stall_seconds):
                await self._socket.send_data(events.encode(event).decode())
        except TimeoutError:
            log.warning("a client did not read for %g s; it is dropped", self._stall_seconds)
            self._scope.cancel()
        except (OSError, WebSocketDisconnect):
            self._scope.cancel()

    async def _close(self, code: int, reason: str) -> None:
        with anyio.move_on_after(self._stall_seconds), suppress(OSError, WebSocketDisconnect):
            await self._socket.close(code, reason)

    async def _read(self) -> None:
        while True:
            try:
                message: Any = await self._socket.receive()
            except WebSocketDisconnect:
                return
            if message["type"] != "websocket.receive":
                return
            if (text := message.get("text")) is not None:
                await self._on_text(text)
            else:
                await self._on_audio(bytes(message.get("bytes") or b""))

    async def _on_text(self, text: str) -> None:
        turn_id = ""
        try:
            command = _decode(text)
            if isinstance(command, Say | Listen | Cancel):
                turn_id = command.turn_id
            with anyio.CancelScope(shield=True):
                await self._obey(command)
        except AssistantError as problem:
            await self._refuse(problem, turn_id)

    async def _obey(self, command: Command) -> None:
        match command:
            case Say():
                await self._say(command)
            case Listen():
                await self._listen(command)
            case EndAudio():
                await self._end_audio()
            case Cancel():
                await self._services.sessions.cancel(command.session_id, command.turn_id)
            case Subscribe(session_id=""):
                self._all = True
            case Subscribe():
                session = await self._services.db.call(STORE, Store.session, command.session_id)
                self._sessions.add(session.id)
            case Attend() if not self._attends:
                self._attends = True
                self._services.voice.attend()

    async def _say(self, command: Say) -> None:
        self._expect(command.turn_id)
        try:
            await self._services.sessions.say(command)
        except AssistantError:
            self._turns.discard(command.turn_id)
            raise

    async def _listen(self, command: Listen) -> None:
        """Begin to take audio; a client has one microphone, so speech that is still open is given up."""
        if self._utterance is not None:
            await self._utterance.abort()
            self._utterance = None
        self._ignores_audio = True
        self._expect(command.turn_id)
        try:
            self._utterance = await self._services.sessions.listen(command)
        except AssistantError:
            self._turns.discard(command.turn_id)
            raise
        self._spoken_turn = command.turn_id
        self._ignores_audio = False

    async def _on_audio(self, pcm: bytes) -> None:
        """Take audio; after a refusal, what was on its way already is ignored up to the next ``Listen``."""
        if self._ignores_audio:
            return
        if self._utterance is None:
            self._ignores_audio = True
            await self._refuse(RequestError("audio came without a listen command", hint=f"send {LISTEN} first"))
            return
        try:
            await self._utterance.feed(pcm)
        except AudioError as problem:
            await self._utterance.abort()
            self._utterance, self._ignores_audio = None, True
            await self._refuse(problem, self._spoken_turn)

    async def _end_audio(self) -> None:
        utterance, self._utterance = self._utterance, None
        ignored, self._ignores_audio = self._ignores_audio, False
        if utterance is not None:
            await utterance.end()
        elif not ignored:
            raise RequestError("there is no speech to end", hint=f"send {LISTEN} first")

    def _expect(self, turn_id: str) -> None:
        """Want the events of a turn from its first on, which is published before the turn's start is confirmed."""
        if not TURN_ID.fullmatch(turn_id):
            raise RequestError(f"{turn_id[:40]!r} is not a turn id", hint="32 hexadecimal digits: uuid.uuid4().hex")
        if turn_id in self._turns:
            raise RequestError(f"the turn id {turn_id!r} is in use", hint="each turn needs a new one")
        self._turns.add(turn_id)

    async def _refuse(self, problem: AssistantError, turn_id: str = "") -> None:
        await self._send(CommandFailed(error=error_info(problem), turn_id=turn_id))


def _decode(text: str) -> Command:
    try:
        return _commands.decode(text)
    except msgspec.DecodeError as problem:
        raise RequestError(f"not a command: {problem}", hint=f"send {SAY}") from problem
