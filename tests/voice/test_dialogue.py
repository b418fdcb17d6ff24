"""Who has the floor, frame by frame: probabilities instead of sound, and a stage that writes down its orders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from assistant import AudioChunk, events
from assistant.config import VoiceSettings
from assistant.voice.dialogue import AFTER_WAKE, BEFORE_SPEECH, Dialogue
from assistant.voice.frames import FRAME, RATE, SILENCE, Heard, WakeHit
from assistant.voice.playback import Playback

SPEECH, QUIET = 0.95, 0.02
COMMANDS = ("what time is it", "stop the timer")


class Stage:
    """Writes down what it is told to do."""

    def __init__(self) -> None:
        self.orders: list[str] = []
        self.events: list[events.Event] = []
        self.before: list[int] = []
        self.fed = 0
        self.playback = Playback(RATE)

    def open(self, before: Sequence[bytes]) -> None:
        self.orders.append("open")
        self.before.append(len(before))
        self.fed = len(before)

    def feed(self, pcm: bytes) -> None:
        self.fed += 1

    def pause(self) -> None:
        self.orders.append("pause")

    def withdraw(self) -> None:
        self.orders.append("withdraw")

    def prepare(self, text: str, wake: str) -> None:
        self.orders.append(f"prepare {text}")

    def close(self, *, drafted: bool) -> None:
        self.orders.append(f"close {'drafted' if drafted else 'fresh'}")

    def abandon(self) -> None:
        self.orders.append("abandon")

    def answer(self, text: str, wake: str) -> None:
        self.playback.begin()
        self.orders.append(f"answer {text}" + (f" [{wake}]" if wake else ""))

    def cancel(self) -> None:
        self.playback.stop()
        self.orders.append("cancel")

    def confirm(self, hit: WakeHit, before: Sequence[bytes]) -> None:
        self.orders.append(f"confirm {hit.name}")

    def undo(self, wake: str) -> None:
        self.orders.append(f"undo {wake}")

    def publish(self, event: events.Event) -> None:
        self.events.append(event)


class Scene:
    """A dialogue, its stage, and a clock."""

    def __init__(self, *, wake: bool = True, judged: bool = True, **settings: Any) -> None:
        self.stage = Stage()
        chosen = msgspec.convert(settings, VoiceSettings)
        self.dialogue = Dialogue(
            chosen, self.stage, self.stage.playback, phrases={"hey_jarvis": "hey jarvis"} if wake else {},
            is_command=lambda text: text in COMMANDS, judged=judged,
        )  # fmt: skip
        self.clock = 0

    @property
    def orders(self) -> list[str]:
        """What was ordered since this was last looked at, without what only says that words went on."""
        orders, self.stage.orders = self.stage.orders, []
        return [order for order in orders if order != "withdraw"]

    @property
    def state(self) -> str:
        """What it does now."""
        return self.dialogue.state

    @property
    def states(self) -> list[str]:
        return [event.state for event in self.stage.events if isinstance(event, events.VoiceStateChanged)]

    def told(self, kind: type[events.Event]) -> list[Any]:
        return [event for event in self.stage.events if isinstance(event, kind)]

    def frames(self, count: int, speech: float, *hits: WakeHit) -> None:
        """So many frames; the hits come with the last."""
        for number in range(count):
            self.clock += 1
            played = self.stage.playback.pull(FRAME)
            self.dialogue.take(Heard(
                clock=self.clock, pcm=SILENCE, speech=speech, level=-20.0 if speech > 0.5 else -70.0,
                playing=any(played), hits=hits if number == count - 1 else (),
            ))  # fmt: skip

    def wake(self) -> None:
        """The wake word."""
        self.frames(60, SPEECH, WakeHit("hey_jarvis", 0.99, True))

    def ask(self, text: str) -> None:
        """Wake it, say something, be silent, and have it understood."""
        self.wake()
        self.frames(100, SPEECH)
        self.frames(20, QUIET)
        self.dialogue.draft(text)
        self.dialogue.judged(0.99)
        self.frames(200, QUIET)
        self.dialogue.transcript(text)

    def speak(self, text: str, seconds: float = 3.0) -> None:
        """The turn's answer is put into the loudspeaker."""
        playback = self.stage.playback
        playback.begin()
        playback.add(text, AudioChunk(pcm=b"\x10\x20" * int(seconds * RATE), sample_rate=RATE))
        playback.finish()


