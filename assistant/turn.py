"""One turn, text or audio in, events out: the only place where the stages meet."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from . import events
from .engines import ChatRequest, Delta, LanguageModel, Message, SpeechToText, ToolCall, ToolSchema, Transcription
from .errors import AssistantError, AudioError, ContextOverflow
from .hookspecs import Session
from .lanes import Priority
from .speech import speak_sentence
from .store import STORE, Store
from .toolbox import ToolOutcome, call_tool
from .voice.speakable import SentenceSplitter
from .wire import StoredMessage, StoredToolCall

if TYPE_CHECKING:
    from .bus import Bus
    from .config import Settings
    from .intents import IntentMatcher
    from .lanes import Lane
    from .plugins import PluginHost
    from .pool import EnginePool, Ready

log = logging.getLogger(__name__)

LOG_HINT = "this is a bug; `assistant logs` has the details"
INTERRUPTED_NOTE = " [interrupted]"
"""Appended to a half answer when the model reads the history."""


@dataclass(frozen=True)
class Parts:
    """What a turn needs of the daemon."""

    settings: Settings
    bus: Bus
    db: Lane
    plugins: PluginHost
    pool: EnginePool
    matcher: IntentMatcher


@dataclass
class Turn:
    """What is known of a turn while it runs."""

    id: str
    session: Session
    source: events.TurnSource
    text: str = ""
    """The user's words; of a voice turn, once they are understood."""
    audio: MemoryObjectReceiveStream[bytes] | None = None
    speak: bool = False
    model: str = ""
    answer: str = ""
    timings: dict[str, float] = field(default_factory=dict)
    prompt_tokens: int = 0
    output_tokens: int = 0
    began: float = field(default_factory=time.perf_counter)

    def mark(self, stage: str) -> None:
        """Note when a stage was first reached."""
        self.timings.setdefault(stage, time.perf_counter() - self.began)


