"""Conversations: the one live turn of each, how it starts, and how it is cancelled."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectSendStream

from . import events
from .engines import STT_SAMPLE_RATE
from .errors import AudioError, PromptError
from .hookspecs import Session
from .store import STORE, Store
from .turn import Parts, Turn, TurnRunner, Voice
from .wire import Listen, Say, SessionInfo

MAX_PROMPT_BYTES = 1 << 20
"""1 MiB of UTF-8; more than any context here holds."""
MAX_UTTERANCE_BYTES = 10 * 60 * STT_SAMPLE_RATE * 2
"""Ten minutes of speech in one turn."""


@dataclass
class LiveTurn:
    """A turn that is running."""

    turn: Turn
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    done: anyio.Event = field(default_factory=anyio.Event)


class Utterance:
    """The speech of one voice turn on its way in."""

    def __init__(self, session: SessionInfo, frames: MemoryObjectSendStream[bytes], live: LiveTurn) -> None:
        self.session = session
        self._frames = frames
        self._live = live
        self._bytes = 0

    async def feed(self, pcm: bytes) -> None:
        """Take the next 16 kHz 16-bit mono PCM; what comes after the turn has ended is ignored.

        Raises:
            AudioError: half a sample, or more than ten minutes.
        """
        self._bytes += len(pcm)
        if len(pcm) % 2:
            raise AudioError("an audio message holds half a sample", hint="send 16-bit PCM in whole samples")
        if self._bytes > MAX_UTTERANCE_BYTES:
            await self.abort()
            hint = "`assistant transcribe` takes any length"
            raise AudioError("a spoken turn may last ten minutes at most", hint=hint)
        try:
            await self._frames.send(pcm)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return

    async def end(self) -> None:
        """The speech is over; the answer begins."""
        await self._frames.aclose()

    async def abort(self) -> None:
        """Cancel the turn."""
        self._live.scope.cancel()
        await self._frames.aclose()


class Sessions:
    """Starts and cancels turns; each conversation has one live turn at most."""

    def __init__(self, parts: Parts, tasks: TaskGroup) -> None:
        self._parts = parts
        self._tasks = tasks
        self._live: dict[str, LiveTurn] = {}
        self._changes = 0
        """How many turns have begun or ended."""
        self._finding = anyio.Lock()

    @property
    def live(self) -> int:
        """How many turns are running."""
        return len(self._live)

    async def say(self, command: Say) -> SessionInfo:
        """Start a typed turn; a live turn of the same conversation is cancelled first.

        Raises:
            PromptError: the prompt is empty or larger than 1 MiB.
            SessionNotFound: no conversation has that id.
        """
        session, _ = await self._say(command, "api" if command.channel == "api" else "text", None)
        return session

    async def answer(self, command: Say, voice: Voice) -> LiveTurn:
        """Start a turn that was spoken here and is answered through ``voice``; see ``say``."""
        ahead = voice.ahead
        if ahead is not None and not ahead.is_for(command):
            ahead.cancel()
            ahead = voice.ahead = None
        if ahead is not None and ahead.session.id:
            turn = Turn(command.turn_id, ahead.session, "voice", text=command.text.strip(), voice=voice)
            return await self._start(self._as_asked(turn, command))
        _, live = await self._say(command, "voice", voice)
        return live

    def unchanged(self) -> Callable[[], bool]:
        """What tells whether every conversation is still as it is now."""
        now = self._changes
        return lambda: self._changes == now

    async def newest(self, channel: str) -> SessionInfo | None:
        """The conversation of a channel that new words continue; None if they begin another."""
        since = time.time() - self._parts.settings.sessions.resume_minutes * 60
        return await self._parts.db.call(STORE, Store.latest_session, channel, since)

    def is_live(self, session_id: str) -> bool:
        """Whether a turn of that conversation is running."""
        return session_id in self._live

    async def _say(self, command: Say, source: events.TurnSource, voice: Voice | None) -> tuple[SessionInfo, LiveTurn]:
        """Start a turn whose words are known.

        Raises:
            PromptError: the prompt is empty or larger than 1 MiB.
            SessionNotFound: no conversation has that id.
        """
        text = command.text.strip()
        if not text:
            raise PromptError("the prompt is empty", hint='ask something: assistant ask "What time is it?"')
        if (size := len(text.encode())) > MAX_PROMPT_BYTES:
            raise PromptError(
                f"the prompt has {size:,} bytes; at most {MAX_PROMPT_BYTES:,} are taken", hint="send a part of it"
            )
        turn = Turn(command.turn_id, Session("", command.channel), source, text=text, voice=voice)
        return await self._begin(command, turn)

    async def listen(self, command: Listen) -> Utterance:
        """Start a spoken turn, whose audio is then fed to the utterance.

        Raises:
            SessionNotFound: no conversation has that id.
        """
        send, receive = anyio.create_memory_object_stream[bytes](1000)
        turn = Turn(command.turn_id, Session("", command.channel), "voice", audio=receive)
        try:
            session, live = await self._begin(command, turn)
        except BaseException:
            send.close()
            receive.close()
            raise
        return Utterance(session, send, live)

    async def cancel(self, session_id: str, turn_id: str = "") -> bool:
        """Cancel the live turn and wait for its end; False if there is none, or another than ``turn_id``."""
        live = self._live.get(session_id)
        if live is None or (turn_id and live.turn.id != turn_id):
            return False
        live.scope.cancel()
        await live.done.wait()
        return True

    async def cancel_all(self) -> None:
        """Cancel every live turn and wait for their ends."""
        for session_id in list(self._live):
            await self.cancel(session_id)

    async def _begin(self, command: Say | Listen, turn: Turn) -> tuple[SessionInfo, LiveTurn]:
        """Find the conversation and start the turn in it; two commands that name none never get the same one."""
        async with nullcontext() if command.session_id else self._finding:
            session = await self._session(command, turn.source == "voice")
            turn.session = Session(session.id, command.channel)
            return session, await self._start(self._as_asked(turn, command))

    def _as_asked(self, turn: Turn, command: Say | Listen) -> Turn:
        turn.speak, turn.model, turn.adapter = command.speak, command.model, command.adapter
        turn.schema, turn.tools, turn.persona = command.schema, command.tools, command.persona
        return turn

    async def _session(self, command: Say | Listen, spoken: bool) -> SessionInfo:
        """The conversation that is meant: the one named, the newest of the channel, or a new one.

        A command that names none does not interrupt an answer, unless it is spoken: then it is meant to.
        """
        db = self._parts.db
        if command.session_id:
            return await db.call(STORE, Store.session, command.session_id)
        if not command.new:
            recent = await self.newest(command.channel)
            if recent is not None and (recent.id not in self._live or spoken):
                return recent
        return await db.call(STORE, Store.create_session, command.channel, "")

    async def _start(self, turn: Turn) -> LiveTurn:
        session_id = turn.session.id
        while session_id in self._live:
            await self.cancel(session_id)
        live = self._live[session_id] = LiveTurn(turn)
        self._changes += 1
        try:
            if turn.voice is None:  # what was said here is written while it is answered
                await self._parts.db.call(STORE, Store.begin_turn, session_id, turn.id, turn.source, turn.text)
        except BaseException:
            self._ended(session_id, live)
            raise
        turn.began = time.perf_counter()
        started = events.TurnStarted(source=turn.source, session_id=session_id, turn_id=turn.id)
        self._parts.bus.publish(started)
        self._tasks.start_soon(self._run, turn, live)
        return live

    async def _run(self, turn: Turn, live: LiveTurn) -> None:
        try:
            with live.scope:
                await TurnRunner(self._parts, turn).run()
        finally:
            if turn.audio is not None:
                turn.audio.close()
            self._ended(turn.session.id, live)

    def _ended(self, session_id: str, live: LiveTurn) -> None:
        del self._live[session_id]
        self._changes += 1
        live.done.set()
