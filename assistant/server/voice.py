"""The routes of the listening loop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Literal

import msgspec
from litestar import post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody, RawBody, SkipValidation
from litestar.response import Stream

from assistant import events
from assistant.engines import AudioChunk
from assistant.errors import AudioError
from assistant.services import Services
from assistant.wire import VoiceInfo

MAX_AUDIO_BYTES = 512 << 20
"""About four and a half hours."""

Parts = NamedDependency[SkipValidation[Services]]


class VoiceCommand(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the listening loop shall do."""

    action: Literal["listen", "stop", "mute", "unmute", "talk", "release", "hush"]
    """``talk`` and ``release``: a key to talk is held, and let go; ``hush``: be quiet, and forget what is said."""


@post("/api/voice", status_code=200)
async def command_voice(services: Parts, data: JSONBody[VoiceCommand]) -> VoiceInfo | None:
    """Begin or end to listen, and so on; what is going on afterwards, null if it does not listen."""
    voice = services.voice
    match data.action:
        case "listen":
            await voice.listen()
        case "stop":
            if not services.settings.voice.enabled:
                await voice.stop()
        case "mute":
            voice.mute()
        case "unmute":
            voice.unmute()
        case "hush":
            voice.hush()
        case _:
            voice.talk(data.action == "talk")
    return voice.info


@post("/api/voice/simulate", status_code=200, request_max_body_size=MAX_AUDIO_BYTES)
async def simulate(services: Parts, body: RawBody) -> Stream:
    """The loop over a recording (16 kHz 16-bit mono PCM): its events as lines of JSON, at last what was played."""
    pcm = bytes(body)
    if not pcm or len(pcm) % 2:
        raise AudioError("the audio is empty" if not pcm else "the audio ends in half a sample",
                         hint="send 16 kHz mono 16-bit PCM")
    lines = _lines(services, pcm)
    first = await anext(lines)
    return Stream(_rest(first, lines), media_type="application/x-ndjson")


async def _rest(first: bytes, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for line in lines:
        yield line


async def _lines(services: Services, pcm: bytes) -> AsyncIterator[bytes]:
    async with aclosing(services.voice.simulate(pcm)) as happened:
        async for item in happened:
            yield events.encode(_event(item)) + b"\n"


def _event(item: events.Event | AudioChunk) -> events.Event:
    if isinstance(item, AudioChunk):
        return events.SpeechSynthesized(pcm=item.pcm, sample_rate=item.sample_rate)
    return item


HANDLERS: list[HTTPRouteHandler] = [command_voice, simulate]
"""All routes."""
