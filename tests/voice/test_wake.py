"""When a score counts: runs, refractory time, several detectors, own speech, costly detectors."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from assistant_microwakeword.detector import found
from assistant_openwakeword.detector import OpenWake
from voice.wakekit import Reader, frame, hits, recording

from assistant.voice.frames import FRAME_BYTES, SILENCE, WakeHit, frames
from assistant.voice.wake import CATCH_UP, HANGOVER, PRE_ROLL, REFRACTORY, WakeSpotter

LOUD, LOW = frame(1.0), frame(0.0)


@pytest.fixture(scope="module")
def loaded() -> Iterator[WakeSpotter]:
    detectors = [*found(Path("/nowhere"), logging.getLogger()), OpenWake("hey_jarvis"), OpenWake("alexa")]
    spotter = WakeSpotter(detectors)
    spotter.load()
    yield spotter
    spotter.close()


@pytest.fixture
def everything(loaded: WakeSpotter) -> WakeSpotter:
    """The real detectors, with 3 s of silence behind them."""
    return afresh(loaded)


def afresh(spotter: WakeSpotter) -> WakeSpotter:
    spotter.reset()
    assert hits(spotter, [SILENCE] * 300, speech=0.0) == []
    return spotter


@pytest.mark.parametrize(("file", "names"), [
    ("hey_jarvis.wav", {"hey_jarvis", "open_hey_jarvis"}), ("alexa.wav", {"alexa", "open_alexa"}),
])
def test_people_wake_it_once_with_all_detectors_at_work(everything: WakeSpotter, file: str, names: set[str]) -> None:
    got = hits(everything, recording(file))
    assert [hit.accepted for _, hit in got] == [True]
    assert got[0][1].name in names
    assert got[0][1].score >= everything.thresholds[got[0][1].name]


def test_what_is_like_the_phrase_is_a_near_miss(everything: WakeSpotter) -> None:
    ((clock, hit),) = hits(everything, recording("hey_peppa_pig.wav"))
    assert (hit.name, hit.accepted, hit.own) == ("hey_mycroft", False, False)
    assert 0.6 * 0.95 <= hit.score < 0.95
    assert clock > frames(1.5), "it is told when it is over"


def test_other_speech_wakes_nothing(everything: WakeSpotter) -> None:
    assert [hit for _, hit in hits(everything, recording("jfk.wav", 0.0, 0.0)) if hit.accepted] == []


def test_a_recording_wakes_at_the_same_frame_again_after_a_reset(everything: WakeSpotter) -> None:
    first = hits(everything, recording("alexa.wav", after=3.0))
    again = hits(afresh(everything), recording("alexa.wav"))
    assert [(clock, hit.name) for clock, hit in again] == [(clock, hit.name) for clock, hit in first]


def test_a_short_spike_does_not_count_and_a_run_does() -> None:
    spotter = WakeSpotter([Reader()])
    assert hits(spotter, [*[LOW] * 20, *[LOUD] * 3, *[LOW] * 200]) == [], "3 of the 12 scores in 120 ms"
    ((clock, hit),) = hits(spotter, [*[LOW] * 20, *[LOUD] * 40, *[LOW] * 100])
    assert (clock, hit) == (26, WakeHit("hey_jarvis", 0.5, True))
    assert spotter.strength("hey_jarvis") == 1.0


def test_long_frames_need_two_in_a_row() -> None:
    one, two = [LOUD] * 8, [LOUD] * 16
    for audio, accepted in ((one, False), (two, True)):
        ((_, hit),) = hits(WakeSpotter([Reader(samples=1280, threshold=0.8)]), [*audio, *[LOW] * 160])
        assert hit.accepted is accepted


def test_a_near_miss_is_told_once_when_its_run_is_over() -> None:
    spotter = WakeSpotter([Reader()])
    nearly = [*[frame(0.4)] * 30, *[LOW] * 20, *[frame(0.45)] * 30, *[LOW] * 100]
    ((clock, hit),) = hits(spotter, nearly)
    assert hit.score == pytest.approx(0.45)
    assert not hit.accepted
    assert clock > 80 + 50, "half a second below"


def test_a_run_wakes_once_however_long_it_lasts() -> None:
    assert len(hits(WakeSpotter([Reader()]), [LOUD] * 2000)) == 1


def test_no_second_wake_for_two_seconds() -> None:
    word = [*[LOUD] * 20, *[LOW] * 80]
    woken = [clock for clock, _ in hits(WakeSpotter([Reader()]), word * 10)]
    assert woken == [6, 206, 406, 606, 806]
    assert REFRACTORY == 200


def test_a_wake_silences_all_detectors_and_the_clearest_of_several_counts() -> None:
    first, second = Reader("a", "alpha"), Reader("b", "beta", place=2)
    spotter = WakeSpotter([first, second], {"a": 0.45, "b": 0.5})
    both = [*[frame(0.8, 0.9)] * 30, *[LOW] * 180]
    assert [(clock, hit.name) for clock, hit in hits(spotter, both)] == [(7, "b")], "both reach it in frame 7"
    assert [(clock, hit.name) for clock, hit in hits(spotter, [frame(0.9, 0.0)] * 30, start=210)] == [(216, "a")]
    assert hits(spotter, [frame(0.0, 0.9)] * 150) == [], "the other one says it 0.3 s later"


def test_near_misses_during_the_refractory_time_belong_to_the_wake() -> None:
    spotter = WakeSpotter([Reader("a"), Reader("b", place=2)])
    words = [*[frame(0.9, 0.4)] * 30, *[LOW] * 300]
    assert [hit.name for _, hit in hits(spotter, words)] == ["a"]


def test_detectors_take_frames_of_their_own_size() -> None:
    readers = [Reader(str(size), samples=size) for size in (80, 160, 480, 512, 1280)]
    audio = [frame(0.001 * number) for number in range(64)]
    hits(WakeSpotter(readers), audio)
    for reader in readers:
        whole = len(audio) * FRAME_BYTES // (reader.frame_samples * 2)
        assert b"".join(reader.heard) == b"".join(audio)[: whole * reader.frame_samples * 2]


def test_a_threshold_of_the_settings_counts() -> None:
    word = [frame(0.6)] * 30
    assert WakeSpotter([Reader()], {"hey_jarvis": 0.0}).thresholds == {"hey_jarvis": 0.5}
    assert hits(WakeSpotter([Reader()], {"hey_jarvis": 0.7}), word) == []
    assert hits(WakeSpotter([Reader()], {"hey_jarvis": 0.55}), word)[0][1].accepted


@pytest.mark.parametrize("text", ["Just say hey Jarvis.", "HEY, JARVIS!", "“Hey Jarvis”"])
def test_the_assistants_own_words_do_not_wake_it(text: str) -> None:
    ((_, hit),) = hits(WakeSpotter([Reader()]), [*[LOUD] * 30, *[LOW] * 100], own_text=text)
    assert (hit.accepted, hit.own, hit.score) == (False, True, 1.0)


@pytest.mark.parametrize("text", ["They jarvised.", "Hey, said Jarvis.", "hey jarvison", ""])
def test_other_own_words_do_not_keep_people_from_waking_it(text: str) -> None:
    assert hits(WakeSpotter([Reader()]), [LOUD] * 30, own_text=text)[0][1].accepted


def test_own_words_count_as_own_until_their_echo_is_gone() -> None:
    for silence, accepted in ((100, False), (200, True)):
        spotter = WakeSpotter([Reader()])
        assert hits(spotter, [LOW] * 50, own_text="I hear you when you say hey jarvis.") == []
        ((_, hit),) = hits(spotter, [*[LOW] * silence, *[LOUD] * 30, *[LOW] * 100])
        assert hit.accepted is accepted


def test_a_costly_detector_rests_until_somebody_speaks_and_then_hears_what_was_before() -> None:
    reader = Reader(samples=1280, costly=True)
    spotter = WakeSpotter([reader])
    before = [frame(number / 1000) for number in range(400)]
    hits(spotter, before, speech=0.1)
    assert (reader.heard, reader.resets) == ([], 0)
    spoken = [frame(0.4 + number / 10_000) for number in range(80)]
    hits(spotter, spoken, speech=0.9)
    assert reader.resets == 1
    heard = b"".join(reader.heard)
    assert heard == b"".join([*before[-PRE_ROLL:], *spoken])[: len(heard)]
    assert len(heard) >= (PRE_ROLL + 70) * FRAME_BYTES


def test_the_first_word_wakes_a_costly_detector_by_its_pre_roll() -> None:
    reader = Reader(samples=1280, costly=True)
    spotter = WakeSpotter([reader])
    hits(spotter, [*[LOW] * 200, *[LOUD] * 30], speech=0.0)
    ((clock, hit),) = hits(spotter, [LOW] * 100, speech=0.9)
    assert hit.accepted
    assert clock <= 30, "it works the pre-roll off faster than real time"


def test_pre_roll_never_makes_one_frame_long() -> None:
    reader = Reader(samples=160, costly=True)
    spotter = WakeSpotter([reader])
    hits(spotter, [LOW] * 200, speech=0.0)
    counts = []
    for _ in range(100):
        before = len(reader.heard)
        spotter.process(LOW, speech=1.0)
        counts.append(len(reader.heard) - before)
    assert max(counts) == CATCH_UP
    assert counts[-1] == 1
    assert sum(counts) == PRE_ROLL + 100


def test_a_costly_detector_rests_again_after_the_speech() -> None:
    reader = Reader(samples=160, costly=True)
    spotter = WakeSpotter([reader])
    hits(spotter, [LOW], speech=1.0)
    hits(spotter, [LOW] * (HANGOVER + 50), speech=0.0)
    assert len(reader.heard) == HANGOVER
    hits(spotter, [LOW], speech=1.0)
    assert reader.resets == 2, "what it hears next does not follow on what it heard"


def test_a_near_miss_is_told_when_a_costly_detector_goes_to_rest() -> None:
    spotter = WakeSpotter([Reader(costly=True)])
    hits(spotter, [LOW], speech=1.0)
    ((_, hit),) = hits(spotter, [frame(0.4)] * 150, speech=0.0)
    assert not hit.accepted


def test_cheap_detectors_hear_everything() -> None:
    reader = Reader()
    hits(WakeSpotter([reader, Reader("b", costly=True)]), [LOW] * 50, speech=0.0)
    assert len(reader.heard) == 50


def test_loading_resetting_and_closing_reach_every_detector() -> None:
    readers = [Reader("a"), Reader("b")]
    spotter = WakeSpotter(readers)
    assert [reader.state for reader in readers] == ["new", "new"]
    spotter.load()
    assert [reader.state for reader in readers] == ["loaded", "loaded"]
    hits(spotter, [LOUD] * 5)
    spotter.reset()
    assert [reader.resets for reader in readers] == [1, 1]
    assert hits(spotter, [LOUD] * 5) == [], "the scores of before are forgotten"
    spotter.close()
    assert [reader.state for reader in readers] == ["closed", "closed"]


def test_without_detectors_nothing_is_heard() -> None:
    assert hits(WakeSpotter([]), [SILENCE] * 10) == []