def test_a_wake_word_and_a_command_are_a_turn() -> None:
    scene = Scene()
    scene.ask("what time is it")

    assert scene.orders == ["open", "pause", "close drafted", "answer what time is it [hey_jarvis]"]
    assert scene.states == ["listening", "thinking"]
    [ended] = scene.told(events.SpeechEnded)
    assert ended.reason == "intent"
    assert 0.15 <= ended.waited <= 0.35


def test_the_frames_just_before_the_detection_belong_to_the_words() -> None:
    scene = Scene()
    scene.frames(300, QUIET)
    scene.wake()
    assert scene.stage.before == [AFTER_WAKE - 1]
    assert scene.stage.fed == AFTER_WAKE


def test_nothing_that_is_said_without_the_wake_word_is_taken() -> None:
    scene = Scene()
    for _ in range(5):
        scene.frames(300, SPEECH)
        scene.frames(300, QUIET)
    assert scene.orders == []
    assert scene.states == []


def test_without_wake_words_speech_is_enough_and_its_beginning_is_kept() -> None:
    scene = Scene(wake=False)
    scene.frames(300, QUIET)
    scene.frames(9, SPEECH)
    assert scene.orders == ["open"]
    assert scene.stage.before == [BEFORE_SPEECH - 1]
    assert scene.state == "listening"


def test_a_near_miss_is_told_and_wakes_nobody() -> None:
    scene = Scene()
    scene.frames(10, SPEECH, WakeHit("hey_jarvis", 0.6, False))
    assert scene.orders == []
    assert [hit.accepted for hit in scene.told(events.WakeWordHeard)] == [False]


def test_nobody_speaks_after_the_wake_word() -> None:
    scene = Scene()
    scene.frames(60, QUIET, WakeHit("hey_jarvis", 0.99, True))
    scene.frames(600, QUIET)
    assert scene.orders == ["open", "undo hey_jarvis", "abandon"]
    assert [drop.reason for drop in scene.told(events.SpeechDropped)] == ["nobody"]
    assert scene.state == "idle"


def test_a_pause_in_the_middle_does_not_end_the_words() -> None:
    scene = Scene()
    scene.wake()
    scene.frames(80, SPEECH)
    scene.frames(25, QUIET)
    scene.dialogue.draft("set a timer for")
    scene.dialogue.judged(0.02)
    scene.frames(30, QUIET)
    scene.frames(80, SPEECH)
    assert scene.orders == ["open", "pause"]
    assert scene.state == "listening"


def test_what_was_prepared_is_withdrawn_when_the_words_go_on() -> None:
    scene = Scene()
    scene.wake()
    scene.frames(80, SPEECH)
    scene.frames(25, QUIET)
    scene.dialogue.draft("tell me")
    scene.frames(20, SPEECH)
    assert scene.stage.orders[-1] == "withdraw"
    scene.frames(25, QUIET)
    scene.dialogue.draft("tell me a story")
    assert scene.stage.orders[-1] == "prepare tell me a story"


def test_no_words_after_the_wake_word() -> None:
    scene = Scene()
    scene.ask("")
    assert scene.orders == ["open", "pause", "close drafted", "undo hey_jarvis"]
    assert scene.state == "idle"


def test_the_wake_phrase_in_the_transcript_is_no_part_of_the_question() -> None:
    scene = Scene()
    scene.ask("Jarvis, who are you?")
    assert scene.orders[-1] == "answer who are you? [hey_jarvis]"


