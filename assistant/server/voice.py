"""The routes of the listening loop."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Literal

import anyio
import msgspec
from litestar import get, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody, RawBody, SkipValidation
from litestar.types import ASGIApp, Receive, Scope, Send

from assistant import events
from assistant.engines import AudioChunk
from assistant.errors import AssistantError, AudioError
from assistant.services import Services
from assistant.wire import VoiceInfo, error_info

from .speaking import cancel_when_gone

if TYPE_CHECKING:
    from assistant.voice.service import VoiceService

log = logging.getLogger(__name__)

MAX_AUDIO_BYTES = 512 << 20
"""About four and a half hours."""
PIECE_BYTES = 320_000
"""Ten seconds of what was played, sent as one line."""
DEVICE_SECONDS = 3.0
"""How long a microphone may take to open or close before the answer says how it stands."""
POLL_SECONDS = 0.02

Parts = NamedDependency[SkipValidation[Services]]


class VoiceCommand(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the listening loop shall do."""

    action: Literal["listen", "stop", "leave", "mute", "unmute", "talk", "release", "hush"]
    """``leave``: stop, unless the configuration says to listen always; ``talk`` and ``release``: a key to talk is held,
    and let go; ``hush``: be quiet, and forget what is said."""


@get("/api/voice", sync_to_thread=False)
def get_voice(services: Parts) -> VoiceInfo | None:
    """What the listening loop does; null if it does not listen."""
    return services.voice.info


@post("/api/voice", status_code=200)
async def command_voice(services: Parts, data: JSONBody[VoiceCommand]) -> VoiceInfo | None:
    """Begin or end to listen, and so on; what is going on afterwards, null if it does not listen.

    After ``mute`` the microphone is closed when the answer comes.
    """
    voice = services.voice
    match data.action:
        case "listen":
            await voice.listen()
        case "stop":
            await voice.stop()
        case "leave":
            if not services.settings.voice.enabled:
                await voice.stop()
        case "mute":
            voice.mute()
            await _until(voice, lambda info: info.microphone != "open")
        case "unmute":
            voice.unmute()
            await _until(voice, lambda info: info.microphone == "open")
        case "hush":
            voice.hush()
        case _:
            voice.talk(data.action == "talk")
    return voice.info


@post("/api/voice/simulate", status_code=200, request_max_body_size=MAX_AUDIO_BYTES, media_type="application/x-ndjson")
async def simulate(services: Parts, body: RawBody) -> ASGIApp:
    """The loop over a recording (16 kHz 16-bit mono PCM): its events as lines of JSON, at last what was played.

    That is ``speech_synthesized``, in pieces. Where it fails on the way, ``voice_failed`` is the last line.
    """
    pcm = bytes(body)
    if not pcm or len(pcm) % 2:
        raise AudioError(
            "the audio ends in half a sample" if pcm else "there is no audio", hint="send 16 kHz mono 16-bit PCM"
        )
    return Simulation(services.voice, pcm)


class Simulation:
    """An ASGI answer; a client that goes away ends it."""

    def __init__(self, voice: VoiceService, pcm: bytes) -> None:
        self._voice = voice
        self._pcm = pcm
        self._started = False
        self._failure: AssistantError | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events.

        Raises:
            AssistantError: it could not begin.
        """
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cancel_when_gone, receive, tasks.cancel_scope)
            try:
                await self._send_all(send)
            except AssistantError as failure:
                self._failure = failure
            tasks.cancel_scope.cancel()
        if self._failure is None:
            return
        if not self._started:
            raise self._failure
        log.warning("a simulation ended: %s", self._failure)
        await self._send(send, events.VoiceFailed(error=error_info(self._failure)))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_all(self, send: Send) -> None:
        async with aclosing(self._voice.simulate(self._pcm)) as happened:
            async for item in happened:
                for event in _pieces(item) if isinstance(item, AudioChunk) else (item,):
                    await self._send(send, event)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send, event: events.Event) -> None:
        if not self._started:
            self._started = True
            headers = [(b"content-type", b"application/x-ndjson")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": events.encode(event) + b"\n", "more_body": True})


def _pieces(played: AudioChunk) -> Iterator[events.SpeechSynthesized]:
    for start in range(0, len(played.pcm), PIECE_BYTES):
        pcm = played.pcm[start : start + PIECE_BYTES]
        yield events.SpeechSynthesized(pcm=pcm, sample_rate=played.sample_rate)


async def _until(voice: VoiceService, reached: Callable[[VoiceInfo], bool]) -> None:
    with anyio.move_on_after(DEVICE_SECONDS):
        while (info := voice.info) is not None and not reached(info):  # noqa: ASYNC110  (the audio thread tells nobody)
            await anyio.sleep(POLL_SECONDS)


HANDLERS: list[HTTPRouteHandler] = [get_voice, command_voice, simulate]
"""All routes."""
