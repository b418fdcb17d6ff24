"""Speech as an HTTP answer, sent chunk by chunk while it is made."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

import anyio
from litestar.types import Receive, Scope, Send

from assistant.engines import AudioChunk
from assistant.errors import AssistantError, AudioError
from assistant.speech import speak

if TYPE_CHECKING:
    from assistant.pool import EnginePool


class SpokenAnswer:
    """An ASGI answer; a client that goes away stops the voice."""

    def __init__(self, pool: EnginePool, text: str, voice: str) -> None:
        self._pool = pool
        self._text = text
        self._voice = voice
        self._failure: AssistantError | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the speech.

        Raises:
            AssistantError: the voice failed; after the first chunk that cuts the answer short.
        """
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cancel_when_gone, receive, tasks.cancel_scope)
            try:
                await self._send_all(send)
            except AssistantError as failure:
                self._failure = failure
            tasks.cancel_scope.cancel()
        if self._failure is not None:
            raise self._failure

    async def _send_all(self, send: Send) -> None:
        started = False
        async with aclosing(speak(self._pool, self._text, self._voice)) as chunks:
            async for chunk in chunks:
                if not started:
                    await _start(chunk, send)
                    started = True
                await send({"type": "http.response.body", "body": chunk.pcm, "more_body": True})
        if not started:
            raise AudioError("the text has no words to say")
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _start(chunk: AudioChunk, send: Send) -> None:
    rate = str(chunk.sample_rate).encode()
    kind = b"audio/L16; channels=1; rate=" + rate
    headers = [(b"content-type", kind), (b"x-sample-rate", rate)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def cancel_when_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    """Cancel the scope when the client goes away."""
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
