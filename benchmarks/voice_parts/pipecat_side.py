# mypy: disable-error-code="import-not-found, misc"
"""Turns through Pipecat, for ``voice.py``: a program of its own, run by a Python that has Pipecat and nothing of ours.

    python pipecat_side.py FOLDER

The folder has ``job.json`` (``turns``, ``silence``, ``rate``, ``text``, ``answer``), ``question.pcm`` and
``answer.pcm``. One line of JSON goes to standard output, for every turn two numbers, or null: the seconds from the
decision that the turn is over until the transport is given the first audible audio, and until the loudspeaker's next
callback takes it.
"""

from __future__ import annotations

import array
import asyncio
import json
import sys
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from loguru import logger
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.audio.vad.vad_analyzer import VADParams
from pipecat.frames.frames import (
    Frame,
    InputAudioRawFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    OutputAudioRawFrame,
    StartFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.llm_service import LLMService
from pipecat.services.settings import LLMSettings, STTSettings, TTSSettings
from pipecat.services.stt_service import SegmentedSTTService
from pipecat.services.tts_service import TTSService
from pipecat.transports.base_input import BaseInputTransport
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import TransportParams
from pipecat.turns.user_start import VADUserTurnStartStrategy
from pipecat.turns.user_stop import SpeechTimeoutUserTurnStopStrategy
from pipecat.turns.user_turn_strategies import UserTurnStrategies
from pipecat.utils.time import time_now_iso8601
from pipecat.workers.runner import WorkerRunner

FRAME_SECONDS = 0.01
LOUDSPEAKER_SECONDS = 0.010005
"""Between two calls of the loudspeaker's, as on our side."""
VAD_SECONDS = 0.2
"""Pipecat's own default until its detector says that nobody speaks; the rest of the silence is the strategy's."""
LOUD = 200
"""A sample from which sound is audible."""
LEAD, REST, GIVE_UP = 1.0, 0.6, 8.0
"""Seconds of silence before a question, after an answer, and without any answer at all."""

Took = tuple[float, float]
"""Seconds until the sound was handed over, and until it was played."""


class Times:
    """What happened when, in one turn."""

    def __init__(self) -> None:
        self.decided = self.given = self.sounded = 0.0
        self.over = asyncio.Event()


class Ear(SegmentedSTTService):
    """Understands the same words at once, whatever is said."""

    def __init__(self, text: str) -> None:
        super().__init__(ttfs_p99_latency=0.0, settings=STTSettings(model=None, language=None))
        self._said = text

    @property
    def wants_wav_segments(self) -> bool:
        """Plain PCM will do."""
        return False

    async def run_stt(self, audio: bytes) -> AsyncGenerator[Frame]:
        """The words."""
        yield TranscriptionFrame(self._said, "", time_now_iso8601())


class Model(LLMService):
    """Says the same words at once, whatever is asked."""

    def __init__(self, answer: str) -> None:
        unset = dict.fromkeys(
            ("model", "system_instruction", "temperature", "max_tokens", "top_p", "top_k", "frequency_penalty",
             "presence_penalty", "seed"),
        )  # fmt: skip
        super().__init__(settings=LLMSettings(
            **unset, filter_incomplete_user_turns=False, user_turn_completion_config=None
        ))  # fmt: skip
        self._words = answer.split(" ")

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Answer a context."""
        await super().process_frame(frame, direction)
        if not isinstance(frame, LLMContextFrame):
            await self.push_frame(frame, direction)
            return
        await self.push_frame(LLMFullResponseStartFrame())
        for place, word in enumerate(self._words):
            await self.push_frame(LLMTextFrame(f" {word}" if place else word))
        await self.push_frame(LLMFullResponseEndFrame())


class Mouth(TTSService):
    """Has the sound of every sentence at hand, in chunks of 200 ms."""

    def __init__(self, pcm: bytes, rate: int) -> None:
        super().__init__(
            push_start_frame=True, push_stop_frames=True, sample_rate=rate,
            settings=TTSSettings(model=None, voice=None, language=None),
        )  # fmt: skip
        self._pcm, self._chunk = pcm, rate // 5 * 2

    async def run_tts(self, text: str, context_id: str) -> AsyncGenerator[Frame]:
        """The sound."""
        for at in range(0, len(self._pcm), self._chunk):
            yield TTSAudioRawFrame(self._pcm[at : at + self._chunk], self.sample_rate, 1, context_id=context_id)


class Stop(SpeechTimeoutUserTurnStopStrategy):
    """Pipecat's strategy of a fixed silence, with a note of when it decides."""

    def __init__(self, times: Times, silence: float) -> None:
        super().__init__(user_speech_timeout=silence)
        self._times = times

    async def trigger_user_turn_stopped(self, **options: Any) -> None:
        """It is over."""
        self._times.decided = time.perf_counter()
        await super().trigger_user_turn_stopped(**options)


class Input(BaseInputTransport):
    """A microphone."""

    def __init__(self, params: TransportParams) -> None:
        super().__init__(params)
        self.ready = asyncio.Event()

    async def start(self, frame: StartFrame) -> None:
        """From now on it takes frames."""
        await super().start(frame)
        await self.set_transport_ready(frame)
        self.ready.set()

    async def hear(self, pcm: bytes) -> None:
        """One frame."""
        await self.push_audio_frame(InputAudioRawFrame(pcm, self.sample_rate, 1))


class Output(BaseOutputTransport):
    """A loudspeaker that takes as long as the sound does, as Pipecat's local transport does."""

    def __init__(self, params: TransportParams, times: Times, seconds: float) -> None:
        super().__init__(params)
        self._times, self._seconds, self._heard = times, seconds, 0.0
        self._due, self._opened = 0.0, time.perf_counter()

    async def start(self, frame: StartFrame) -> None:
        """From now on it plays."""
        await super().start(frame)
        await self.set_transport_ready(frame)

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        """Play a chunk."""
        now = time.perf_counter()
        samples = array.array("h", frame.audio)
        if not self._times.sounded and self._times.decided and max(map(abs, samples), default=0) > LOUD:
            self._times.given = now
            calls = -(-(now - self._opened) // LOUDSPEAKER_SECONDS)
            self._times.sounded = self._opened + calls * LOUDSPEAKER_SECONDS
            self._heard = 0.0
        self._heard += len(samples) / frame.sample_rate
        if self._times.sounded and self._heard >= self._seconds:
            self._times.over.set()
        self._due = max(self._due, now) + len(samples) / frame.sample_rate
        await asyncio.sleep(max(0.0, self._due - time.perf_counter()))
        return True


async def speak(microphone: Input, job: dict[str, Any], question: bytes, times: Times) -> list[Took | None]:
    """Every turn in real time."""
    size = int(job["rate"] * FRAME_SECONDS) * 2
    silence = bytes(size)
    found: list[Took | None] = []
    due = time.perf_counter()
    for _ in range(job["turns"]):
        times.decided = times.given = times.sounded = 0.0
        times.over.clear()
        said = bytes(int(LEAD * job["rate"]) * 2) + question
        at, waited, rested = 0, 0.0, 0.0
        while rested < REST and waited < GIVE_UP:
            await microphone.hear(said[at : at + size].ljust(size, b"\0") if at < len(said) else silence)
            at += size
            waited += FRAME_SECONDS if at >= len(said) else 0.0
            rested += FRAME_SECONDS if times.over.is_set() else 0.0
            due += FRAME_SECONDS
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
        took = times.given - times.decided, times.sounded - times.decided
        found.append(took if times.sounded else None)
    return found


async def main(folder: Path) -> list[Took | None]:
    """Build the pipeline and speak to it."""
    job = json.loads((folder / "job.json").read_text())
    question, answer = (folder / "question.pcm").read_bytes(), (folder / "answer.pcm").read_bytes()
    rate, times = job["rate"], Times()
    params = TransportParams(
        audio_in_enabled=True, audio_out_enabled=True, audio_in_sample_rate=rate, audio_out_sample_rate=rate,
        audio_out_10ms_chunks=1,
    )  # fmt: skip
    microphone, loudspeaker = Input(params), Output(params, times, len(answer) / 2 / rate)
    strategies = UserTurnStrategies(
        start=[VADUserTurnStartStrategy()], stop=[Stop(times, max(0.0, job["silence"] - VAD_SECONDS))]
    )
    vad = SileroVADAnalyzer(params=VADParams(stop_secs=VAD_SECONDS))
    pair = LLMContextAggregatorPair(
        LLMContext([{"role": "system", "content": "Be brief."}]),
        user_params=LLMUserAggregatorParams(user_turn_strategies=strategies, vad_analyzer=vad),
    )
    worker = PipelineWorker(
        Pipeline([
            microphone, Ear(job["text"]), pair.user(), Model(job["answer"]), Mouth(answer, rate), loudspeaker,
            pair.assistant(),
        ]),
        params=PipelineParams(audio_in_sample_rate=rate, audio_out_sample_rate=rate),
        enable_rtvi=False, idle_timeout_secs=None,
    )  # fmt: skip
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run())
    await microphone.ready.wait()
    found = await speak(microphone, job, question, times)
    await runner.cancel()
    await running
    return found


if __name__ == "__main__":
    logger.remove()
    logger.add(sys.stderr, level="WARNING")
    print(json.dumps(asyncio.run(main(Path(sys.argv[1])))))
