"""One turn, text or audio in, events out: the only place where the stages meet."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, nullcontext
from typing import TYPE_CHECKING

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from assistant import events
from assistant.engines import AudioChunk, SpeechToText, ToolCall, Transcription
from assistant.errors import AssistantError, AudioError, leaves
from assistant.lanes import Priority
from assistant.speech import speak_sentence
from assistant.store import STORE, Store
from assistant.voice.speakable import SentenceSplitter
from assistant.wire import error_info

from .calling import ToolCalls
from .conversing import Conversing
from .journal import Journal

if TYPE_CHECKING:
    from assistant.pool import Ready

    from .state import Parts, Turn

log = logging.getLogger(__name__)

LOG_HINT = "this is a bug; `assistant logs` has the details"


class TurnRunner:
    """Runs one turn to its end."""

    def __init__(self, parts: Parts, turn: Turn) -> None:
        self._parts = parts
        self._turn = turn
        self._journal = Journal(parts.db)
        self._written = False
        self._sentences: MemoryObjectSendStream[str] | None = None
        self._splitter = SentenceSplitter()

    async def run(self) -> None:
        """Run the stages; whichever way it ends, the end is stored and published, once.

        A bug fails this turn and no other.
        """
        reason: events.TurnReason = "failed"
        error: events.ErrorInfo | None = None
        try:
            try:
                await self._stages()
                reason = "complete"
            except* AssistantError as group:
                error = error_info(next(leaves(group)))
        except anyio.get_cancelled_exc_class():
            reason = "cancelled"
            raise
        except Exception as bug:
            log.exception("turn %s failed", self._turn.id)
            error = events.ErrorInfo(code="internal", message=f"{type(bug).__name__}: {bug}", hint=LOG_HINT)
        finally:
            with anyio.CancelScope(shield=True):
                await self._finish(reason, error)

    async def _stages(self) -> None:
        turn, pool = self._turn, self._parts.pool
        async with self._journal:
            try:
                async with (
                    pool.speech() if turn.source == "voice" else nullcontext(),
                    pool.using("tts") if turn.aloud else nullcontext() as voice,
                ):
                    if turn.audio is not None:
                        async with pool.using("stt") as ear:
                            await self._listen(turn.audio, ear)
                    await self._respond(voice)
            finally:
                self._write_down()
                if turn.voice is not None and turn.voice.ahead is not None:
                    turn.voice.ahead.cancel()

    async def _respond(self, voice: Ready | None) -> None:
        self._publish(events.FinalTranscript(text=self._turn.text))
        if voice is None:
            await self._answer()
            return
        send, receive = anyio.create_memory_object_stream[str](100)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._speak, voice, receive)
            async with send:
                self._sentences = send
                await self._answer()
                for sentence in self._splitter.flush():
                    await send.send(sentence)

    def _write_down(self) -> None:
        """Write what was said, unless it was typed: then it is written before the turn begins."""
        turn, written = self._turn, self._written
        self._written = True
        if written or not turn.text:
            return
        if turn.voice is not None:
            self._journal.write(Store.begin_turn, turn.session.id, turn.id, turn.source, turn.text)
        elif turn.audio is not None:
            self._journal.write(Store.add_user_message, turn.session.id, turn.id, turn.text)

    async def _listen(self, audio: MemoryObjectReceiveStream[bytes], ear: Ready) -> None:
        turn, parts = self._turn, self._parts
        language = parts.settings.assistant.language
        lane = ear.lane
        handle = await lane.open(
            ear.key, SpeechToText.open, language, parts.matcher.phrases(), priority=Priority.SPEECH
        )
        try:
            heard = ""
            async with audio:
                async for pcm in audio:
                    partial = await lane.call(handle, Transcription.feed, pcm, priority=Priority.SPEECH)
                    if partial and partial != heard:
                        heard = partial
                        self._publish(events.PartialTranscript(text=partial))
            turn.began = time.perf_counter()
            transcript = await lane.call(handle, Transcription.finish, priority=Priority.SPEECH)
        finally:
            with anyio.CancelScope(shield=True):
                await lane.release(handle)
        turn.mark("transcript")
        turn.text = transcript.text.strip()
        if not turn.text:
            raise AudioError("no speech was recognised", hint="speak closer to the microphone, or check the recording")

    async def _answer(self) -> None:
        turn, parts = self._turn, self._parts
        calls = ToolCalls(parts, turn, self._journal, self._publish)
        for_model = turn.schema is not None or turn.tools is False
        match = None if for_model else parts.matcher.match(turn.text)
        if match is None:
            conversing = Conversing(parts, turn, calls, self._publish, self._say)
            await conversing.recall()
            self._write_down()
            await conversing.run()
            return
        self._write_down()
        turn.mark("intent")
        call = ToolCall(id=f"{turn.id[:8]}-intent", name=match.tool, arguments=dict(match.arguments))
        await self._say((await calls.run(call, "intent")).result)

    async def _say(self, text: str) -> None:
        self._turn.answer += text
        self._publish(events.TextDelta(text=text))
        if self._sentences is not None:
            for sentence in self._splitter.feed(text):
                await self._sentences.send(sentence)

    async def _speak(self, voice: Ready, sentences: MemoryObjectReceiveStream[str]) -> None:
        output = self._turn.voice.output if self._turn.voice is not None else None
        if output is not None:
            output.begin()
        async with sentences:
            async for sentence in sentences:
                if output is not None:
                    await output.room()
                async with aclosing(self._sound(voice, sentence)) as chunks:
                    async for chunk in chunks:
                        self._turn.mark("first_audio")
                        if output is not None:
                            output.add(sentence, chunk)
                        else:
                            self._publish(events.SpeechSynthesized(pcm=chunk.pcm, sample_rate=chunk.sample_rate))
                if output is not None:
                    output.end_sentence()
        if output is not None:
            await output.finish()

    def _sound(self, voice: Ready, sentence: str) -> AsyncGenerator[AudioChunk]:
        """A sentence as speech; the first one may have been synthesised while the end was not yet certain."""
        ahead = self._turn.voice.ahead if self._turn.voice is not None else None
        if ahead is not None and ahead.speaks(sentence):
            return ahead.sound.all()
        return speak_sentence(voice, sentence, self._parts.settings.tts.voice)

    async def _finish(self, reason: events.TurnReason, error: events.ErrorInfo | None) -> None:
        turn, db = self._turn, self._parts.db
        turn.mark("total")
        if turn.voice is not None and reason != "complete":
            turn.answer = turn.voice.output.stop()
        try:
            await db.call(
                STORE,
                Store.finish_turn,
                turn.id,
                reason,
                turn.answer,
                error,
                turn.timings,
                turn.prompt_tokens,
                turn.output_tokens,
                turn.cached_tokens,
            )
        except AssistantError as problem:
            reason, error = "failed", error or error_info(problem)
        turn.reason = reason
        self._publish(
            events.TurnFinished(
                reason=reason,
                text=turn.answer,
                error=error,
                timings=turn.timings,
                prompt_tokens=turn.prompt_tokens,
                output_tokens=turn.output_tokens,
                cached_tokens=turn.cached_tokens,
            )
        )

    def _publish(self, event: events.Event) -> None:
        self._parts.bus.publish(events.within(event, self._turn.session.id, self._turn.id))
