"""The answer on its way to the loudspeaker, pulled as a sound card would."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from assistant import AudioChunk, WordMark
from assistant.voice.earcons import earcon
from assistant.voice.playback import FADE_SECONDS, SENTENCE_PAUSE_SECONDS, Playback

RATE = 16_000
WORD = RATE // 5
"""Samples of one spoken word; between two is no silence."""
WITHIN = RATE // 50
"""20 ms: when it must be silent."""
SENTENCES = ("One two three four.", "Five six seven.")


def speech(text: str, rate: int = RATE, *, marked: bool = True) -> list[AudioChunk]:
    """A tone of 0.2 s for every word, in chunks of 0.1 s."""
    words = text.split()
    length, size = rate // 5, rate // 10
    tone = np.sin(2 * np.pi * 220 * np.arange(length * len(words)) / rate) * 8_000
    pcm = tone.astype("<i2")
    places = [text.index(word) for word in words]
    return [
        AudioChunk(
            pcm=pcm[start : start + size].tobytes(),
            sample_rate=rate,
            words=tuple(
                WordMark(sample=at * length - start, character=place)
                for at, place in enumerate(places)
                if marked and start <= at * length < start + size
            ),
        )
        for start in range(0, len(pcm), size)
    ]


def filled(sentences: Sequence[str] = SENTENCES, *, rate: int = RATE, marked: bool = True) -> Playback:
    playback = Playback(rate)
    playback.begin()
    for sentence in sentences:
        for chunk in speech(sentence, marked=marked):
            playback.add(sentence, chunk)
        playback.end_sentence()
    playback.finish()
    return playback


def pulled(playback: Playback, count: int) -> NDArray[np.int16]:
    sound = playback.pull(count)
    assert len(sound) == 2 * count
    return np.frombuffer(sound, "<i2")


def drained(playback: Playback, size: int = 160) -> NDArray[np.int16]:
    parts = [pulled(playback, size)]
    while not playback.done:
        parts.append(pulled(playback, size))
        assert len(parts) < 10_000
    return np.concatenate(parts)


def steepest(sound: NDArray[np.int16]) -> int:
    return int(np.abs(np.diff(sound.astype(int), prepend=0, append=0)).max())


def test_an_answer_is_played_whole_and_in_order() -> None:
    playback = filled()
    assert playback.buffered == pytest.approx(1.4)
    assert (playback.done, playback.paused, playback.sentence, playback.heard()) == (False, False, SENTENCES[0], "")
    sound = drained(playback)
    first, second = (b"".join(chunk.pcm for chunk in speech(sentence)) for sentence in SENTENCES)
    gap = round(SENTENCE_PAUSE_SECONDS * RATE)
    assert sound.tobytes().startswith(first + bytes(2 * gap) + second)
    assert playback.heard() == " ".join(SENTENCES)
    assert (playback.done, playback.sentence, playback.buffered) == (True, "", 0)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
def test_pulls_of_any_size_give_the_same_sound(rate: int) -> None:
    whole = filled(rate=rate).pull(rate * 2)
    for sizes in ([1, 7, 480, 333], [1_024], [37]):
        playback, parts, at = filled(rate=rate), b"", 0
        while len(parts) < len(whole):
            parts += playback.pull(sizes[at % len(sizes)])
            at += 1
        assert parts[: len(whole)] == whole


def test_sound_is_resampled_without_seams() -> None:
    sound = drained(filled(SENTENCES[:1], rate=48_000))[: 48_000 * 4 // 5]
    tone = np.sin(2 * np.pi * 220 * np.arange(len(sound)) / 48_000) * 8_000
    inside = slice(480, -480)
    assert np.abs(sound[inside] - tone[inside]).max() < 40


def test_every_word_is_heard_once_half_of_it_was_played() -> None:
    playback = filled()
    before = ""
    for at in range(0, 8 * WORD, 100):
        heard = playback.heard()
        assert heard.startswith(before)
        before = heard
        if at < 4 * WORD:
            assert len(heard.split()) == (at + WORD // 2) // WORD
        pulled(playback, 100)
    assert before == "One two three four. Five six seven."


def test_the_words_of_a_voice_without_marks_are_guessed() -> None:
    playback = filled(("Some words here are of equal size.",), marked=False)
    seen: list[str] = []
    while not playback.done:
        pulled(playback, 100)
        if not seen or playback.heard() != seen[-1]:
            seen.append(playback.heard())
    words = ["Some", "words", "here", "are", "of", "equal", "size."]
    assert seen == [" ".join(words[:count]) for count in range(len(words) + 1)]


def test_heard_never_takes_a_word_back_when_the_sentence_turns_out_longer() -> None:
    text = "one two three four five six seven eight nine ten"
    chunks = speech(text, marked=False) * 3
    playback = Playback(RATE)
    playback.begin()
    before = ""
    for chunk in chunks:
        playback.add(text, chunk)
        pulled(playback, len(chunk.pcm) // 2)
        assert playback.heard().startswith(before)
        before = playback.heard()
    playback.finish()
    assert playback.heard().startswith(before)
    drained(playback)
    assert playback.heard() == text


@pytest.mark.parametrize("end", ["pause", "stop", "begin"])
@pytest.mark.parametrize("at", [1, 150, 1_234, 5_000, 13_000])
@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_it_is_silent_at_once_and_without_a_click(end: str, at: int, rate: int) -> None:
    playback = filled(rate=rate)
    before = pulled(playback, at)
    getattr(playback, end)()
    after = pulled(playback, rate)
    within = rate // 50
    assert not after[within:].any()
    assert steepest(np.concatenate([before, after])) <= steepest(before) + 8_000 / (FADE_SECONDS * rate) + 700


def test_it_goes_on_at_the_beginning_of_the_word() -> None:
    whole = drained(filled())
    for at in range(200, 4 * WORD, 450):
        playback = filled()
        pulled(playback, at)
        playback.pause()
        assert playback.paused
        assert not pulled(playback, RATE)[WITHIN:].any()
        playback.resume()
        begun = max(0, at // WORD * WORD - round(FADE_SECONDS * RATE))
        again = pulled(playback, 3_000)
        np.testing.assert_array_equal(again[WITHIN:], whole[begun + WITHIN : begun + 3_000])


def test_pausing_again_and_again_stays_at_the_word() -> None:
    playback = filled()
    pulled(playback, 2 * WORD + 500)
    lasts = []
    for _ in range(5):
        playback.pause()
        playback.pause()
        lasts.append(playback.buffered)
        playback.resume()
    assert len(set(lasts)) == 1
    assert playback.heard() == "One two"
    drained(playback)
    assert playback.heard() == " ".join(SENTENCES)


def test_a_pause_between_words_does_not_go_back() -> None:
    text = "One two."
    playback = Playback(RATE)
    playback.begin()
    first, _, second, _ = speech(text)
    for chunk in (first, AudioChunk(pcm=bytes(2 * WORD), sample_rate=RATE), second):
        playback.add(text, chunk)
    playback.finish()
    pulled(playback, WORD // 2 + 800)
    before = playback.buffered
    playback.pause()
    assert playback.buffered == before


def test_pausing_before_anything_came() -> None:
    playback = Playback(RATE)
    playback.begin()
    playback.pause()
    for chunk in speech(SENTENCES[0]):
        playback.add(SENTENCES[0], chunk)
    playback.finish()
    assert not pulled(playback, RATE).any()
    assert not playback.done
    playback.resume()
    assert drained(playback)[:WORD].any()
    assert playback.heard() == SENTENCES[0]


def test_stopping_keeps_what_was_heard_and_takes_no_more() -> None:
    playback = filled()
    pulled(playback, 2 * WORD + 100)
    assert playback.stop() == "One two"
    playback.add(SENTENCES[1], speech(SENTENCES[1])[0])
    playback.end_sentence()
    playback.finish()
    assert playback.done
    assert not drained(playback, 4_000)[WITHIN:].any()
    assert playback.stop() == playback.heard() == "One two"
    playback.begin()
    assert (playback.heard(), playback.done) == ("", False)


def test_words_heard_before_a_pause_still_count_after_it() -> None:
    playback = filled()
    pulled(playback, 2 * WORD + WORD // 2 + 100)
    playback.pause()
    pulled(playback, RATE)
    assert playback.stop() == "One two three"


def test_the_same_sentence_twice_is_two() -> None:
    playback = filled(("Yes.", "Yes."))
    drained(playback)
    assert playback.heard() == "Yes. Yes."


def test_another_sentence_closes_the_one_before() -> None:
    playback = Playback(RATE)
    playback.begin()
    for sentence in SENTENCES:
        for chunk in speech(sentence, 22_050):
            playback.add(sentence, chunk)
    playback.finish()
    sound = drained(playback)
    assert playback.heard() == " ".join(SENTENCES)
    assert np.flatnonzero(sound)[-1] == pytest.approx(7 * WORD + SENTENCE_PAUSE_SECONDS * RATE, abs=20)


def test_chunks_of_two_rates_in_one_sentence() -> None:
    text = "One two three four."
    playback = Playback(RATE)
    playback.begin()
    for chunk in [*speech(text, 8_000)[:4], *speech(text, 22_050)[4:]]:
        playback.add(text, chunk)
    playback.finish()
    counts = []
    for _ in range(4):
        pulled(playback, WORD // 2 + 20)
        counts.append(len(playback.heard().split()))
        pulled(playback, WORD // 2 - 20)
    assert counts == [1, 2, 3, 4]


def test_a_voice_that_is_too_slow_fades_and_comes_back() -> None:
    text = "One two three four."
    playback = Playback(RATE)
    playback.begin()
    chunks = speech(text)
    parts = []
    for chunk in chunks:
        playback.add(text, chunk)
        parts.append(pulled(playback, 2_500))
    playback.finish()
    parts.append(drained(playback))
    assert steepest(np.concatenate(parts)) < 8_000 * 2 * np.pi * 220 / RATE + 8_000 / (FADE_SECONDS * RATE) + 50
    assert playback.heard() == text
    assert playback.done


def test_a_sentence_without_sound_is_passed_over() -> None:
    playback = Playback(RATE)
    playback.begin()
    playback.add("…", AudioChunk(pcm=b"", sample_rate=22_050))
    playback.add("Done.", speech("Done.")[0])
    playback.finish()
    drained(playback)
    assert playback.heard() == "… Done."


def test_an_answer_of_nothing_is_done() -> None:
    playback = Playback(RATE)
    states = [playback.done]
    for step in (playback.begin, playback.finish):
        step()
        states.append(playback.done)
    assert states == [True, False, True]
    assert not any(playback.pull(100))


def test_ducking_takes_twelve_decibels_off_the_answer_only() -> None:
    loud, ducked = filled(), filled()
    ducked.duck(True)
    for playback in (loud, ducked):
        pulled(playback, 2_000)
    usual, quiet = pulled(loud, 3_200), pulled(ducked, 3_200)
    assert 20 * np.log10(quiet.astype(float).std() / usual.astype(float).std()) == pytest.approx(-12, abs=0.1)
    ducked.duck(False)
    pulled(ducked, 2_000)
    pulled(loud, 2_000)
    np.testing.assert_array_equal(pulled(ducked, 1_000), pulled(loud, 1_000))


def test_ducking_and_volume_change_without_a_click() -> None:
    playback = filled()
    slope = steepest(pulled(filled(), 6_400))
    parts = [pulled(playback, 1_000)]
    for ducked, volume in ((True, 1.0), (True, 0.2), (False, 0.2)):
        playback.duck(ducked)
        playback.volume = volume
        parts.append(pulled(playback, 1_300))
    inside = np.concatenate(parts).astype(int)
    assert np.abs(np.diff(inside)).max() <= slope + 30
    assert playback.volume == 0.2


def test_volume_scales_everything() -> None:
    silent, half = Playback(RATE, volume=0.0), Playback(RATE, 0.5)
    for playback in (silent, half):
        playback.effect("woken")
    assert not pulled(silent, 4_000).any()
    np.testing.assert_allclose(pulled(half, 1_000), earcon("woken", RATE)[:1_000] / 2, atol=0.51)


def test_earcons_are_mixed_in_and_end() -> None:
    plain, playback = filled(), filled()
    pulled(plain, 1_000)
    pulled(playback, 1_000)
    playback.effect("heard")
    sound = pulled(playback, 4_000).astype(int) - pulled(plain, 4_000)
    expected = earcon("heard", RATE)
    np.testing.assert_array_equal(sound[: len(expected)], expected)
    assert not sound[len(expected) :].any()
    with pytest.raises(KeyError):
        playback.effect("nope")


def test_a_ring_rings_until_it_is_switched_off() -> None:
    playback = Playback(RATE)
    playback.ring(True)
    playback.ring(True)
    pattern = earcon("ring", RATE)
    sound = pulled(playback, 3 * len(pattern))
    np.testing.assert_array_equal(sound, np.tile(pattern, 3))
    pulled(playback, 700)
    playback.ring(False)
    playback.ring(False)
    after = pulled(playback, RATE)
    assert after[:20].any()
    assert not after[WITHIN:].any()
    assert playback.done


def test_too_much_sound_saturates() -> None:
    playback = Playback(RATE)
    playback.begin()
    playback.add("Loud.", AudioChunk(pcm=np.full(RATE, 32_700, "<i2").tobytes(), sample_rate=RATE))
    playback.finish()
    playback.ring(True)
    playback.effect("failed")
    sound = pulled(playback, RATE)
    assert sound.max() == 32_767
    assert sound.min() > 20_000


def test_an_hour_of_answers_leaves_no_memory_behind() -> None:
    rate = 8_000
    text = "One two three four five six seven eight nine ten."
    chunk = AudioChunk(pcm=b"".join(part.pcm for part in speech(text, rate)) * 3, sample_rate=rate)
    playback = Playback(rate)
    used = []
    tracemalloc.start()
    for answer in range(240):
        playback.begin()
        playback.effect("woken")
        for sentence in (text, "Again."):
            playback.add(sentence, chunk)
            playback.end_sentence()
        playback.finish()
        for part in range(15):
            pulled(playback, rate)
            if part == 2 and answer % 3 == 0:
                playback.pause()
                playback.resume()
        if answer in (20, 239):
            used.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert used[1] - used[0] < 64_000


OPERATIONS = ("chunk", "chunk", "chunk", "end", "pause", "resume", "stop", "begin", "duck", "ring", "effect", "heard")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(OPERATIONS), max_size=40), st.integers(1, 700), st.booleans())
def test_two_threads_in_any_order(operations: list[str], size: int, marked: bool) -> None:
    playback = Playback(RATE)
    over = threading.Event()
    faults: list[BaseException] = []

    def pull() -> None:
        try:
            while not over.is_set():
                pulled(playback, size)
        except BaseException as error:
            faults.append(error)
            raise

    puller = threading.Thread(target=pull)
    puller.start()
    try:
        expected = apply(playback, operations, marked=marked)
    finally:
        over.set()
        puller.join()
    assert not faults
    playback.ring(False)
    playback.resume()
    playback.finish()
    drained(playback, 1_600)
    if expected is not None:
        assert playback.heard() == expected
    assert not pulled(playback, RATE)[RATE // 2 :].any()


def apply(playback: Playback, operations: Sequence[str], *, marked: bool) -> str | None:
    """Do it; returns what must be heard at last, None where that depends on the threads."""
    sentences: list[str] = []
    open_sentence = stopped = False
    before = ""
    chunks = speech("word word", marked=marked)
    plain: dict[str, Callable[[], object]] = {
        "pause": playback.pause, "resume": playback.resume, "duck": lambda: playback.duck(True),
        "ring": lambda: playback.ring(True), "effect": lambda: playback.effect("heard"),
    }
    for at, operation in enumerate(operations):
        if operation == "chunk":
            if not open_sentence and not stopped:
                sentences.append(f"word {at}")
            open_sentence = True
            playback.add(sentences[-1] if sentences else "word", chunks[at % len(chunks)])
        elif operation == "end":
            playback.end_sentence()
            open_sentence = False
        elif operation == "heard":
            heard = playback.heard()
            assert stopped or heard.startswith(before)
            before = heard
        elif operation in ("stop", "begin"):
            getattr(playback, operation)()
            stopped, open_sentence, before = operation == "stop", False, ""
            sentences = [] if operation == "begin" else sentences
        else:
            plain[operation]()
    return None if stopped else " ".join(sentences)