class TestOverTheAnswer:
    """Somebody speaks while the assistant does."""

    @staticmethod
    def scene(**settings: Any) -> Scene:
        scene = Scene(**settings)
        scene.ask("tell me a story")
        scene.speak("Once upon a time there was a king who had three daughters")
        scene.frames(100, QUIET)
        assert scene.state == "speaking"
        scene.stage.orders.clear()
        return scene

    def test_it_falls_silent_while_it_finds_out(self) -> None:
        scene = self.scene()
        scene.frames(24, SPEECH)
        assert scene.stage.playback.paused
        assert scene.orders == ["open"]
        assert len(scene.told(events.SpeechPaused)) == 1

    def test_a_cough_is_nothing(self) -> None:
        scene = self.scene()
        scene.frames(15, SPEECH)
        scene.frames(50, QUIET)
        assert not scene.stage.playback.paused
        assert scene.orders == []

    def test_uh_huh_goes_on_where_it_stopped(self) -> None:
        scene = self.scene()
        heard = scene.stage.playback.heard()
        scene.frames(40, SPEECH)
        scene.frames(80, QUIET)
        scene.dialogue.transcript("uh-huh")
        assert not scene.stage.playback.paused
        assert scene.orders[-1] != "cancel"
        assert [drop.reason for drop in scene.told(events.SpeechDropped)] == ["backchannel"]
        assert len(scene.told(events.SpeechResumed)) == 1
        assert scene.state == "speaking"
        scene.frames(200, QUIET)
        assert scene.stage.playback.heard().startswith(heard)
        assert scene.stage.playback.done

    def test_its_own_words_coming_back_are_nothing(self) -> None:
        scene = self.scene()
        scene.frames(60, SPEECH)
        scene.frames(80, QUIET)
        scene.dialogue.transcript(" ".join(scene.stage.playback.heard().split()[-4:]))
        assert not scene.stage.playback.paused
        assert "cancel" not in scene.orders

    @pytest.mark.parametrize("word", ["stop", "Stop!", "okay stop", "be quiet"])
    def test_stop_works_as_soon_as_it_is_understood(self, word: str) -> None:
        scene = self.scene()
        scene.frames(40, SPEECH)
        scene.dialogue.partial(word)
        assert scene.orders == ["open", "abandon", "cancel"]
        assert scene.stage.playback.done
        assert scene.state == "idle"

    def test_a_question_takes_the_floor_before_it_is_over(self) -> None:
        scene = self.scene()
        scene.frames(60, SPEECH)
        scene.dialogue.partial("but who was")
        assert scene.orders == ["open", "cancel"]
        assert scene.state == "listening"
        scene.frames(60, SPEECH)
        scene.frames(200, QUIET)
        scene.dialogue.transcript("but who was the queen")
        assert scene.orders[-1] == "answer but who was the queen [hey_jarvis]"

    def test_one_word_waits_for_the_end(self) -> None:
        scene = self.scene()
        scene.frames(40, SPEECH)
        scene.dialogue.partial("who")
        assert scene.orders == ["open"]
        scene.frames(100, QUIET)
        scene.dialogue.transcript("who?")
        assert scene.orders[-2:] == ["cancel", "answer who? [hey_jarvis]"]

    def test_the_wake_word_takes_the_floor_at_once(self) -> None:
        scene = self.scene()
        scene.frames(10, SPEECH, WakeHit("hey_jarvis", 0.99, True))
        assert scene.orders == ["cancel", "open"]
        assert scene.state == "listening"

    def test_barge_in_can_be_switched_off(self) -> None:
        scene = self.scene(barge_in=False)
        scene.frames(100, SPEECH)
        assert scene.orders == []
        assert not scene.stage.playback.paused

    def test_hush(self) -> None:
        scene = self.scene()
        scene.dialogue.stop()
        assert scene.orders == ["cancel"]
        assert scene.state == "idle"


def test_words_while_it_thinks_belong_to_the_question() -> None:
    scene = Scene()
    scene.ask("tell me a story")
    scene.frames(50, SPEECH)
    scene.frames(100, QUIET)
    scene.dialogue.transcript("about a king")
    assert scene.orders[-2:] == ["cancel", "answer tell me a story about a king [hey_jarvis]"]


def test_after_a_question_no_wake_word_is_needed() -> None:
    scene = Scene()
    scene.ask("set an alarm")
    scene.dialogue.answered("For what time?", "complete")
    assert scene.state == "listening"
    scene.frames(100, QUIET)
    scene.frames(80, SPEECH)
    scene.frames(200, QUIET)
    scene.dialogue.transcript("yes")
    assert scene.orders[-1] == "answer yes [hey_jarvis]"


