"""The end of a turn, from made-up speech probabilities."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.voice.endpoint import (
    LONGEST_PAUSE,
    LONGEST_TURN,
    OFF,
    ON,
    PACES,
    PAUSE,
    RESUME,
    START,
    WEAK,
    Change,
    Endpointer,
    Pace,
    Patience,
)  # fmt: skip
from assistant.voice.frames import frames

VOICE, HUSH = 0.95, 0.02
BALANCED = PACES["balanced"]
WORDS = frames(1.5)
"""Enough speech not to be a short answer."""


class Room:
    """An endpointer with somebody in front of it."""

    def __init__(self, patience: Patience | Pace = "balanced", *, judged: bool = False, wait: float = 5.0) -> None:
        self.endpointer = Endpointer(patience, judged=judged)
        self.clock = 1000
        self.endpointer.begin(self.clock, wait_seconds=wait)

    def hear(self, speech: float, count: int) -> list[Change]:
        """So many frames of one probability."""
        return list(self.hear_all([speech] * count))

    def hear_all(self, speech: Iterable[float]) -> Iterator[Change]:
        for one in speech:
            self.clock += 1
            if change := self.endpointer.process(self.clock, one):
                yield change

    def until_paused(self, words: int = WORDS) -> Change:
        """Somebody speaks, then is silent until the pause is announced."""
        self.hear(VOICE, words)
        (paused,) = self.hear(HUSH, PAUSE)
        return paused

    def waits(self) -> int:
        """Frames of silence from the last speech to the end of the turn, the pause having been announced."""
        for _ in range(LONGEST_PAUSE):
            for change in self.hear(HUSH, 1):
                assert change.kind == "ended"
                return change.clock - change.last_speech
        raise AssertionError("it does not end")


def kinds(changes: Iterable[Change]) -> list[str]:
    return [change.kind for change in changes]


def test_speech_starts_a_turn() -> None:
    room = Room()
    assert room.hear(HUSH, 30) == []
    assert room.hear(VOICE, START) == [Change("started", room.clock, room.clock)]
    assert room.hear(VOICE, 200) == []


def test_a_click_starts_nothing() -> None:
    room = Room()
    for _ in range(10):
        assert room.hear(VOICE, START - 1) == []
        assert room.hear(HUSH, 5) == []


def test_what_is_nearly_speech_starts_nothing() -> None:
    assert Room().hear(ON - 0.01, 400) == []


def test_nobody_speaks() -> None:
    room = Room(wait=2.0)
    assert room.hear(HUSH, 199) == []
    assert room.hear(HUSH, 1) == [Change("nobody", 1200, 1000)]
    assert room.hear(VOICE, 500) == []


def test_who_begins_at_the_last_moment_is_heard() -> None:
    room = Room(wait=1.0)
    room.hear(HUSH, 97)
    assert kinds(room.hear(VOICE, 20)) == ["started"]


def test_a_click_at_the_last_moment_is_nobody() -> None:
    room = Room(wait=1.0)
    room.hear(HUSH, 98)
    assert room.hear(VOICE, 4) == []
    assert kinds(room.hear(HUSH, 1)) == ["nobody"]


def test_a_pause_is_announced_once() -> None:
    room = Room()
    room.hear(VOICE, WORDS)
    last = room.clock
    assert room.hear(HUSH, PAUSE - 1) == []
    assert room.hear(HUSH, 1) == [Change("paused", last + PAUSE, last)]
    assert room.hear(HUSH, 20) == []


def test_speech_resumes() -> None:
    room = Room()
    room.until_paused()
    assert room.hear(VOICE, RESUME - 1) == []
    assert room.hear(VOICE, 1) == [Change("resumed", room.clock, room.clock)]
    assert room.hear(VOICE, 50) == []
    assert kinds(room.hear(HUSH, PAUSE)) == ["paused"]


def test_a_click_in_a_pause_does_not_prolong_it() -> None:
    room = Room()
    paused = room.until_paused()
    room.hear(VOICE, RESUME - 1)
    (ended,) = room.hear(HUSH, 100)
    assert (ended.clock - ended.last_speech, ended.last_speech) == (frames(BALANCED.alone), paused.last_speech)


def test_nothing_is_decided_while_words_seem_to_go_on() -> None:
    room = Room()
    room.until_paused()
    room.hear(HUSH, frames(BALANCED.alone) - PAUSE - 1)
    assert kinds(room.hear(VOICE, 10)) == ["resumed"]


def test_a_word_that_fades_goes_on() -> None:
    room = Room()
    room.hear(VOICE, WORDS)
    assert room.hear((ON + OFF) / 2, WEAK) == []
    last = room.clock
    (paused,) = room.hear(HUSH, PAUSE)
    assert paused.last_speech == last


def test_a_murmur_is_silence_after_a_while() -> None:
    room = Room(judged=False)
    room.hear(VOICE, WORDS)
    last = room.clock
    changes = room.hear((ON + OFF) / 2, 1000)
    assert kinds(changes) == ["paused", "ended"]
    assert changes[0].last_speech == last + WEAK


@pytest.mark.parametrize(("patience", "seconds"), [("aggressive", 0.25), ("balanced", 0.7), ("relaxed", 1.25)])
def test_silence_alone(patience: Patience, seconds: float) -> None:
    room = Room(patience)
    room.until_paused()
    assert room.waits() == frames(seconds)


def test_the_reason_of_silence() -> None:
    room = Room()
    room.until_paused()
    assert [change.reason for change in room.hear(HUSH, 100)] == ["silence"]


@pytest.mark.parametrize("patience", get_args(Patience))
def test_what_the_model_takes_for_complete_ends_soon(patience: Patience) -> None:
    room = Room(patience, judged=True)
    room.until_paused()
    room.endpointer.judge(0.97)
    changes = room.hear(HUSH, 100)
    assert [(change.kind, change.reason) for change in changes] == [("ended", "complete")]
    assert changes[0].clock - changes[0].last_speech <= frames({"relaxed": 0.5}.get(patience, 0.3))


@pytest.mark.parametrize("patience", get_args(Patience))
def test_what_the_model_takes_for_unfinished_ends_later(patience: Patience) -> None:
    room = Room(patience, judged=True)
    room.until_paused()
    assert room.endpointer.judge(0.01) is None
    assert frames(PACES[patience].alone) < room.waits() < LONGEST_PAUSE


def test_the_patient_wait_longer() -> None:
    for complete in (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0):
        aggressive, balanced, relaxed = (PACES[patience].after(complete) for patience in get_args(Patience))
        assert aggressive < balanced < relaxed


def test_a_judgement_that_comes_late_ends_at_once() -> None:
    room = Room(judged=True)
    room.until_paused()
    room.hear(HUSH, frames(0.2))
    assert room.endpointer.judge(0.99) == Change("ended", room.clock, room.clock - PAUSE - frames(0.2), "complete")
    assert room.hear(VOICE, 100) == []


def test_without_an_answer_silence_alone_decides() -> None:
    room = Room(judged=True)
    room.until_paused()
    assert room.waits() == frames(BALANCED.alone)


def test_a_judgement_of_an_earlier_pause_is_forgotten() -> None:
    room = Room(judged=True)
    room.until_paused()
    room.endpointer.judge(0.6)
    room.hear(VOICE, 100)
    assert room.endpointer.judge(0.99) is None
    room.hear(HUSH, PAUSE)
    assert room.waits() == frames(BALANCED.alone)


def test_judgements_are_ignored_where_none_were_asked_for() -> None:
    room = Room(judged=False)
    room.until_paused()
    room.endpointer.judge(0.99)
    assert room.waits() == frames(BALANCED.alone)


def test_no_judgement_while_words_seem_to_go_on() -> None:
    room = Room(judged=True)
    room.until_paused()
    room.hear(HUSH, 30)
    room.hear(VOICE, 3)
    assert room.endpointer.judge(0.99) is None
    assert kinds(room.hear(HUSH, 1)) == ["ended"]


@pytest.mark.parametrize("judged", [False, True])
def test_a_whole_command_ends_early(judged: bool) -> None:
    room = Room(judged=judged)
    paused = room.until_paused()
    assert room.endpointer.hear(True) is None
    (ended,) = room.hear(HUSH, 60)
    assert (ended.reason, ended.clock) == ("intent", paused.last_speech + frames(BALANCED.intent))
    assert frames(0.2) <= ended.clock - ended.last_speech <= frames(0.25)


def test_a_command_that_is_understood_late_ends_at_once() -> None:
    room = Room()
    room.until_paused()
    room.hear(HUSH, 30)
    assert room.endpointer.hear(True) == Change("ended", room.clock, room.clock - PAUSE - 30, "intent")


def test_words_that_are_no_command_change_nothing() -> None:
    room = Room()
    room.until_paused()
    room.endpointer.hear(False)
    assert room.waits() == frames(BALANCED.alone)


def test_a_command_that_goes_on_is_none() -> None:
    room = Room()
    room.until_paused()
    room.endpointer.hear(True)
    room.hear(VOICE, 30)
    assert room.endpointer.hear(True) is None
    room.hear(HUSH, PAUSE)
    assert room.waits() == frames(BALANCED.alone)


@pytest.mark.parametrize("words", [WORDS, frames(0.35)])
@pytest.mark.parametrize("judged", [False, True])
def test_words_that_must_go_on_are_waited_for(judged: bool, words: int) -> None:
    room = Room(judged=judged)
    room.until_paused(words)
    room.endpointer.hear(False, unfinished=True)
    room.endpointer.judge(0.99)
    changes = room.hear(HUSH, 300)
    assert [(change.kind, change.reason) for change in changes] == [("ended", "silence")]
    assert changes[0].clock - changes[0].last_speech == frames(BALANCED.after(0.0))


def test_words_that_went_on_are_forgotten() -> None:
    room = Room(judged=True)
    room.until_paused()
    room.endpointer.hear(False, unfinished=True)
    room.hear(VOICE, 30)
    room.hear(HUSH, PAUSE)
    room.endpointer.judge(0.99)
    assert room.waits() == frames(BALANCED.after(0.99))


def test_a_short_answer_does_not_wait_for_more() -> None:
    room = Room(judged=True)
    room.until_paused(words=frames(0.35))
    room.endpointer.judge(0.01)
    assert room.waits() == frames(BALANCED.alone)


def test_a_short_beginning_is_not_the_whole_turn() -> None:
    room = Room(judged=True)
    room.until_paused(words=frames(0.35))
    room.hear(VOICE, frames(0.6))
    room.hear(HUSH, PAUSE)
    room.endpointer.judge(0.01)
    assert room.waits() > frames(BALANCED.alone)


def test_no_pause_is_longer_than_the_longest() -> None:
    room = Room(Pace(alone=60.0, intent=60.0, judged=((0.0, 60.0),)), judged=True)
    room.until_paused()
    room.endpointer.judge(0.0)
    assert room.waits() == LONGEST_PAUSE


def test_clicks_do_not_hold_up_the_longest_pause() -> None:
    room = Room(Pace(alone=60.0, intent=60.0, judged=((0.0, 60.0),)))
    paused = room.until_paused()
    changes = list(room.hear_all([VOICE, VOICE, VOICE, VOICE, HUSH] * 100))
    assert changes == [Change("ended", paused.last_speech + LONGEST_PAUSE, paused.last_speech, "silence")]


@pytest.mark.parametrize("noise", [0.51, 0.8, 1.0])
def test_a_television_comes_to_the_limit(noise: float) -> None:
    room = Room(judged=True)
    changes = room.hear(noise, LONGEST_TURN + 100)
    assert [(change.kind, change.reason) for change in changes] == [("started", ""), ("ended", "limit")]
    assert changes[-1].clock == 1000 + LONGEST_TURN + 1


def test_many_pauses_come_to_the_limit() -> None:
    room = Room()
    changes = list(room.hear_all(([VOICE] * 40 + [HUSH] * 30) * 100))
    assert set(kinds(changes)) == {"started", "paused", "resumed", "ended"}
    assert (changes[-1].kind, changes[-1].reason) == ("ended", "limit")


def test_one_after_the_other() -> None:
    room = Room()
    assert kinds(room.hear(VOICE, 50) + room.hear(HUSH, 100)) == ["started", "paused", "ended"]
    assert room.hear(VOICE, 50) == []
    room.endpointer.begin(room.clock, wait_seconds=5.0)
    assert kinds(room.hear(VOICE, 50) + room.hear(HUSH, 100)) == ["started", "paused", "ended"]


def test_beginning_anew_forgets_the_old_turn() -> None:
    room = Room(judged=True)
    room.until_paused()
    room.endpointer.begin(room.clock, wait_seconds=5.0)
    assert room.endpointer.judge(0.99) is None
    assert room.hear(HUSH, 300) == []
    room.until_paused(words=frames(0.35))
    room.endpointer.judge(0.01)
    assert room.waits() == frames(BALANCED.alone)


def test_before_the_beginning_nothing_happens() -> None:
    endpointer = Endpointer("balanced", judged=True)
    assert [endpointer.process(clock, VOICE) for clock in range(100)] == [None] * 100
    assert endpointer.judge(1.0) is None
    assert endpointer.hear(True) is None


@pytest.mark.parametrize("pace", PACES.values(), ids=PACES.keys())
def test_more_certainty_never_means_more_silence(pace: Pace) -> None:
    demands = [pace.after(step / 100) for step in range(101)]
    assert all(later <= sooner for sooner, later in pairwise(demands))
    assert frames(max(demands)) < LONGEST_PAUSE


def test_straight_lines_between_the_points() -> None:
    pace = Pace(1.0, 1.0, ((0.2, 2.0), (0.6, 1.0), (0.8, 0.4)))
    assert [pace.after(p) for p in (0.0, 0.2, 0.4, 0.6, 0.7, 0.8, 1.0)] == pytest.approx(
        [2.0, 2.0, 1.5, 1.0, 0.7, 0.4, 0.4]
    )


probabilities = st.one_of(st.sampled_from([0.0, OFF - 0.01, OFF, ON - 0.01, ON, 1.0]), st.floats(0.0, 1.0))
sounds = st.lists(st.tuples(probabilities, st.integers(1, 200)), max_size=30)
answers = st.lists(
    st.one_of(st.tuples(st.just("judge"), st.floats(0, 1)), st.tuples(st.just("hear"), st.booleans())), max_size=40
)


@settings(max_examples=60)
@given(sounds, answers, st.sampled_from(get_args(Patience)), st.booleans(), st.integers(0, 60))
def test_every_turn_is_in_order_and_ends(
    sound: list[tuple[float, int]], said: list[tuple[str, float]], patience: Patience, judged: bool, delay: int
) -> None:
    room = Room(patience, judged=judged, wait=3.0)
    changes: list[Change] = []
    due: list[int] = []
    whole = [one for one, count in sound for _ in range(count)] + [HUSH] * (LONGEST_PAUSE + frames(3.0))
    for one in whole:
        new = room.hear(one, 1)
        due += [room.clock + delay for change in new if change.kind == "paused"]
        if due and room.clock >= due[0] and said:
            what, value = said.pop()
            due.pop(0)
            answer = room.endpointer.judge(value) if what == "judge" else room.endpointer.hear(bool(value))
            new += [answer] if answer else []
        changes += new
    check(changes)


@settings(max_examples=25)
@given(st.lists(probabilities, min_size=1, max_size=50), st.sampled_from(get_args(Patience)))
def test_no_sound_holds_a_turn_for_ever(pattern: list[float], patience: Patience) -> None:
    room = Room(patience, wait=3.0)
    sound = (pattern[at % len(pattern)] for at in range(LONGEST_TURN + frames(3.0) + START))
    changes = list(room.hear_all(sound))
    check(changes)
    begun = [change.clock for change in changes if change.kind == "started"]
    assert all(changes[-1].clock - clock <= LONGEST_TURN for clock in begun)


def check(changes: list[Change]) -> None:
    """What is true of every turn that is over."""
    assert kinds(changes)[-1] in ("ended", "nobody")
    assert sum(kind in ("ended", "nobody") for kind in kinds(changes)) == 1
    assert kinds(changes)[0] == ("nobody" if len(changes) == 1 else "started")
    assert kinds(changes).count("started") <= 1
    follows = {
        "started": {"paused", "ended"}, "paused": {"resumed", "ended"}, "resumed": {"paused", "ended"},
    }  # fmt: skip
    for before, after in pairwise(changes):
        assert after.kind in follows[before.kind]
        assert before.clock <= after.clock
        assert before.last_speech <= after.last_speech <= after.clock
    for change in changes:
        assert bool(change.reason) == (change.kind == "ended")
        assert change.kind != "ended" or change.clock - change.last_speech <= LONGEST_PAUSE
