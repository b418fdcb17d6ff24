"""Speech outside a turn, and the speaking half of one."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

import anyio

from .engines import STT_SAMPLE_RATE, AudioChunk, SpeechToText, TextToSpeech, Transcript, Transcription
from .errors import AudioError
from .lanes import Priority
from .voice.speakable import SentenceSplitter

if TYPE_CHECKING:
    from .pool import EnginePool, Ready

SECOND = STT_SAMPLE_RATE * 2
"""Bytes of one second of 16-bit audio for a recogniser."""


async def transcribe(pool: EnginePool, pcm: bytes, language: str) -> Transcript:
    """What is said in ``pcm`` (16 kHz mono, 16-bit), fed to the engine second by second.

    Raises:
        AudioError: there is no audio, or half a sample.
    """
    if not pcm or len(pcm) % 2:
        raise AudioError("the audio is empty" if not pcm else "the audio ends in half a sample",
                         hint="send 16 kHz mono 16-bit PCM")
    async with pool.using("stt") as ready:
        lane = ready.lane
        handle = await lane.open(ready.key, SpeechToText.open, language, (), priority=Priority.BACKGROUND)
        try:
            for start in range(0, len(pcm), SECOND):
                chunk = pcm[start : start + SECOND]
                await lane.call(handle, Transcription.feed, chunk, priority=Priority.BACKGROUND)
            return await lane.call(handle, Transcription.finish, priority=Priority.BACKGROUND)
        finally:
            with anyio.CancelScope(shield=True):
                await lane.release(handle)


async def speak(pool: EnginePool, text: str, voice: str) -> AsyncGenerator[AudioChunk]:
    """``text`` as speech, sentence by sentence; close the generator to stop at once."""
    splitter = SentenceSplitter()
    async with pool.using("tts") as ready:
        for sentence in [*splitter.feed(text), *splitter.flush()]:
            async with aclosing(speak_sentence(ready, sentence, voice)) as chunks:
                async for chunk in chunks:
                    yield chunk


async def speak_sentence(ready: Ready, sentence: str, voice: str) -> AsyncGenerator[AudioChunk]:
    """One sentence on the lane of a loaded voice."""
    stream = ready.lane.stream(ready.key, TextToSpeech.speak, sentence, voice, priority=Priority.SPEECH)
    async with stream as chunks:
        async for chunk in chunks:
            yield chunk