class TurnRunner:
    """Runs one turn to its end."""

    def __init__(self, parts: Parts, turn: Turn) -> None:
        self._parts = parts
        self._turn = turn
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
                error = info(next(_leaves(group)))
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
        turn, parts = self._turn, self._parts
        voice = await parts.pool.ready("tts") if turn.speak else None
        if turn.audio is not None:
            await self._listen(turn.audio)
        self._publish(events.FinalTranscript(text=turn.text))
        await parts.db.call(STORE, Store.add_user_message, turn.session.id, turn.id, turn.text)
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

    async def _listen(self, audio: MemoryObjectReceiveStream[bytes]) -> None:
        turn, parts = self._turn, self._parts
        ready = await parts.pool.ready("stt")
        language = parts.settings.assistant.language
        lane = ready.lane
        handle = await lane.open(
            ready.key, SpeechToText.open, language, parts.matcher.phrases(), priority=Priority.SPEECH
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
        match = parts.matcher.match(turn.text)
        if match is None:
            await self._converse()
            return
        turn.mark("intent")
        call = ToolCall(id=f"{turn.id[:8]}-intent", name=match.tool, arguments=dict(match.arguments))
        outcome = await self._call_tool(call, "intent")
        await self._say(outcome.result)

    async def _converse(self) -> None:
        turn, parts = self._turn, self._parts
        ready = await parts.pool.ready("llm", model=turn.model)
        messages = await self._messages()
        tools = tuple(tool.schema() for _, tool in sorted(parts.plugins.tools.items()))
        for round_number in range(parts.settings.tools.max_rounds + 1):
            offered = tools if round_number < parts.settings.tools.max_rounds else ()
            before = len(turn.answer)
            calls = await self._generate(ready, messages, offered)
            if not calls:
                return
            outcomes = await self._call_tools(calls)
            messages.append(Message(role="assistant", content=turn.answer[before:], tool_calls=tuple(calls)))
            messages.extend(
                Message(role="tool", content=outcome.result, tool_call_id=call.id)
                for call, outcome in zip(calls, outcomes, strict=True)
            )

    async def _messages(self) -> list[Message]:
        turn, parts = self._turn, self._parts
        settings = parts.settings
        system = [settings.assistant.system_prompt, *parts.plugins.prompt_parts(turn.session)]
        messages = [Message(role="system", content="\n".join(part for part in system if part))]
        history = await parts.db.call(STORE, Store.recent, turn.session.id, settings.llm.history_messages)
        return messages + _as_prompt(history)

    async def _generate(self, ready: Ready, messages: list[Message], tools: tuple[ToolSchema, ...]) -> list[ToolCall]:
        """One answer of the model; the oldest messages are dropped until the prompt fits its context."""
        settings = self._parts.settings.llm
        while True:
            request = ChatRequest(
                messages=tuple(messages),
                tools=tools,
                max_tokens=settings.max_tokens,
                temperature=settings.temperature,
                top_p=settings.top_p,
            )
            try:
                return await self._stream(ready, request)
            except ContextOverflow:
                last_question = max(i for i, message in enumerate(messages) if message.role == "user")
                if last_question <= 1:
                    raise
                del messages[1 : 1 + max(1, (last_question - 1) // 2)]

    async def _stream(self, ready: Ready, request: ChatRequest) -> list[ToolCall]:
        turn = self._turn
        calls: list[ToolCall] = []
        stream = ready.lane.stream(ready.key, LanguageModel.generate, request, priority=Priority.CONVERSATION)
        async with stream as deltas:
            async for delta in deltas:
                if delta.tool_call is not None:
                    calls.append(delta.tool_call)
                await self._on_delta(delta)
        turn.mark("model")
        return calls

    async def _on_delta(self, delta: Delta) -> None:
        turn = self._turn
        if delta.text:
            turn.mark("first_token")
            await self._say(delta.text)
        if delta.reasoning:
            self._publish(events.ReasoningDelta(text=delta.reasoning))
        if delta.finish_reason:
            turn.prompt_tokens += delta.prompt_tokens
            turn.output_tokens += delta.output_tokens
        elif delta.prompt_tokens:
            self._publish(events.PromptProgressed(done=delta.prompt_done, total=delta.prompt_tokens))

    async def _say(self, text: str) -> None:
        self._turn.answer += text
        self._publish(events.TextDelta(text=text))
        if self._sentences is not None:
            for sentence in self._splitter.feed(text):
                await self._sentences.send(sentence)

    async def _speak(self, voice: Ready, sentences: MemoryObjectReceiveStream[str]) -> None:
        async with sentences:
            async for sentence in sentences:
                async with aclosing(speak_sentence(voice, sentence, self._parts.settings.tts.voice)) as chunks:
                    async for chunk in chunks:
                        self._turn.mark("first_audio")
                        self._publish(events.SpeechSynthesized(pcm=chunk.pcm, sample_rate=chunk.sample_rate))

    async def _call_tools(self, calls: list[ToolCall]) -> list[ToolOutcome]:
        outcomes: dict[int, ToolOutcome] = {}

        async def run(index: int, call: ToolCall) -> None:
            outcomes[index] = await self._call_tool(call, "model")

        async with anyio.create_task_group() as tasks:
            for index, call in enumerate(calls):
                tasks.start_soon(run, index, call)
        return [outcomes[index] for index in range(len(calls))]

    async def _call_tool(self, call: ToolCall, origin: events.ToolOrigin) -> ToolOutcome:
        parts, turn = self._parts, self._turn
        tool = parts.plugins.tools.get(call.name)
        refusal = "" if tool else f"There is no tool named {call.name!r}."
        if tool and (verdict := parts.plugins.review(call, turn.session)) and verdict.decision != "allow":
            why = "it needs an approval that nobody can give here" if verdict.decision == "ask" else "it is denied"
            refusal = f"The call of {call.name!r} did not run: {why}. {verdict.reason}".strip()
        self._publish(
            events.ToolCallStarted(call_id=call.id, tool=call.name, arguments=call.arguments, origin=origin)
        )
        if tool is None or refusal:
            outcome = ToolOutcome(ok=False, result=refusal, seconds=0.0)
        else:
            outcome = await call_tool(tool, call, parts.settings.tools.timeout_seconds)
        self._publish(
            events.ToolCallFinished(
                call_id=call.id, tool=call.name, ok=outcome.ok, result=outcome.result, seconds=outcome.seconds
            )
        )
        record = StoredToolCall(
            id=call.id, tool=call.name, arguments=call.arguments, result=outcome.result, ok=outcome.ok,
            seconds=outcome.seconds,
        )
        await parts.db.call(STORE, Store.add_tool_call, turn.id, record)
        return outcome

    async def _finish(self, reason: events.TurnReason, error: events.ErrorInfo | None) -> None:
        turn, db = self._turn, self._parts.db
        turn.mark("total")
        try:
            await db.call(
                STORE, Store.finish_turn, turn.id, reason, turn.answer, error, turn.timings, turn.prompt_tokens,
                turn.output_tokens,
            )
        except AssistantError as problem:
            reason, error = "failed", error or info(problem)
        self._publish(
            events.TurnFinished(
                reason=reason, text=turn.answer, error=error, timings=turn.timings,
                prompt_tokens=turn.prompt_tokens, output_tokens=turn.output_tokens,
            )
        )

    def _publish(self, event: events.Event) -> None:
        self._parts.bus.publish(events.within(event, self._turn.session.id, self._turn.id))


def _as_prompt(history: list[StoredMessage]) -> list[Message]:
    """What the model reads of the past: questions that got an answer, in turn, and the question that is open."""
    messages: list[Message] = []
    for stored in history:
        if stored.state in ("failed", "interrupted"):
            continue
        if messages and messages[-1].role == "user" and stored.role == "user":
            messages.pop()
        cut_off = stored.role == "assistant" and stored.state == "cancelled"
        messages.append(Message(role=stored.role, content=stored.text + INTERRUPTED_NOTE if cut_off else stored.text))
    while messages and messages[0].role == "assistant":
        messages.pop(0)
    return messages


def info(error: AssistantError) -> events.ErrorInfo:
    """An error as it travels."""
    return events.ErrorInfo(code=error.code, message=error.message, hint=error.hint, permanent=error.permanent)


def _leaves(group: BaseExceptionGroup[AssistantError]) -> Iterator[AssistantError]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
