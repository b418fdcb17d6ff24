"""Listening as a service of the daemon: on and off, mute, and what the status shows."""

from __future__ import annotations

import copy
import importlib.util
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectSendStream

from assistant import events
from assistant.engines import AudioChunk
from assistant.errors import AssistantError, VoiceError, leaves
from assistant.wire import VoiceInfo, error_info

from .frames import RATE, Heard
from .output import pull_at

if TYPE_CHECKING:
    from assistant.hookspecs import WakeWord
    from assistant.models import Models
    from assistant.sessions import Sessions
    from assistant.turn import Parts

    from .devices import RealtimeAudio
    from .front import FrontEnd
    from .loop import VoiceLoop
    from .playback import Playback

log = logging.getLogger(__name__)

ECHO_EVERY_SECONDS = 10.0
"""How often the echo's attenuation is told while the assistant speaks."""
PLAYBACK_RATE = 48_000
"""Samples per second that answers are put together at; most loudspeakers take it as it is."""
DRAIN_SECONDS = 0.1
UNATTENDED_SECONDS = 5.0
"""How long it goes on listening when nobody listens along any more: a lost connection is made again at once."""
SPEECH = "stt"
"""What ``[voice] second_look`` calls the recogniser."""
NEEDED = {"onnxruntime": "onnxruntime", "pywebrtc_audio": "pywebrtc-audio", "soxr": "soxr", "numpy": "numpy"}


def _explained(group: ExceptionGroup[Exception]) -> Iterator[AssistantError]:
    """The errors; a bug, a plugin's for one, ends listening and nothing else."""
    known, bugs = group.split(AssistantError)
    if known is not None:
        yield from leaves(known)
    if bugs is not None:
        log.error("listening failed", exc_info=bugs)
        first = next(leaves(bugs))
        yield VoiceError(f"{type(first).__name__}: {first}", hint="this is a bug; `assistant logs` has the details")


