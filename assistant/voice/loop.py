"""The listening loop: carries out what the dialogue decides, with the recogniser, the turns and the loudspeaker."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread
from anyio.abc import TaskGroup

from assistant import events
from assistant.engines import SpeechToText, Transcription
from assistant.errors import AssistantError
from assistant.hookspecs import Session
from assistant.lanes import Priority
from assistant.turn import Speculation, Turn, Voice
from assistant.wire import Say, error_info

from .dialogue import Dialogue
from .frames import FRAME_BYTES, FRAME_SECONDS, Heard, WakeHit, frames
from .hearing import Hearing
from .output import Loudspeaking
from .recording import Recorder
from .second_look import agrees
from .unfinished import unfinished
from .wording import holds_wake

if TYPE_CHECKING:
    from collections.abc import Mapping

    from assistant.hookspecs import WakeWord
    from assistant.sessions import LiveTurn, Sessions
    from assistant.turn import Parts

    from .playback import Playback
    from .smart_turn import SmartTurn
    from .wake import WakeLog

log = logging.getLogger(__name__)

CHANNEL = "voice"
LONGEST_TURN_BYTES = frames(8.0) * FRAME_BYTES
"""What the turn model looks at."""
TOLD_EVERY = frames(0.25)
"""How often it is told how far the answer has been played."""
STALL_SECONDS = 0.1
"""When no frame comes (the microphone is closed), how often the loudspeaker is looked at."""
SETTLE_SECONDS = 0.0005


class VoiceLoop:
    """Takes frames on the event loop's thread; every method belongs to that thread.

    Args:
        phrases: what is said for each wake word that is listened for.
        smart_turn: judges pauses; None: silence alone does.
        second: the detector that must agree with a wake word, loaded; None: the configuration names none.
        wake_log: counts wake words; None: nobody counts.
        tell: gets every event of this loop and of its turns. Then frames do not come as time passes: time waits for
            the machine, see ``settled``.
    """

    def __init__(
        self,
        parts: Parts,
        sessions: Sessions,
        playback: Playback,
        *,
        phrases: Mapping[str, str],
        smart_turn: SmartTurn | None,
        second: WakeWord | None = None,
        wake_log: WakeLog | None = None,
        tell: Callable[[events.Event], None] | None = None,
    ) -> None:
        self._parts = parts
        self._settings = parts.settings.voice
        self._sessions = sessions
        self._playback = playback
        self._phrases = phrases
        self._smart_turn = smart_turn
        self._second = second
        self._wake_log = wake_log
        self._tell = tell
        self._mine: dict[int, events.Event] = {}
        """What it has published and not seen yet on the bus."""
        self._turn_ids: set[str] = set()
        self._tasks: TaskGroup | None = None
        self._pulsed = anyio.Event()
        self._in_flight = 0
        self._frames = 0
        self._hearing: Hearing | None = None
        self._hearing_scope = anyio.CancelScope()
        self._pcm = bytearray()
        self._turn_id = ""
        self._ahead: Speculation | None = None
        self._expected = ""
        """The question that is to be answered ahead."""
        self._output = Loudspeaking(playback, self._pulse)
        self._turn: LiveTurn | None = None
        self._spoken: Turn | None = None
        """The turn whose answer the loudspeaker has."""
        self._starting: anyio.CancelScope | None = None
        self._told = ""
        self._recorder = Recorder(parts.paths.data / "recordings") if self._settings.record else None
        self.dialogue = Dialogue(
            self._settings, self, playback, phrases=phrases, is_command=self._is_command,
            judged=smart_turn is not None,
            is_unfinished=lambda text: unfinished(text, parts.settings.assistant.language),
        )  # fmt: skip

    @property
    def listened_seconds(self) -> float:
        """How much sound it has taken."""
        return self._frames * FRAME_SECONDS

    async def run(self) -> None:
        """Work until cancelled; the engines are loaded meanwhile."""
        self._parts.bus.add_observer(self._observe)
        try:
            async with anyio.create_task_group() as tasks:
                self._tasks = tasks
                tasks.start_soon(self._warm)
                await anyio.sleep_forever()
        finally:
            self._tasks = None
            self._parts.bus.remove_observer(self._observe)

    def take(self, heard: Heard) -> None:
        """The next frame."""
        self._frames += 1
        if self._wake_log is not None:
            self._wake_log.listened(FRAME_SECONDS)
            for hit in heard.hits:
                self._wake_log.add(hit)
        self.dialogue.take(heard)
        if heard.clock % TOLD_EVERY == 0:
            self._tell_progress(heard.clock)
        self._pulsed.set()
        self._pulsed = anyio.Event()

    async def settled(self) -> None:
        """Wait until nothing is going on that would change what happens at this instant of the sample clock.

        So the machine is infinitely fast as far as the events can tell: words are understood in the frame in which
        they end, and an answer never has a gap.
        """
        while not self._is_settled():  # noqa: ASYNC110  (too many things change it, in other tasks and lanes)
            await anyio.sleep(SETTLE_SECONDS)

    def _is_settled(self) -> bool:
        if self._tasks is None or self._in_flight or (self._hearing is not None and self._hearing.busy):
            return False
        return self._turn is None or self._playback.paused or self._output.waits

    # What the dialogue orders; see ``dialogue.Stage``.

    def open(self, before: Sequence[bytes]) -> None:
        """An utterance begins."""
        hearing = Hearing(self._on_partial, self._on_draft)
        self._hearing, self._hearing_scope = hearing, anyio.CancelScope()
        self._pcm.clear()
        self._turn_id = uuid.uuid4().hex
        if self._tell is not None:
            self._turn_ids.add(self._turn_id)
        for pcm in before:
            self.feed(pcm)
        self._start(self._hear, hearing, self._hearing_scope, counted=False)

    def feed(self, pcm: bytes) -> None:
        """Its next frame."""
        self._pcm += pcm
        if self._hearing is not None:
            self._hearing.feed(pcm)

    def pause(self) -> None:
        """Draft the transcript and judge the pause."""
        if self._hearing is not None:
            self._hearing.draft()
        if self._smart_turn is not None:
            self._start(self._judge, self._smart_turn, bytes(self._pcm[-LONGEST_TURN_BYTES:]), self._hearing)

    def withdraw(self) -> None:
        """Throw away what was begun ahead."""
        self._expected = ""
        if self._ahead is not None:
            self._ahead.cancel()
            self._ahead = None

    def prepare(self, text: str, wake: str) -> None:
        """Begin to answer in secret."""
        if not self._settings.speculate or text == self._expected:
            return
        self.withdraw()
        self._expected = text
        self._start(self._speculate, text, wake, self._turn_id, counted=False)

    def close(self, *, drafted: bool) -> None:
        """Transcribe."""
        if self._hearing is not None and (text := self._hearing.end(drafted=drafted)):
            self._start(self._understood, self._hearing, text)
        if self._recorder is not None:
            self._start(self._recorder.keep, bytes(self._pcm), counted=False)

    def abandon(self) -> None:
        """Forget the utterance."""
        self.withdraw()
        if self._hearing is not None:
            self._hearing = None
            self._hearing_scope.cancel()
            self._pcm.clear()

    def answer(self, text: str, wake: str) -> None:
        """Start a turn."""
        self._playback.begin()
        ahead, self._ahead, self._expected = self._ahead, None, ""
        if ahead is not None and ahead.text != text:
            ahead.cancel()
            ahead = None
        self._output = Loudspeaking(self._playback, self._pulse)
        self._start(self._answer, self._say(text, wake), Voice(self._output, ahead))

    def cancel(self) -> None:
        """Silence at once; the turn ends behind it."""
        self._output.stop()
        if self._starting is not None:
            self._starting.cancel()
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.scope.cancel()
            self._start(turn.done.wait)

    def confirm(self, hit: WakeHit, before: Sequence[bytes]) -> None:
        """Let the recogniser look for the wake word."""
        self._start(self._confirm, hit, b"".join(before))

    def undo(self, wake: str) -> None:
        """A wake word led to nothing."""
        if self._wake_log is not None:
            self._wake_log.undo(wake)

    def publish(self, event: events.Event) -> None:
        """Tell everybody."""
        if self._tell is not None:
            self._mine[id(event)] = event
        self._parts.bus.publish(event)

    # The work.

    def _start(self, work: Callable[..., Awaitable[object]], *args: object, counted: bool = True) -> None:
        """Run something beside the frames; ``counted`` work holds the sample clock up, see ``settled``."""
        if self._tasks is None:
            return
        self._in_flight += counted

        async def run() -> None:
            try:
                await work(*args)
            finally:
                self._in_flight -= counted

        self._tasks.start_soon(run)

    async def _warm(self) -> None:
        """Load what a turn needs before the first one."""
        for kind in ("stt", "tts", "llm"):
            try:
                await self._parts.pool.ready(kind)
            except AssistantError as error:
                log.warning("%s: %s", error.message, error.hint)

    async def _hear(self, hearing: Hearing, scope: anyio.CancelScope) -> None:
        parts = self._parts
        with scope:
            try:
                async with parts.pool.speech(), parts.pool.using("stt") as ready:
                    text = await hearing.run(ready, parts.settings.assistant.language, parts.matcher.phrases())
            except AssistantError as error:
                if self._hearing is hearing:
                    self._hearing = None
                    self._fail(error)
                return
            await self._understood(hearing, text)

    async def _understood(self, hearing: Hearing, text: str) -> None:
        if self._hearing is hearing:
            self._hearing = None
            self._hearing_scope.cancel()
            self._pcm.clear()
            self.dialogue.transcript(text)

    def _on_partial(self, text: str) -> None:
        self.publish(events.PartialTranscript(text=text, turn_id=self._turn_id))
        self.dialogue.partial(text)

    def _on_draft(self, text: str) -> None:
        if text:
            self.publish(events.PartialTranscript(text=text, turn_id=self._turn_id))
        self.dialogue.draft(text)

    async def _judge(self, smart_turn: SmartTurn, pcm: bytes, hearing: Hearing | None) -> None:
        complete = await to_thread.run_sync(smart_turn.probability, pcm)
        if hearing is not None and self._hearing is hearing:
            self.dialogue.judged(complete)

    async def _speculate(self, text: str, wake: str, turn_id: str) -> None:
        say, unchanged = self._say(text, wake, turn_id), self._sessions.unchanged()
        newest = None if say.session_id else await self._sessions.newest(CHANNEL)
        session_id = say.session_id or (newest.id if newest is not None else "")
        if text != self._expected or (session_id and self._sessions.is_live(session_id)):
            return
        turn = Turn(
            turn_id, Session(session_id, CHANNEL), "voice", text=text, model=say.model, persona=say.persona,
            voice=Voice(self._output),
        )  # fmt: skip
        self._ahead = Speculation(self._parts, turn, unchanged)
        await self._ahead.run()

    def _say(self, text: str, wake: str, turn_id: str = "") -> Say:
        chosen = self._settings.wake.get(wake)
        session, model, persona = (chosen.session, chosen.model, chosen.persona) if chosen else ("", "", "")
        return Say(
            turn_id=turn_id or self._turn_id, text=text, channel=CHANNEL, session_id=session, model=model,
            persona=persona,
        )  # fmt: skip

    async def _answer(self, say: Say, voice: Voice) -> None:
        self._starting = scope = anyio.CancelScope()
        try:
            with scope:
                turn = await self._sessions.answer(say, voice)
        except AssistantError as error:
            self._fail(error)
            return
        finally:
            if self._starting is scope:
                self._starting = None
        if scope.cancelled_caught or scope.cancel_called:
            return
        self._turn, self._spoken = turn, turn.turn
        self._start(self._follow, turn, counted=False)

    async def _follow(self, live: LiveTurn) -> None:
        await live.done.wait()
        if self._turn is live:
            self._turn = None
            self._tell_progress(0)
            self.dialogue.answered(live.turn.answer, live.turn.reason or "failed")

    async def _confirm(self, hit: WakeHit, pcm: bytes) -> None:
        try:
            if self._second is not None:
                chosen = self._settings.wake.get(self._second.name)
                threshold = chosen.threshold if chosen else 0.0
                agreed = await to_thread.run_sync(agrees, self._second, pcm, threshold)
            else:
                agreed = holds_wake(await self._understand(pcm), self._phrases.get(hit.name, hit.name))
        except AssistantError as error:
            log.warning("the wake word could not be looked at again: %s", error.message)
            agreed = True
        self.dialogue.confirmed(hit, agreed)

    async def _understand(self, pcm: bytes) -> str:
        async with self._parts.pool.using("stt") as ready:
            lane, language = ready.lane, self._parts.settings.assistant.language
            phrases = tuple(self._phrases.values())
            handle = await lane.open(ready.key, SpeechToText.open, language, phrases, priority=Priority.SPEECH)
            try:
                await lane.call(handle, Transcription.feed, pcm, priority=Priority.SPEECH)
                found = await lane.call(handle, Transcription.finish, priority=Priority.SPEECH)
            finally:
                with anyio.CancelScope(shield=True):
                    await lane.release(handle)
        return found.text

    def _fail(self, error: AssistantError) -> None:
        log.warning("voice: %s: %s", error.message, error.hint)
        self.publish(events.VoiceFailed(error=error_info(error)))
        self.dialogue.failed()

    def _is_command(self, text: str) -> bool:
        return bool(text) and self._parts.matcher.match(text) is not None

    async def _pulse(self) -> None:
        if self._tell is not None:
            await self._pulsed.wait()
            return
        with anyio.move_on_after(STALL_SECONDS):
            await self._pulsed.wait()

    def _tell_progress(self, clock: int) -> None:
        heard = self._playback.heard()
        if heard != self._told:
            self._told = heard
            if heard and self._spoken is not None:
                seconds = round(clock * FRAME_SECONDS, 2)
                self.publish(events.within(
                    events.SpeechPlayed(text=heard, clock=seconds), self._spoken.session.id, self._spoken.id
                ))  # fmt: skip

    def _observe(self, event: events.Event) -> None:
        if isinstance(event, events.TimerFired):
            self.dialogue.ring(event.name or "timer")
        mine = self._mine.pop(id(event), None) is event
        if self._tell is not None and (mine or event.turn_id in self._turn_ids):
            self._tell(event)
