"""Spoken to through a virtual microphone: a whole assistant, from the wake word to the played answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from assistant import Intent, Tool, ToolError, events
from assistant.config import Settings, VoiceSettings
from assistant.errors import VoiceError
from assistant.events import (
    PartialTranscript,
    SpeechDropped,
    SpeechEnded,
    SpeechPaused,
    SpeechPlayed,
    SpeechResumed,
    SpeechStarted,
    ToolCallFinished,
    TurnFinished,
    TurnStarted,
    VoiceStateChanged,
    WakeWordHeard,
)
from assistant.testing import (
    EchoPath,
    HarnessResult,
    NoEchoCanceller,
    OfferingPlugin,
    ScriptedSpeechToText,
    ScriptedWakeWord,
    Timeline,
    ToneTextToSpeech,
    VoiceHarness,
    call,
    run_voice,
    words_in,
)
from assistant.testing.audio import NoiseKind

pytestmark = pytest.mark.anyio
pytest_plugins = ["assistant.testing.fixtures"]

Voice = Callable[..., VoiceHarness]

STORY = (
    "Once there was a small red fox who lived under an old oak tree. "
    "Every morning it went down to the river to drink. "
    "One day the river was gone. "
    "So the fox walked up the valley to look for it."
)


def plain(text: str) -> str:
    """A text as it is read back from tones."""
    return " ".join("".join(letter for letter in text.lower() if letter.isalnum() or letter in " '").split())


def roll_die(sides: int = 6) -> str:
    """Roll a die."""
    return f"With {sides} sides you rolled a four."


def dice() -> OfferingPlugin:
    """A plugin under test."""
    return OfferingPlugin(Tool.of(roll_die), Intent(tool="roll_die", sentences=("roll a (die|dice)",)))


def asked(text: str) -> Timeline:
    """Half a second of silence, the wake word and some words."""
    return Timeline().silence(0.5).wake().say(text)


async def history(harness: VoiceHarness) -> list[tuple[str, str]]:
    """What was said, as the model is told of it the next time."""
    model = harness.model
    assert not isinstance(model, str)
    messages = model.requests[-1].messages  # type: ignore[attr-defined]
    return [(message.role, message.content) for message in messages if message.role != "system"]


async def test_a_wake_word_and_a_command(voice: Voice) -> None:
    async with voice({"dice": dice()}) as harness:
        result = await harness.run(asked("roll a die"))
    result.expect_in_order(
        (WakeWordHeard, {"name": "hey_robin", "accepted": True}),
        SpeechStarted,
        (SpeechEnded, {"reason": "intent"}),
        (TurnStarted, {"source": "voice"}),
        (events.FinalTranscript, {"text": "roll a die"}),
        (events.ToolCallStarted, {"tool": "roll_die", "origin": "intent"}),
        (TurnFinished, {"reason": "complete"}),
    )
    assert result.spoken == "with 6 sides you rolled a four"
    (said,) = [one for one in result.utterances if one.kind == "speech"]
    assert result.expect(SpeechStarted).clock == pytest.approx(said.start, abs=0.25)
    assert said.end <= result.expect(SpeechEnded).clock <= said.end + 0.6


async def test_a_question_for_the_model(voice: Voice) -> None:
    async with voice(replies=["Paris is the capital of France."]) as harness:
        result = await harness.run(asked("what is the capital of france"))
        assert (await history(harness))[-1] == ("user", "what is the capital of france")
    assert result.spoken == "paris is the capital of france"
    assert result.expect(TurnFinished).text == "Paris is the capital of France."
    assert result.find(SpeechPlayed)[-1].text == "Paris is the capital of France."
    states = [event.state for event in result.find(VoiceStateChanged)]
    assert [state for state in states if state != "thinking"] == ["listening", "speaking", "idle"]


async def test_words_are_shown_while_they_are_said(voice: Voice) -> None:
    async with voice(replies=["Paris."]) as harness:
        result = await harness.run(asked("what is the capital of france"))
    partials = [event.text for event in result.find(PartialTranscript)]
    assert partials[0] == "what"
    assert partials[-1] == "what is the capital of france"
    assert result.clock_of(PartialTranscript) < result.utterances[-1].end


async def test_the_model_may_call_a_tool(voice: Voice) -> None:
    replies = [call("roll_die", sides=20), "You rolled a four."]
    async with voice({"dice": dice()}, replies=replies) as harness:
        result = await harness.run(asked("give me a number"))
    assert result.expect(ToolCallFinished).result == "With 20 sides you rolled a four."
    assert result.spoken == "you rolled a four"


async def test_without_the_wake_word_nothing_happens(voice: Voice) -> None:
    async with voice({"dice": dice()}) as harness:
        result = await harness.run(Timeline().silence(0.5).say("roll a die").silence(1))
    for kind in (WakeWordHeard, SpeechStarted, TurnStarted, PartialTranscript, VoiceStateChanged):
        result.absent(kind)
    assert result.spoken == ""


async def test_a_near_miss_is_told_and_wakes_nobody(voice: Voice) -> None:
    async with voice({"dice": dice()}) as harness:
        result = await harness.run(Timeline().silence(0.5).wake(purity=0.4).say("roll a die").silence(1))
    near = result.expect(WakeWordHeard)
    assert not near.accepted
    assert near.score == pytest.approx(0.4, abs=0.05)
    result.absent(TurnStarted)
    assert result.spoken == ""


async def test_a_wake_word_alone_is_forgotten_after_a_while(voice: Voice) -> None:
    async with voice() as harness:
        result = await harness.run(Timeline().silence(0.5).wake())
    result.expect(SpeechDropped, reason="nobody")
    result.absent(TurnStarted)
    assert result.find(VoiceStateChanged)[-1].state == "idle"


async def test_a_pause_inside_the_words_does_not_end_them(voice: Voice) -> None:
    settings = Settings(voice=VoiceSettings(patience="relaxed"))
    async with voice(settings=settings, replies=["Paris."]) as harness:
        result = await harness.run(asked("what is the capital").silence(0.45).say("of france").silence(1))
    assert result.expect(events.FinalTranscript).text == "what is the capital of france"
    assert len(result.find(SpeechEnded)) == 1
    assert result.spoken == "paris"


@pytest.mark.parametrize("noise", ["white", "pink", "babble"])
async def test_speech_over_noise(voice: Voice, noise: NoiseKind) -> None:
    async with voice({"dice": dice()}) as harness:
        result = await harness.run(asked("roll a die").silence(2).over(noise, snr_db=10))
    assert result.spoken == "with 6 sides you rolled a four"


async def test_speaking_over_the_answer_stops_it_and_only_what_was_played_is_remembered(voice: Voice) -> None:
    async with voice(replies=[STORY, "It is noon."]) as harness:
        timeline = asked("tell me a story").when(SpeechPlayed, after=2).say("what time is it now please")
        result = await harness.run(timeline)
        told = await history(harness)
    paused = result.expect(SpeechPaused)
    barged = result.utterances[-1]
    assert barged.start < paused.clock < barged.start + 0.8
    first, second = result.find(TurnFinished)
    assert (first.reason, second.reason) == ("cancelled", "complete")
    played = plain(STORY)[: len(result.spoken) - len(" it is noon")]
    assert result.spoken == f"{played} it is noon"
    assert 3 < len(played.split()) < 25
    assert told[0] == ("user", "tell me a story")
    assert told[1][0] == "assistant"
    assert plain(told[1][1]).startswith(played)
    assert "oak tree. Every morning" not in told[1][1] or len(played.split()) > 14
    assert told[-1] == ("user", "what time is it now please")


async def test_the_sound_stops_at_once(voice: Voice) -> None:
    async with voice(replies=[STORY, "It is noon."]) as harness:
        result = await harness.run(asked("tell me a story").when(SpeechPlayed, after=2).say("what time is it now"))
    paused, second = result.expect(SpeechPaused).clock, result.find(TurnStarted)[1]
    begin = round((paused + 0.05) * 100) * 320
    end = round(next(noted.clock for noted in result.noted if noted.event is second) * 100) * 320
    assert words_in(result.output[begin:end]) == []


async def test_an_uh_huh_does_not_stop_the_answer(voice: Voice) -> None:
    async with voice(replies=[STORY]) as harness:
        result = await harness.run(asked("tell me a story").when(SpeechPlayed, after=2).say("uh-huh"))
    result.expect_in_order(SpeechPaused, SpeechResumed, (TurnFinished, {"reason": "complete"}))
    assert len(result.find(TurnStarted)) == 1
    assert result.spoken == plain(STORY)


async def test_a_noise_does_not_stop_the_answer_for_long(voice: Voice) -> None:
    async with voice(replies=[STORY]) as harness:
        result = await harness.run(asked("tell me a story").when(SpeechPlayed, after=2).mumble(0.6))
    result.expect_in_order(SpeechPaused, SpeechResumed, (TurnFinished, {"reason": "complete"}))
    assert result.spoken == plain(STORY)


async def test_stop_stops(voice: Voice) -> None:
    async with voice(replies=[STORY]) as harness:
        result = await harness.run(asked("tell me a story").when(SpeechPlayed, after=2).say("stop"))
    assert result.expect(TurnFinished).reason == "cancelled"
    assert len(result.find(TurnStarted)) == 1
    assert plain(STORY).startswith(result.spoken)
    assert len(result.spoken.split()) < 25


async def test_the_wake_word_over_the_answer_is_a_new_turn(voice: Voice) -> None:
    async with voice({"dice": dice()}, replies=[STORY]) as harness:
        timeline = asked("tell me a story").when(SpeechPlayed, after=2).wake().say("roll a die")
        result = await harness.run(timeline)
    assert [event.reason for event in result.find(TurnFinished)] == ["cancelled", "complete"]
    assert result.spoken.endswith("with 6 sides you rolled a four")


async def test_after_a_question_no_wake_word_is_needed(voice: Voice) -> None:
    async with voice(replies=["Which city do you mean?", "It rains in Rome."]) as harness:
        timeline = asked("what is the weather").when(TurnFinished, after=0.5).say("in rome")
        result = await harness.run(timeline)
        told = await history(harness)
    assert len(result.find(WakeWordHeard)) == 1
    assert result.spoken == "which city do you mean it rains in rome"
    assert told == [
        ("user", "what is the weather"), ("assistant", "Which city do you mean?"), ("user", "in rome"),
    ]


async def test_after_a_statement_one_is_needed(voice: Voice) -> None:
    async with voice(replies=["It rains."]) as harness:
        result = await harness.run(asked("what is the weather").when(TurnFinished, after=0.5).say("in rome").silence(1))
    assert len(result.find(TurnStarted)) == 1


async def test_the_sound_for_woken_does_not_deafen_it(voice: Voice) -> None:
    async with voice({"dice": dice()}, echo=EchoPath(delay=0.06)) as harness:
        result = await harness.run(asked("roll a die"))
    assert result.expect(events.FinalTranscript).text == "roll a die"


@pytest.mark.parametrize("cancels", [True, False])
async def test_its_own_voice_does_not_wake_it(voice: Voice, cancels: bool) -> None:
    answer = "You can call me by the name hey robin whenever you like."
    async with voice(
        replies=[answer], tts=ToneTextToSpeech(wake="hey robin"), echo=EchoPath(delay=0.06),
        canceller=None if cancels else NoEchoCanceller(),
        settings=Settings(voice=VoiceSettings(earcons=False, barge_in=False)),
    ) as harness:
        result = await harness.run(asked("what is your name").silence(8))
    assert len(result.find(WakeWordHeard, accepted=True)) == 1
    assert len(result.find(TurnStarted)) == 1
    assert result.expect(TurnFinished).reason == "complete"
    assert result.spoken == plain(answer).replace("hey robin ", "")


@pytest.mark.parametrize("cancels", [True, False])
async def test_its_own_voice_does_not_interrupt_it(voice: Voice, silero_model: Path, cancels: bool) -> None:
    async with voice(
        installed=["espeak"], tts="espeak", activity=silero_model, replies=[STORY], echo=EchoPath(delay=0.06),
        canceller=None if cancels else NoEchoCanceller(), settings=Settings(voice=VoiceSettings(earcons=False)),
    ) as harness:
        result = await harness.run(asked("tell me a story").silence(1))
    if cancels:
        result.absent(SpeechPaused)
        assert result.find(SpeechPlayed)[-1].text == STORY
        assert len(result.find(TurnStarted)) == 1
    else:
        result.expect(SpeechPaused)


async def test_the_real_ear_for_speech_and_for_turns(voice: Voice, silero_model: Path, smart_turn_model: Path) -> None:
    async with voice({"dice": dice()}, activity=silero_model, turns=smart_turn_model, replies=[STORY]) as harness:
        command = await harness.run(asked("roll a die").silence(1).over("babble", snr_db=15))
        timeline = asked("tell me a story").when(SpeechPlayed, after=2).say("uh-huh")
        story = await harness.run(timeline.when(SpeechResumed, after=2).say("be quiet"))
    assert command.spoken == "with 6 sides you rolled a four"
    story.expect_in_order(SpeechPaused, SpeechResumed, SpeechPaused, (TurnFinished, {"reason": "cancelled"}))
    assert plain(STORY).startswith(story.spoken)


async def test_several_wake_words(voice: Voice) -> None:
    words = [ScriptedWakeWord(), ScriptedWakeWord("hey_ada", "hey ada", hertz=3500)]
    async with voice({"dice": dice()}, wake_words=words) as harness:
        result = await harness.run(Timeline().silence(0.5).wake(3500).say("roll a die"))
    assert [event.name for event in result.find(WakeWordHeard, accepted=True)] == ["hey_ada"]
    assert result.spoken


async def test_without_wake_words_everything_is_meant(voice: Voice) -> None:
    async with voice({"dice": dice()}, wake_words=[]) as harness:
        result = await harness.run(Timeline().silence(0.5).say("roll a die"))
    assert result.spoken == "with 6 sides you rolled a four"


async def test_conversations_go_on_from_run_to_run(voice: Voice) -> None:
    async with voice(replies=["One.", "Two."]) as harness:
        first = await harness.run(asked("the first question"))
        second = await harness.run(asked("the second question"))
        told = await history(harness)
    assert (first.spoken, second.spoken) == ("one", "two")
    assert second.expect(WakeWordHeard).clock > first.clock_of(TurnFinished)
    assert [text for _, text in told] == ["the first question", "One.", "the second question"]


@pytest.mark.parametrize("again", range(2))
async def test_the_same_timeline_gives_the_same_events(tmp_path: Path, again: int) -> None:
    timeline = asked("tell me a story").when(SpeechPlayed, after=2).say("what time is it now").over("babble", snr_db=25)
    results: list[HarnessResult] = []
    for name in ("one", "two"):
        async with VoiceHarness(replies=[STORY, "It is noon."], home=tmp_path / name) as harness:
            results.append(await harness.run(timeline))
    one, two = results
    assert one.comparable() == two.comparable()
    assert one.output == two.output
    assert one.microphone == two.microphone


def test_tests_need_not_be_async() -> None:
    result = run_voice(asked("roll a die"), {"dice": dice()})
    assert result.spoken == "with 6 sides you rolled a four"


async def test_an_ear_by_order(voice: Voice) -> None:
    ear = ScriptedSpeechToText(["roll a die"])
    async with voice({"dice": dice()}, stt=ear) as harness:
        result = await harness.run(Timeline().silence(0.5).wake().mumble(1.2))
    assert result.spoken == "with 6 sides you rolled a four"
    assert "roll a die" in ear.opened[0][1]


async def test_a_tool_that_fails_is_heard(voice: Voice) -> None:
    def break_it() -> str:
        """Break."""
        raise ToolError("the die is lost")

    plugin = OfferingPlugin(Tool.of(break_it), Intent(tool="break_it", sentences=("roll a die",)))
    async with voice({"dice": plugin}) as harness:
        result = await harness.run(asked("roll a die"))
    assert not result.expect(ToolCallFinished).ok
    assert "the die is lost" in result.spoken


async def test_a_plugin_that_cannot_be_loaded_fails_the_test_at_once(voice: Voice) -> None:
    with pytest.raises(VoiceError, match="the plugin 'dice' is failed"):
        async with voice({"dice": OfferingPlugin(Intent(tool="nothing", sentences=("roll a die",)))}):
            pass
    with pytest.raises(VoiceError, match="not running"):
        voice().services.sessions.live  # noqa: B018


async def test_installed_plugins_may_take_part(voice: Voice) -> None:
    async with voice(installed=["calculator"]) as harness:
        result = await harness.run(asked("what is two plus two"))
    assert "4" in result.spoken.split() or "four" in result.spoken.split()


async def test_waiting_in_vain_fails_and_shows_what_happened(voice: Voice) -> None:
    async with voice() as harness:
        with pytest.raises(AssertionError, match=r"waited 1 s for SpeechPlayed in vain\n"):
            await harness.run(Timeline().silence(0.2).when(SpeechPlayed, within=1).say("stop"))