def test_nobody_answers_the_question() -> None:
    scene = Scene(follow_up_seconds=3)
    scene.ask("set an alarm")
    scene.dialogue.answered("For what time?", "complete")
    scene.frames(320, QUIET)
    assert scene.state == "idle"
    assert "undo hey_jarvis" not in scene.orders[4:]


def test_a_follow_up_can_be_switched_off() -> None:
    scene = Scene(follow_up_seconds=0)
    scene.ask("set an alarm")
    scene.dialogue.answered("For what time?", "complete")
    assert scene.state == "idle"


class TestRinging:
    """A timer is due."""

    def test_it_rings_until_somebody_says_stop_without_a_wake_word(self) -> None:
        scene = Scene()
        scene.dialogue.ring("pasta")
        assert scene.state == "ringing"
        scene.frames(100, QUIET)
        assert any(scene.stage.playback.pull(RATE))
        scene.frames(50, SPEECH)
        scene.frames(100, QUIET)
        scene.dialogue.transcript("stop")
        assert [event.reason for event in scene.told(events.RingingStopped)] == ["stopped"]
        assert scene.state == "idle"
        assert not any(scene.stage.playback.pull(RATE)[RATE // 10 :])

    def test_other_talk_does_not_stop_it(self) -> None:
        scene = Scene()
        scene.dialogue.ring("pasta")
        scene.frames(100, SPEECH)
        scene.frames(200, QUIET)
        scene.dialogue.transcript("did you see the news today")
        assert scene.state == "ringing"
        assert "answer" not in " ".join(scene.orders)

    def test_it_does_not_ring_for_ever(self) -> None:
        scene = Scene(ring_seconds=5)
        scene.dialogue.ring("pasta")
        scene.frames(510, QUIET)
        assert [event.reason for event in scene.told(events.RingingStopped)] == ["limit"]

    def test_the_wake_word_silences_it(self) -> None:
        scene = Scene()
        scene.dialogue.ring("pasta")
        scene.wake()
        assert len(scene.told(events.RingingStopped)) == 1
        assert scene.state == "listening"


def test_push_to_talk_takes_everything_until_it_is_let_go() -> None:
    scene = Scene()
    scene.dialogue.talk(True)
    scene.frames(50, SPEECH)
    scene.frames(500, QUIET)
    assert scene.state == "listening"
    scene.dialogue.talk(False)
    assert scene.orders == ["open", "close fresh"]
    assert [event.reason for event in scene.told(events.SpeechEnded)] == ["released"]


def test_mute_forgets_what_is_being_said() -> None:
    scene = Scene()
    scene.wake()
    scene.dialogue.mute(True)
    assert scene.orders == ["open", "abandon"]
    assert scene.state == "muted"
    scene.dialogue.mute(False)
    assert scene.state == "idle"


def test_a_second_look_can_refuse_a_wake_word() -> None:
    scene = Scene(second_look="stt")
    scene.wake()
    assert scene.orders == ["open", "confirm hey_jarvis"]
    scene.dialogue.confirmed(WakeHit("hey_jarvis", 0.99, True), False)
    assert scene.orders == ["undo hey_jarvis", "abandon"]
    assert scene.state == "idle"


def test_a_second_look_loses_none_of_the_words() -> None:
    scene = Scene(second_look="stt")
    scene.wake()
    scene.frames(50, SPEECH)
    scene.dialogue.confirmed(WakeHit("hey_jarvis", 0.99, True), True)
    assert scene.state == "listening"
    assert scene.stage.fed == AFTER_WAKE + 50


def test_a_failed_turn_leaves_it_ready() -> None:
    scene = Scene()
    scene.ask("tell me a story")
    scene.dialogue.answered("", "failed")
    assert scene.state == "idle"
    scene.stage.orders.clear()
    scene.ask("what time is it")
    assert scene.orders[-1] == "answer what time is it [hey_jarvis]"


def test_stop_after_the_wake_word_asks_nobody() -> None:
    scene = Scene()
    scene.ask("never mind")
    assert not any(order.startswith("answer") for order in scene.orders)
    assert scene.state == "idle"
