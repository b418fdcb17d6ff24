"""What a timeline sounds like, and when; and what a result says."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistant import events
from assistant.errors import AudioError
from assistant.testing import HarnessResult, Timeline, ToneTextToSpeech, audio, words_in
from assistant.testing.result import Noted
from assistant.testing.script import CALM, Script

DATA = Path(__file__).parents[1] / "data"
DARK = Timeline(room_dbfs=audio.QUIETEST)
"""A timeline without the noise of a room."""


def test_steps_follow_one_another() -> None:
    rendered = DARK.silence(1).play(audio.tone(300, 0.5)).silence(0.25).play(audio.tone(500, 0.5), "beep").render()
    first, second = rendered.utterances
    assert (first.kind, first.start, first.end) == ("sound", 1.0, 1.5)
    assert (second.kind, second.text, second.start, second.end) == ("speech", "beep", 1.75, 2.25)
    assert audio.seconds_of(rendered.pcm) == 2.25
    assert [speech.text for speech in rendered.speeches] == ["beep"]


def test_sounds_may_be_placed_and_overlap() -> None:
    tones = DARK.play(audio.tone(300, 1, -20)).at(0.5).play(audio.tone(700, 1, -20)).at(3).silence(0)
    rendered = tones.render()
    assert [(one.start, one.end) for one in rendered.utterances] == [(0, 1), (0.5, 1.5)]
    assert audio.seconds_of(rendered.pcm) == 3
    middle = rendered.pcm[16_000 * 6 // 5 : 16_000 * 9 // 5]
    assert audio.level(middle) == pytest.approx(-17, abs=0.2)


def test_speech_is_synthesised_and_its_words_have_times() -> None:
    (said,) = DARK.silence(2).say("what time is it").render().utterances
    assert said.text == "what time is it"
    assert [word.text for word in said.words] == ["what", "time", "is", "it"]
    assert said.words[0].start == pytest.approx(2)
    assert said.words[-1].end == pytest.approx(said.end)


def test_another_voice_may_speak() -> None:
    rendered = DARK.say("one two").silence(0.2).render(ToneTextToSpeech())
    assert words_in(rendered.pcm) == ["one", "two"]


def test_a_timeline_is_not_changed_by_its_steps() -> None:
    start = DARK.silence(1)
    assert start.wake().render().utterances
    assert not start.render().utterances
    assert start.wake().render() == start.wake().render()


def test_a_recording_may_be_made_louder() -> None:
    rendered = DARK.play(DATA / "jfk.wav", "And so my fellow Americans", dbfs=-30).render()
    assert audio.level(rendered.pcm, speech=True) == pytest.approx(-30, abs=0.5)


@pytest.mark.parametrize("noise", ["white", "babble", audio.tone(200, 0.5, -3)])
def test_the_background_is_as_soft_as_asked_and_under_everything(noise: audio.NoiseKind | bytes) -> None:
    rendered = DARK.silence(1).say("hello there").silence(1).over(noise, snr_db=12).render()
    (said,) = rendered.utterances
    speech = rendered.speeches[0]
    expected = audio.level(speech.pcm, speech=True) - 12
    assert audio.level(rendered.pcm[: 16_000 * 2]) == pytest.approx(expected, abs=1.5)
    assert audio.level(rendered.pcm[-16_000 * 2 :]) == pytest.approx(expected, abs=1.5)
    assert said.start == 1


def test_what_waits_for_an_event_has_its_own_times() -> None:
    rendered = DARK.silence(1).when(events.SpeechPlayed, after=0.5).at(2).play(audio.tone(300, 1)).render()
    first, second = rendered.sections
    assert first.when is None
    assert second.when is not None
    assert (second.when.what, second.when.after) == ("SpeechPlayed", 0.5)
    assert second.when.matches(events.SpeechPlayed(text="", clock=1.0))
    assert not second.when.matches(events.SpeechStarted(clock=1.0))
    assert second.utterances[0].start == 2
    assert rendered.utterances[0].start == 3


def test_nonsense_is_refused() -> None:
    with pytest.raises(AudioError, match="cannot be"):
        DARK.silence(-1)
    with pytest.raises(AudioError, match="before the beginning"):
        DARK.at(-1)
    with pytest.raises(AudioError, match="there is no file"):
        DARK.play(DATA / "nobody.wav")


def script(timeline: Timeline, noted: list[Noted], *, happens: int, rest: float = 5) -> tuple[Script, int, int]:
    """Run a script by hand: an event in frame ``happens``; calm from ten frames later on. Frames, and those loud."""
    count = loud = 0
    found = Script(timeline.render(), lambda: count / 100, noted, lambda: count >= happens + 10, rest)
    for frame in found.frames():
        count += 1
        loud += any(frame)
        assert len(frame) == 320
        if count == happens:
            noted.append(Noted(count / 100, events.SpeechStarted(clock=count / 100)))
    return found, count, loud


def test_a_section_begins_when_its_event_has_come() -> None:
    timeline = DARK.silence(1).when(events.SpeechStarted, after=0.2).play(audio.tone(300, 0.5))
    ran, count, loud = script(timeline, [], happens=150)
    (said,) = ran.said
    assert said.start == 1.7
    assert loud == 50
    assert count == 220 + CALM
    assert not ran.missed


def test_an_event_from_before_does_not_count() -> None:
    old = [Noted(0.0, events.SpeechStarted(clock=0.0))]
    timeline = DARK.silence(1).when(events.SpeechStarted, within=2).play(audio.tone(300, 0.5))
    ran, count, loud = script(timeline, old, happens=1000)
    assert (count, loud, ran.said) == (300, 0, [])
    assert ran.missed == "the timeline waited 2 s for SpeechStarted in vain"


def test_a_run_ends_in_any_case() -> None:
    _, count, _ = script(DARK.silence(0.5), [], happens=10_000, rest=2)
    assert count == 250


def result(*noted: tuple[float, events.Event], missed: str = "") -> HarnessResult:
    """A result with these events."""
    said = DARK.silence(1).say("hello").render().utterances
    found = tuple(Noted(clock, event) for clock, event in noted)
    return HarnessResult(noted=found, utterances=said, output=b"", microphone=b"", missed=missed)


WOKEN = events.WakeWordHeard(name="robin", score=0.9, accepted=True, clock=1.0)
NEARLY = events.WakeWordHeard(name="robin", score=0.4, accepted=False, clock=2.0)
STARTED = events.SpeechStarted(clock=3.0)


def test_a_result_finds_events_by_type_and_fields() -> None:
    found = result((1.0, WOKEN), (2.0, NEARLY), (3.0, STARTED))
    assert found.events == (WOKEN, NEARLY, STARTED)
    assert found.expect(events.WakeWordHeard) is WOKEN
    assert found.expect(events.WakeWordHeard, accepted=False) is NEARLY
    assert found.expect(events.WakeWordHeard, score=lambda score: score < 0.5) is NEARLY
    assert found.find(events.WakeWordHeard, name="robin") == [WOKEN, NEARLY]
    assert found.clock_of(events.SpeechStarted) == 3.0
    assert found.expect_in_order(events.WakeWordHeard, (events.WakeWordHeard, {"accepted": False})) == [WOKEN, NEARLY]
    found.absent(events.SpeechPaused)
    found.absent(events.WakeWordHeard, name="other")
    assert found.comparable()[2] == (3.0, "SpeechStarted", {})


def test_a_failure_shows_what_happened_and_when() -> None:
    found = result((1.25, WOKEN), (3.0, STARTED))
    with pytest.raises(AssertionError) as missing:
        found.expect(events.SpeechPaused, clock=2.0)
    text = str(missing.value)
    assert text.startswith("there was no SpeechPaused(clock=2.0)\n")
    assert "   1.00 s    «hello» to 1." in text
    assert "   1.25 s  WakeWordHeard(name='robin', score=0.9, accepted=True)" in text
    assert text.index("hello") < text.index("WakeWordHeard") < text.index("SpeechStarted")
    with pytest.raises(AssertionError, match=r"no WakeWordHeard\(\) after SpeechStarted"):
        found.expect_in_order(events.SpeechStarted, events.WakeWordHeard)
    with pytest.raises(AssertionError, match=r"there was WakeWordHeard\(\): WakeWordHeard\(name='robin'"):
        found.absent(events.WakeWordHeard)
    with pytest.raises(AssertionError, match=r"no SpeechPaused"):
        found.clock_of(events.SpeechPaused)
    with pytest.raises(AssertionError, match="in vain"):
        result(missed="it waited in vain").checked()


def test_what_was_spoken_comes_from_the_sound_or_from_the_events() -> None:
    sound = b"".join(chunk.pcm for chunk in ToneTextToSpeech().speak("Hello, you there.", ""))
    heard = HarnessResult(noted=(), utterances=(), output=sound, microphone=b"")
    assert heard.spoken == "hello you there"
    played = [events.SpeechPlayed(text=text, clock=1.0, turn_id=turn) for turn, text in
              [("a", "One"), ("a", "One two."), ("b", "Three.")]]
    told = HarnessResult(
        noted=tuple(Noted(1.0, event) for event in played), utterances=(), output=b"", microphone=b"", tones=False
    )
    assert told.spoken == "One two. Three."
