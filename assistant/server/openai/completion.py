"""One chat completion as an HTTP answer: whole, or streamed while it is made."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgspec
from litestar.types import Receive, Scope, Send

from assistant.engines import Delta, LanguageModel
from assistant.errors import AssistantError
from assistant.lanes import Priority
from assistant.services import Services

from . import names
from .answering import Answer
from .asking import Ask
from .failures import body_of, send_error
from .gate import Gate
from .shapes import AnswerDelta, Chunk

log = logging.getLogger(__name__)

STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]  # fmt: skip


class ChatAnswer:
    """An ASGI answer; a client that goes away, or does not read, ends the work within one step."""

    def __init__(self, services: Services, gate: Gate, ask: Ask) -> None:
        self._services = services
        self._gate = gate
        self._ask = ask
        self._answer = Answer(ask.model, ask.one_call)
        self._started = False
        self._ended = False
        self._quiet = True
        self._sending = anyio.Lock()
        self._scope = anyio.CancelScope()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; whatever fails is told in OpenAI's form, at the end of a stream that has begun."""
        failure: AssistantError | None = None
        began = time.perf_counter()
        with self._scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._cancel_when_gone, receive)
                if self._ask.stream:
                    tasks.start_soon(self._keep_alive, send)
                try:
                    with self._gate.enter():
                        await (self._stream(send) if self._ask.stream else self._whole(send))
                except AssistantError as problem:
                    failure = problem
                    await self._fail(problem, send)
                tasks.cancel_scope.cancel()
        self._note(failure, time.perf_counter() - began)

    async def _whole(self, send: Send) -> None:
        async with self._deltas() as deltas:
            async for delta in deltas:
                self._answer.take(delta)
                if self._answer.end:
                    break
        content = msgspec.json.encode(self._answer.completion())
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
        await self._start(headers, send)
        await send({"type": "http.response.body", "body": content, "more_body": False})

    async def _stream(self, send: Send) -> None:
        answer, counted = self._answer, self._ask.usage
        async with self._deltas() as deltas:
            async for delta in deltas:
                await self._open(send)
                if (seen := answer.take(delta)) is not None:
                    await self._say(answer.chunk(seen, counted=counted), send)
                if answer.end:
                    break
        await self._open(send)
        await self._say(answer.chunk(AnswerDelta(), last=True, counted=counted), send)
        if counted:
            await self._say(answer.usage_chunk(), send)
        await self._write(b"data: [DONE]\n\n", send, more=False)

    @asynccontextmanager
    async def _deltas(self) -> AsyncIterator[AsyncIterator[Delta]]:
        """The model's answer, once the model is loaded."""
        services, ask = self._services, self._ask
        model = await names.choose(services, ask.model)
        self._answer.model = model or names.configured(services)
        adapter = await names.adapter(services, ask.adapter, model)
        request = msgspec.structs.replace(ask.request, adapter=adapter)
        async with (
            services.pool.using("llm", model=model) as ready,
            ready.lane.stream(ready.key, LanguageModel.generate, request, priority=Priority.CONVERSATION) as deltas,
        ):
            yield deltas

    async def _keep_alive(self, send: Send) -> None:
        while True:
            await anyio.sleep(self._gate.keep_alive_seconds)
            if self._quiet:
                await self._open(send)
                done, total = self._answer.prompt_done, self._answer.prompt_tokens
                await self._write(f": {done} of {total} prompt tokens read\n\n".encode(), send)
            self._quiet = True

    async def _open(self, send: Send) -> None:
        """Begin the stream; until then a failure is an HTTP error."""
        async with self._sending:
            if self._started:
                return
            await self._start(STREAM_HEADERS, send)
        role = AnswerDelta(role="assistant", content="")
        await self._say(self._answer.chunk(role, counted=self._ask.usage), send)

    async def _start(self, headers: list[tuple[bytes, bytes]], send: Send) -> None:
        self._started = True
        raw = [*headers, (b"x-request-id", self._answer.id.encode())]
        await send({"type": "http.response.start", "status": 200, "headers": raw})

    async def _say(self, chunk: Chunk, send: Send) -> None:
        await self._write(b"data: " + msgspec.json.encode(chunk) + b"\n\n", send)

    async def _write(self, line: bytes, send: Send, *, more: bool = True) -> None:
        async with self._sending:
            if self._ended:
                return
            self._ended = not more
            with anyio.move_on_after(self._gate.stall_seconds) as patience:
                await send({"type": "http.response.body", "body": line, "more_body": more})
        self._quiet = False
        if patience.cancelled_caught:
            log.warning("the client of %s did not read for %.0f s", self._answer.id, self._gate.stall_seconds)
            self._scope.cancel()

    async def _fail(self, problem: AssistantError, send: Send) -> None:
        if not self._started:
            await send_error(problem, send)
            return
        await self._write(b"data: " + msgspec.json.encode(body_of(problem)) + b"\n\n", send, more=False)

    async def _cancel_when_gone(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._scope.cancel()

    def _note(self, failure: AssistantError | None, seconds: float) -> None:
        """Log what an administrator looks for; never what was said."""
        answer = self._answer
        how: Any = failure.code if failure else answer.finish_reason if answer.end else "cancelled"
        log.info("%s on %r: %s, %d + %d tokens in %.1f s", answer.id, answer.model, how, answer.prompt_tokens,
                 answer.output_tokens, seconds)  # fmt: skip