class VoiceService:
    """Owns the loop while it listens."""

    def __init__(self, parts: Parts, sessions: Sessions, models: Models, tasks: TaskGroup) -> None:
        self._parts = parts
        self._settings = parts.settings.voice
        self._sessions = sessions
        self._models = models
        self._tasks = tasks
        self._lock = anyio.Lock()
        self._scope: anyio.CancelScope | None = None
        self._ended = anyio.Event()
        self._audio: RealtimeAudio[Heard] | None = None
        self._front: FrontEnd | None = None
        self._loop: VoiceLoop | None = None
        self._unheard: dict[str, float] = {}
        """Timers that fired while it did not listen, and when."""
        self._attending = 0
        self._muted = parts.paths.data / "muted"
        """Is there while the microphone is muted."""
        parts.bus.add_observer(self._note_timer)

    async def run(self) -> None:
        """Listen from the start if the configuration says so; what stands against it is logged and published."""
        if not self._settings.enabled:
            return
        try:
            await self.listen()
        except AssistantError as error:
            log.warning("not listening: %s: %s", error.message, error.hint)
            self._parts.bus.publish(events.VoiceFailed(error=error_info(error)))

    @property
    def info(self) -> VoiceInfo | None:
        """What is going on; None: it does not listen."""
        audio, front, loop = self._audio, self._front, self._loop
        if audio is None or front is None or loop is None:
            return None
        return VoiceInfo(
            state=loop.dialogue.state,
            microphone=audio.microphone,
            device=audio.device,
            output_device=audio.loudspeaker,
            wake_words=tuple(self._settings.wake_words),
            duplex=front.echo.duplex,
            attenuation_db=front.echo.attenuation_db,
            recording=self._settings.record,
            overflows=audio.overflows,
            listened_seconds=loop.listened_seconds,
            enabled=self._settings.enabled,
        )

    async def listen(self) -> None:
        """Start to listen; nothing happens if it does already.

        Raises:
            VoiceError: something that it takes is missing.
            AudioError: PortAudio is missing. What is wrong with a device is no error but published, and tried again.
            ModelError: a model of it cannot be had.
        """
        from .devices.ports import library

        async with self._lock:
            if self._scope is not None:
                return
            detectors = self._detectors()
            library()
            folders = await self._folders()
            self._scope, self._ended = anyio.CancelScope(), anyio.Event()
            started = anyio.Event()
            self._tasks.start_soon(self._listen, detectors, folders, self._scope, started)
            await started.wait()

    async def stop(self) -> None:
        """Stop listening and close the devices; nothing happens if it does not listen."""
        async with self._lock:
            if self._scope is not None:
                self._scope.cancel()
                await self._ended.wait()

    def attend(self) -> None:
        """Somebody listens along."""
        self._attending += 1

    def depart(self) -> None:
        """Somebody has gone who listened along. After the last one listening ends, unless one comes back soon or the
        configuration says to listen always."""
        self._attending -= 1
        if not self._attending and not self._settings.enabled:
            self._tasks.start_soon(self._stop_unattended)

    async def _stop_unattended(self) -> None:
        await anyio.sleep(UNATTENDED_SECONDS)
        if not self._attending:
            await self.stop()

    def mute(self) -> None:
        """Close the microphone; it stays so, whoever restarts the daemon, until it is opened.

        Raises:
            VoiceError: it does not listen.
        """
        audio, loop = self._running()
        audio.mute()
        loop.dialogue.mute(True)
        try:
            self._muted.touch(mode=0o600)
        except OSError as error:
            log.warning("the next start will not know that the microphone is muted: %s", error)

    def unmute(self) -> None:
        """Open the microphone again.

        Raises:
            VoiceError: it does not listen.
        """
        audio, loop = self._running()
        audio.unmute()
        loop.dialogue.mute(False)
        self._muted.unlink(missing_ok=True)

    def talk(self, pressed: bool) -> None:
        """A key to talk is held, or was let go.

        Raises:
            VoiceError: it does not listen.
        """
        self._running()[1].dialogue.talk(pressed)

    def hush(self) -> None:
        """Stop the answer, the ringing and what is being heard.

        Raises:
            VoiceError: it does not listen.
        """
        self._running()[1].dialogue.stop()

    async def simulate(self, pcm: bytes) -> AsyncGenerator[events.Event | AudioChunk]:
        """The same loop over a recording, on its sample clock; its events, and at last all that was played.

        After the recording it is silent until what was begun has come to its end.

        Args:
            pcm: 16 kHz mono, 16-bit.

        Raises:
            VoiceError, ModelError: as for ``listen``.
        """
        detectors = self._detectors()
        folders = await self._folders()
        send, receive = anyio.create_memory_object_stream[events.Event | AudioChunk](100)
        scope = anyio.CancelScope()
        failures: list[AssistantError] = []
        self._tasks.start_soon(self._simulate, pcm, detectors, folders, send, scope, failures)
        with receive:
            try:
                async for item in receive:
                    yield item
            finally:
                scope.cancel()
        if failures:
            raise failures[0]

    async def _simulate(
        self,
        pcm: bytes,
        detectors: list[WakeWord],
        folders: dict[str, Path],
        send: MemoryObjectSendStream[events.Event | AudioChunk],
        scope: anyio.CancelScope,
        failures: list[AssistantError],
    ) -> None:
        from .virtual import recorded, ticks

        happened: deque[events.Event] = deque()
        played = bytearray()
        with send:
            try:
                with scope:
                    async with self._assembled(detectors, folders, RATE, happened.append) as (front, loop, playback):
                        async for block in ticks(front, loop, playback, recorded(pcm, loop, playback)):
                            played += block
                            while happened:
                                await send.send(happened.popleft())
                    while happened:
                        await send.send(happened.popleft())
                    await send.send(AudioChunk(pcm=bytes(played), sample_rate=RATE))
            except* Exception as group:
                failures.extend(_explained(group))

    def _running(self) -> tuple[RealtimeAudio[Heard], VoiceLoop]:
        if self._audio is None or self._loop is None:
            raise VoiceError("the assistant is not listening", hint="`assistant listen`, or `[voice] enabled = true`")
        return self._audio, self._loop

    async def _listen(
        self, detectors: list[WakeWord], folders: dict[str, Path], scope: anyio.CancelScope, started: anyio.Event
    ) -> None:
        from .devices import RealtimeAudio

        publish = self._parts.bus.publish
        try:
            with scope:
                async with self._assembled(detectors, folders, PLAYBACK_RATE) as (front, loop, playback):

                    def sounding() -> bool:
                        return loop.dialogue.state not in ("idle", "muted") or playback.sounding

                    audio = RealtimeAudio(
                        self._settings, front.process, publish, partial(pull_at, playback), sounding
                    )
                    if self._muted.exists():
                        audio.mute()
                        loop.dialogue.mute(True)
                    self._audio, self._front, self._loop = audio, front, loop
                    self._ring_late(loop)
                    started.set()
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(self._tell_echo, front)
                        tasks.start_soon(_drain, audio, playback)
                        await audio.run(loop.take)
        except* Exception as group:
            for error in _explained(group):
                log.warning("listening ended: %s: %s", error.message, error.hint)
                publish(events.VoiceFailed(error=error_info(error)))
        finally:
            self._audio = self._front = self._loop = self._scope = None
            started.set()
            self._ended.set()
            publish(events.VoiceStateChanged(state="off"))

    def _note_timer(self, event: events.Event) -> None:
        if isinstance(event, events.TimerFired) and self._loop is None:
            self._unheard[event.name or "timer"] = time.monotonic()

    def _ring_late(self, loop: VoiceLoop) -> None:
        """Ring for what fired a moment ago: a timer that was overdue fires before anything listens."""
        unheard, self._unheard = self._unheard, {}
        for name, at in unheard.items():
            if time.monotonic() - at <= self._settings.ring_seconds:
                loop.dialogue.ring(name)

    @asynccontextmanager
    async def _assembled(
        self,
        detectors: list[WakeWord],
        folders: dict[str, Path],
        rate: int,
        tell: Callable[[events.Event], None] | None = None,
    ) -> AsyncIterator[tuple[FrontEnd, VoiceLoop, Playback]]:
        """The loop and what it needs, running; live unless there is somebody to ``tell`` its events."""
        from .activity import VoiceActivity
        from .echo import EchoCanceller
        from .front import FrontEnd
        from .loop import VoiceLoop
        from .playback import Playback
        from .smart_turn import SmartTurn
        from .wake import WakeLog, WakeSpotter

        settings = self._settings
        thresholds = {name: wake.threshold for name, wake in settings.wake.items() if wake.threshold}
        named = len(settings.wake_words)
        spotter, seconds = WakeSpotter(detectors[:named], thresholds), detectors[named:]
        await anyio.to_thread.run_sync(spotter.load)
        for second in seconds:
            await anyio.to_thread.run_sync(second.load)
        wake_log = WakeLog(self._parts.paths.data / "wake", spotter) if tell is None else None
        playback = Playback(rate, settings.volume)
        front = FrontEnd(
            EchoCanceller(settings.echo), VoiceActivity(folders["silero-vad"]), spotter, lambda: playback.sentence
        )
        loop = VoiceLoop(
            self._parts, self._sessions, playback, phrases={one.name: one.phrase for one in detectors[:named]},
            second=next(iter(seconds), None), smart_turn=SmartTurn(folders["smart-turn"]), wake_log=wake_log, tell=tell,
        )  # fmt: skip
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(loop.run)
                await anyio.lowlevel.checkpoint()
                yield front, loop, playback
                tasks.cancel_scope.cancel()
        finally:
            spotter.close()
            for second in seconds:
                second.close()
            if wake_log is not None:
                wake_log.close()

    async def _tell_echo(self, front: FrontEnd) -> None:
        told: tuple[str, float] | None = None
        while True:
            await anyio.sleep(ECHO_EVERY_SECONDS)
            attenuation = front.echo.attenuation_db
            if attenuation is not None and (front.echo.duplex, round(attenuation)) != told:
                told = (front.echo.duplex, round(attenuation))
                self._parts.bus.publish(
                    events.EchoMeasured(attenuation_db=round(attenuation, 1), duplex=front.echo.duplex)
                )

    def _detectors(self) -> list[WakeWord]:
        """The wake words that the configuration names, and at last the one that must agree.

        Raises:
            VoiceError: one is unknown, or cannot run; or a package is missing.
        """
        if missing := [package for module, package in NEEDED.items() if importlib.util.find_spec(module) is None]:
            raise VoiceError(
                f"listening takes the package {missing[0]}", hint=f"`pip install {' '.join(missing)}`"
            )
        offered = {one.name: one for one in self._parts.plugins.wake_words()}
        found = []
        second = [self._settings.second_look] if self._settings.second_look not in ("", SPEECH) else []
        for name in [*self._settings.wake_words, *second]:
            if name not in offered:
                raise VoiceError(
                    f"there is no wake word named {name!r}",
                    hint=f"there are: {', '.join(sorted(offered)) or 'none'}; see [voice] wake_words",
                )
            if reason := offered[name].available():
                raise VoiceError(f"the wake word {name!r} cannot run here: {reason}", hint="`assistant wake list`")
            found.append(copy.copy(offered[name]))
        return found

    async def _folders(self) -> dict[str, Path]:
        """The models of the ear, fetched if they are absent."""
        return {name: await self._models.resolve(name) for name in ("silero-vad", "smart-turn")}


async def _drain(audio: RealtimeAudio[Heard], playback: Playback) -> None:
    """Let an answer that no loudspeaker plays go by, as fast as it would be spoken."""
    while True:
        await anyio.sleep(DRAIN_SECONDS)
        if not audio.loudspeaker and not playback.done:
            playback.pull(round(DRAIN_SECONDS * playback.rate))
