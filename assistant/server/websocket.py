"""The WebSocket: commands and audio in, events out; one connection may hold several turns."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator
from typing import Any

import anyio
import msgspec
from litestar import WebSocket, websocket
from litestar.exceptions import WebSocketDisconnect
from litestar.handlers import WebsocketRouteHandler

from .. import events
from ..errors import AssistantError, AudioError, PromptError
from ..events import CommandFailed, DaemonStopping, ErrorInfo, Event, SubscriberLagged, TurnFinished
from ..services import Services
from ..sessions import Utterance
from ..store import STORE, Store
from ..wire import Cancel, Command, EndAudio, Listen, Say, Subscribe
from .failures import BAD_REQUEST, info

log = logging.getLogger(__name__)

STALL_SECONDS = 30.0
"""How long one event may wait for a client that does not read."""
GOING_AWAY = 1001
"""RFC 6455, section 7.4.1."""
TRY_AGAIN_LATER = 1013
"""From the WebSocket close-code registry: the client may connect again."""

TURN_ID = re.compile(r"[0-9a-fA-F]{32}")
EXAMPLE = '{"type": "say", "turn_id": "<32 hexadecimal digits>", "text": "hello"}'

_commands: msgspec.json.Decoder[Command] = msgspec.json.Decoder(Command)

Socket = WebSocket[Any, Any, Any]


def events_route(services: Services, stall_seconds: float) -> WebsocketRouteHandler:
    """The handler of ``/api/events``."""

    @websocket("/api/events")
    async def serve_events(socket: Socket) -> None:
        connection = Connection(services, socket, stall_seconds)
        async with services.bus.subscribe(connection.wants) as stream:
            await socket.accept()
            await connection.run(stream)

    return serve_events


class Connection:
    """One client: what it wants to see, and the speech it is sending."""

    def __init__(self, services: Services, socket: Socket, stall_seconds: float) -> None:
        self._services = services
        self._socket = socket
        self._stall_seconds = stall_seconds
        self._turns: set[str] = set()
        self._sessions: set[str] = set()
        self._all = False
        self._utterance: Utterance | None = None
        self._ignores_audio = False

    def wants(self, event: Event) -> bool:
        """Whether the event goes to this client."""
        return (
            not event.session_id or self._all or event.turn_id in self._turns or event.session_id in self._sessions
        )

    async def run(self, stream: AsyncIterator[Event]) -> None:
        """Read and write until either side ends; speech that was not ended is dropped."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._write, stream, tasks.cancel_scope)
                await self._read()
                tasks.cancel_scope.cancel()
        finally:
            if self._utterance is not None:
                with anyio.CancelScope(shield=True):
                    await self._utterance.abort()

    async def _write(self, stream: AsyncIterator[Event], scope: anyio.CancelScope) -> None:
        async for event in stream:
            if not await self._send(event):
                log.warning("a client did not read for %g s and is dropped", self._stall_seconds)
                break
            if isinstance(event, TurnFinished):
                self._turns.discard(event.turn_id)
            if isinstance(event, SubscriberLagged):
                log.warning("a client read too slowly and missed %d events; it is dropped", event.missed)
                await self._close(TRY_AGAIN_LATER, "too slow")
                break
            if isinstance(event, DaemonStopping):
                await self._close(GOING_AWAY, "the daemon is stopping")
                break
        scope.cancel()

    async def _send(self, event: Event) -> bool:
        """False if the client is not reading."""
        with anyio.move_on_after(self._stall_seconds) as deadline:
            await self._socket.send_data(events.encode(event).decode())
        return not deadline.cancelled_caught

    async def _close(self, code: int, reason: str) -> None:
        with anyio.move_on_after(self._stall_seconds):
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
        try:
            command = _commands.decode(text)
        except msgspec.DecodeError as problem:
            await self._refuse(ErrorInfo(code=BAD_REQUEST, message=f"not a command: {problem}", hint=f"send {EXAMPLE}"))
            return
        turn_id = "" if isinstance(command, EndAudio | Subscribe) else command.turn_id
        try:
            await self._obey(command)
        except AssistantError as problem:
            await self._refuse(info(problem), turn_id)

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
        self._listening = command.turn_id
        self._ignores_audio = False

    async def _on_audio(self, pcm: bytes) -> None:
        """Take audio; after a refusal, what was on its way already is ignored up to the next ``Listen``."""
        if self._ignores_audio:
            return
        try:
            if self._utterance is None:
                raise AudioError("audio came without a listen command", hint='send {"type": "listen", ...} first')
            await self._utterance.feed(pcm)
        except AudioError as problem:
            turn_id = self._listening if self._utterance is not None else ""
            utterance, self._utterance, self._ignores_audio = self._utterance, None, True
            if utterance is not None:
                await utterance.abort()
            await self._refuse(info(problem), turn_id)

    async def _end_audio(self) -> None:
        utterance, self._utterance = self._utterance, None
        ignored, self._ignores_audio = self._ignores_audio, False
        if utterance is not None:
            await utterance.end()
        elif not ignored:
            raise AudioError("there is no speech to end", hint='send {"type": "listen", ...} first')

    def _expect(self, turn_id: str) -> None:
        """Want the events of a turn from its first on, which is published before the turn's start is confirmed."""
        if not TURN_ID.fullmatch(turn_id):
            raise PromptError(f"the turn id {turn_id!r} is not 32 hexadecimal digits", hint="uuid.uuid4().hex is one")
        if turn_id in self._turns:
            raise PromptError(f"the turn id {turn_id!r} is in use", hint="each turn needs a new one")
        self._turns.add(turn_id)

    async def _refuse(self, error: ErrorInfo, turn_id: str = "") -> None:
        await self._send(CommandFailed(error=error, turn_id=turn_id))
