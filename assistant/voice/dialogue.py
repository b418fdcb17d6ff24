"""Who has the floor: a state machine over frames that decides what the listening loop does.

Plain and synchronous: frames and texts come in, orders go to a ``Stage``. All time is counted in frames.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from assistant import events

from .endpoint import Change, Endpointer
from .frames import FRAME_SECONDS, Heard, WakeHit, frames
from .interruption import RESUME_SECONDS, Interruption, judge
from .unfinished import unfinished
from .wording import without_wake

if TYPE_CHECKING:
    from assistant.config import VoiceSettings

    from .playback import Playback

WORDS_WAIT = 5.0
"""Seconds after a wake word in which the words must begin."""
AFTER_WAKE = frames(0.3)
"""Frames before the detection that belong to the words: it comes some frames late, and people go on without a pause."""
BEFORE_SPEECH = frames(0.8)
"""Frames before speech was noticed that may hold its beginning."""
GREETING = frames(0.35)
"""Frames after a wake word without words before the sound that invites to speak: whoever goes on without a pause needs
none, and it would be in the way of the words."""
ONSET = frames(0.08)
"""Frames in a row with speech after which words are taken without a wake word."""
LIKELY = 0.5
"""The probability that counts for ``ONSET``."""
FLOOR_WORDS = 2
"""So many words over the answer are no "uh-huh": it is given up before the sentence is over."""


class Stage(Protocol):
    """What a dialogue makes happen."""

    def open(self, before: Sequence[bytes]) -> None:
        """An utterance begins with these frames."""

    def feed(self, pcm: bytes) -> None:
        """Its next frame."""

    def pause(self) -> None:
        """The speaker pauses: draft the transcript, and have the pause judged."""

    def withdraw(self) -> None:
        """The words go on: what was begun ahead is worthless."""

    def prepare(self, text: str, wake: str) -> None:
        """The words may be over: begin to answer, in secret."""

    def close(self, *, drafted: bool) -> None:
        """The utterance is over: transcribe it, or take the draft."""

    def abandon(self) -> None:
        """Forget the utterance."""

    def answer(self, text: str, wake: str) -> None:
        """Start a turn."""

    def cancel(self) -> None:
        """Silence the answer and cancel its turn, whose end is not told."""

    def confirm(self, hit: WakeHit, before: Sequence[bytes]) -> None:
        """Have the recogniser look for the wake word in these frames."""

    def undo(self, wake: str) -> None:
        """A wake word led to nothing."""

    def publish(self, event: events.Event) -> None:
        """Tell everybody."""


@dataclass
class Utterance:
    """Speech that is being taken."""

    kind: Literal["asked", "over", "ring", "talk"]
    """``asked``: words for the assistant; ``over``: speech over its answer; ``ring``: while a timer rings; ``talk``: as
    long as a key is held."""
    endpointer: Endpointer
    wake: str = ""
    greeting: int = 0
    """The frame in which the sound that invites to speak is due; 0: none is."""
    drafted: bool = False
    partial: str = ""
    closing: bool = False


class Dialogue:
    """Decides what each frame and each text means.

    Args:
        phrases: what is said for each wake word; with none everything that is said is meant.
        is_command: whether a text is a whole command for the fast path.
        judged: every pause is judged by a turn model.
        is_unfinished: whether a text must go on.
    """

    def __init__(
        self,
        settings: VoiceSettings,
        stage: Stage,
        playback: Playback,
        *,
        phrases: Mapping[str, str],
        is_command: Callable[[str], bool],
        judged: bool,
        is_unfinished: Callable[[str], bool] = unfinished,
    ) -> None:
        self._settings = settings
        self._stage = stage
        self._playback = playback
        self._phrases = phrases
        self._is_command = is_command
        self._is_unfinished = is_unfinished
        self._judged = judged
        self._interruption = Interruption()
        self._recent: deque[Heard] = deque(maxlen=frames(2.5))
        self._clock = 0
        self._onset = 0
        self._utterance: Utterance | None = None
        self._answering = False
        self._question = ""
        self._wake = ""
        self._ringing: dict[str, int] = {}
        self._muted = False
        self.state: events.VoiceState = "idle"

    # What is heard.

    def take(self, heard: Heard) -> None:
        """The next frame."""
        self._clock = heard.clock
        self._recent.append(heard)
        self._onset = self._onset + 1 if heard.speech >= LIKELY else 0
        for hit in heard.hits:
            self._hit(hit)
        if self._utterance is None:
            self._notice(heard)
        if self._utterance is not None:
            self._listen(heard, self._utterance)
        self._limit_ringing()
        self._settle()

    def partial(self, text: str) -> None:
        """What has been understood so far."""
        self._overtake(text)
        if self._utterance is not None:
            self._utterance.partial = text
            self._check_command(self._utterance)
        self._settle()

    def draft(self, text: str) -> None:
        """What was said, if the pause is the end."""
        utterance = self._utterance
        if utterance is None or utterance.closing or not text:
            return
        self._overtake(text)
        if self._utterance is utterance and utterance.kind in ("asked", "over"):
            words = self._words(text)
            command = self._is_command(words)
            open_ended = not command and self._is_unfinished(words)
            self._changed(utterance.endpointer.hear(command, unfinished=open_ended), utterance)
            if utterance.kind == "asked" and words and not command and not open_ended and not self._answering:
                self._stage.prepare(words, utterance.wake)
        self._settle()

    def judged(self, complete: float) -> None:
        """The turn model's opinion of the last pause."""
        if self._utterance is not None and not self._utterance.closing:
            self._changed(self._utterance.endpointer.judge(complete), self._utterance)
        self._settle()

    def transcript(self, text: str) -> None:
        """What was said, for certain."""
        utterance, self._utterance = self._utterance, None
        if utterance is None:
            return
        words = self._words(text)
        spoken = self._playback.heard() if utterance.kind == "over" else ""
        verdict = "turn" if self._is_command(words) else judge(words, spoken)
        if utterance.kind == "ring":
            self._while_ringing(words, verdict)
        elif verdict == "nothing":
            self._drop("no_words", words, utterance)
        elif verdict == "stop":
            self._stop()
        elif verdict == "backchannel" and utterance.kind == "over":
            self._drop("backchannel", words, utterance)
        else:
            self._answer(words, utterance)
        self._settle()

    def failed(self) -> None:
        """The recogniser or the turn could not be had."""
        utterance, self._utterance = self._utterance, None
        if utterance is not None and utterance.kind == "over":
            self._resume()
        self._effect("failed")
        self._settle()

    def answered(self, text: str, reason: events.TurnReason) -> None:
        """The turn has ended, and what there was to hear of it was heard."""
        self._answering = False
        self._interruption.reset()
        if reason == "failed":
            self._effect("failed")
        wait = self._settings.follow_up_seconds
        asks = reason == "complete" and text.rstrip(" \"'*_)").endswith("?")
        if asks and wait and not self._muted and self._utterance is None:
            self._begin("asked", 0, wait)
        self._settle()

    def confirmed(self, hit: WakeHit, confirmed: bool) -> None:
        """The recogniser's opinion of a wake word."""
        utterance = self._utterance
        if utterance is None or utterance.wake != hit.name:
            return
        if confirmed:
            self._greet()
        else:
            self._drop("not_woken", "", utterance)
        self._settle()

    # What is asked for by other means.

    def ring(self, name: str) -> None:
        """A timer or an alarm is due."""
        self._ringing[name] = self._clock
        self._playback.duck(True)
        self._playback.ring(True)
        self._stage.publish(events.RingingStarted(name=name, clock=self._seconds))
        self._settle()

    def stop_ringing(self, reason: Literal["stopped", "limit"] = "stopped") -> None:
        """Silence all timers."""
        for name in self._ringing:
            self._stage.publish(events.RingingStopped(name=name, reason=reason, clock=self._seconds))
        self._ringing.clear()
        self._playback.ring(False)
        self._playback.duck(False)
        self._settle()

    def talk(self, pressed: bool) -> None:
        """A key is held to talk, or was let go."""
        if pressed:
            self._cut_off()
            self._begin("talk", 0, WORDS_WAIT)
        elif self._utterance is not None and self._utterance.kind == "talk":
            self._close("released", 0.0, self._utterance)
        self._settle()

    def stop(self) -> None:
        """Be quiet, and forget what is being said."""
        self._forget()
        self._stop()
        self._settle()

    def mute(self, muted: bool) -> None:
        """The microphone was closed, or opened again."""
        self._muted = muted
        if muted:
            self._forget()
            if self._playback.paused:
                self._resume()
        self._settle()

    # The parts.

    @property
    def _seconds(self) -> float:
        return round(self._clock * FRAME_SECONDS, 2)

    def _hit(self, hit: WakeHit) -> None:
        event = events.WakeWordHeard(
            name=hit.name, score=round(hit.score, 3), accepted=hit.accepted, clock=self._seconds
        )
        self._stage.publish(event)
        utterance = self._utterance
        if not hit.accepted or (utterance is not None and utterance.kind in ("asked", "talk")):
            return
        self._cut_off()
        if self._ringing:
            self.stop_ringing()
        self._wake = hit.name
        self._begin("asked", AFTER_WAKE, WORDS_WAIT, hit.name)
        if self._settings.second_look:
            self._stage.confirm(hit, [heard.pcm for heard in self._recent])
        else:
            self._greet()

    def _greet(self) -> None:
        if self._utterance is not None:
            self._utterance.greeting = self._clock + GREETING

    def _notice(self, heard: Heard) -> None:
        """Begin to take words, if what is heard now is the beginning of some."""
        if self._ringing and self._onset >= ONSET:
            self._begin("ring", BEFORE_SPEECH, WORDS_WAIT)
        elif self._answering:
            self._watch(heard)
        elif not self._phrases and self._onset >= ONSET:
            self._begin("asked", BEFORE_SPEECH, WORDS_WAIT)

    def _begin(
        self, kind: Literal["asked", "over", "ring", "talk"], before: int, wait: float, wake: str = ""
    ) -> None:
        """Take words, beginning with the last ``before`` frames; the newest of them is still to be listened to."""
        self._forget()
        past = list(self._recent)[-before:-1] if before else []
        endpointer = Endpointer(self._settings.patience, judged=self._judged)
        self._utterance = utterance = Utterance(kind, endpointer, wake)
        self._stage.open([heard.pcm for heard in past])
        if wake:
            past = []
        endpointer.begin(past[0].clock - 1 if past else self._clock - 1, wait_seconds=wait)
        for heard in past:
            self._changed(endpointer.process(heard.clock, heard.speech), utterance)

    def _listen(self, heard: Heard, utterance: Utterance) -> None:
        if utterance.closing:
            return
        self._stage.feed(heard.pcm)
        if utterance.greeting and heard.clock >= utterance.greeting:
            utterance.greeting = 0
            if not self._onset:
                self._effect("woken")
        if utterance.kind == "talk":
            return
        self._changed(utterance.endpointer.process(heard.clock, heard.speech), utterance)
        over = self._utterance is utterance and utterance.kind == "over" and not utterance.closing
        if over and self._interruption.process(heard.clock, heard.speech, heard.level) == "resume":
            self._close("silence", RESUME_SECONDS, utterance)

    def _changed(self, change: Change | None, utterance: Utterance) -> None:
        if change is None or utterance is not self._utterance or utterance.closing:
            return
        match change.kind:
            case "started":
                utterance.greeting = 0
                self._stage.publish(events.SpeechStarted(clock=round(change.clock * FRAME_SECONDS, 2)))
            case "paused":
                utterance.drafted = True
                self._stage.pause()
                self._check_command(utterance)
            case "resumed":
                utterance.drafted = False
                self._stage.withdraw()
            case "nobody":
                self._drop("nobody", "", utterance)
            case "ended":
                waited = max(0, change.clock - change.last_speech) * FRAME_SECONDS
                self._close(change.reason or "silence", waited, utterance)

    def _check_command(self, utterance: Utterance) -> None:
        """A pause after the words of a whole command ends them; the transcript has what came since, if anything did."""
        if not utterance.closing and utterance.kind == "asked" and self._is_command(self._words(utterance.partial)):
            self._changed(utterance.endpointer.hear(True), utterance)

    def _close(
        self,
        reason: Literal["silence", "complete", "intent", "limit", "released"],
        waited: float,
        utterance: Utterance,
    ) -> None:
        utterance.closing = True
        self._stage.publish(events.SpeechEnded(clock=self._seconds, waited=round(waited, 2), reason=reason))
        if utterance.kind == "asked":
            self._effect("heard")
        self._stage.close(drafted=utterance.drafted)

    def _watch(self, heard: Heard) -> None:
        """When somebody speaks over the answer, be silent and listen what it is."""
        said = self._interruption.process(heard.clock, heard.speech, heard.level)
        if said != "pause" or not self._settings.barge_in:
            return
        if not self._playback.done:
            self._playback.pause()
            self._stage.publish(events.SpeechPaused(clock=self._seconds))
        self._begin("over", BEFORE_SPEECH, WORDS_WAIT)

    def _overtake(self, text: str) -> None:
        """Give up the answer, or the ringing, as soon as the words so far are clear enough."""
        utterance = self._utterance
        if utterance is None or utterance.closing or utterance.kind not in ("over", "ring"):
            return
        words = self._words(text)
        verdict = judge(words, self._playback.heard() if utterance.kind == "over" else "")
        if utterance.kind == "ring" or self._is_command(words):
            return
        if verdict == "stop":
            self._forget()
            self._stop()
        elif verdict == "turn" and len(words.split()) >= FLOOR_WORDS and self._playback.heard():
            self._cut_off()
            utterance.kind = "asked"

    def _while_ringing(self, words: str, verdict: str) -> None:
        if verdict in ("stop", "backchannel") or self._is_command(words):
            self.stop_ringing()
        if verdict == "turn" and self._is_command(words):
            self._stage.answer(words, "")
            self._answering = True
        elif verdict not in ("stop", "backchannel"):
            self._stage.publish(events.SpeechDropped(clock=self._seconds, reason="not_woken", text=""))

    def _answer(self, words: str, utterance: Utterance) -> None:
        if utterance.kind == "over":
            if not self._playback.heard() and self._question:
                words = f"{self._question} {words}"
            self._cut_off()
        if self._ringing:
            self.stop_ringing()
        self._question = words
        self._answering = True
        self._interruption.reset()
        self._stage.answer(words, utterance.wake or self._wake)

    def _drop(
        self, reason: Literal["nobody", "no_words", "backchannel", "not_woken"], text: str, utterance: Utterance
    ) -> None:
        """It was nothing: forget it, and go on where the answer stopped."""
        self._stage.publish(events.SpeechDropped(clock=self._seconds, reason=reason, text=text))
        if utterance.wake and reason in ("nobody", "no_words", "not_woken"):
            self._stage.undo(utterance.wake)
        self._forget()
        if utterance.kind == "over":
            self._resume()
        elif reason == "no_words":
            self._effect("failed")

    def _resume(self) -> None:
        self._interruption.reset()
        if self._playback.paused:
            self._playback.resume()
            self._stage.publish(events.SpeechResumed(clock=self._seconds))

    def _stop(self) -> None:
        self._utterance = None
        self._cut_off()
        if self._ringing:
            self.stop_ringing()

    def _cut_off(self) -> None:
        if self._answering:
            self._answering = False
            self._interruption.reset()
            self._stage.cancel()

    def _forget(self) -> None:
        if self._utterance is not None:
            self._utterance = None
            self._stage.abandon()

    def _limit_ringing(self) -> None:
        limit = frames(self._settings.ring_seconds)
        if self._ringing and self._clock - max(self._ringing.values()) >= limit:
            self.stop_ringing("limit")

    def _words(self, text: str) -> str:
        return without_wake(text, self._phrases.values())

    def _effect(self, name: str) -> None:
        if self._settings.earcons:
            self._playback.effect(name)

    def _settle(self) -> None:
        """Say which state it is in now, if that is another."""
        state = self._now()
        if state != self.state:
            self.state = state
            self._stage.publish(events.VoiceStateChanged(state=state, clock=self._seconds))

    def _now(self) -> events.VoiceState:
        utterance = self._utterance
        if self._muted:
            return "muted"
        if utterance is not None and not utterance.closing and utterance.kind in ("asked", "talk"):
            return "listening"
        if self._answering:
            return "speaking" if self._playback.buffered or self._playback.heard() else "thinking"
        if utterance is not None and utterance.kind != "ring":
            return "thinking"
        return "ringing" if self._ringing else "idle"
