"""The engines that do what a test wrote."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Sequence

import pytest

from assistant.engines import ChatRequest, Message, ToolCall
from assistant.errors import EngineFailed
from assistant.testing import KnownSpeechToText, ScriptedLanguageModel, ScriptedSpeechToText, audio, call, synthesise
from assistant.testing.engines import Reply


def request(*said: str, system: str = "Be brief.") -> ChatRequest:
    """A conversation: the user and the assistant in turn."""
    roles = ["user", "assistant"] * len(said)
    messages = [Message(role=role, content=text) for role, text in zip(roles, said, strict=False)]  # type: ignore[arg-type]
    return ChatRequest(messages=(Message(role="system", content=system), *messages))


def answer(model: ScriptedLanguageModel, *said: str) -> str:
    """What it answers."""
    return "".join(delta.text for delta in model.generate(request(*said)))


def test_the_model_answers_by_order_a_word_a_step() -> None:
    model: ScriptedLanguageModel = pickle.loads(pickle.dumps(ScriptedLanguageModel(["One  two, three.", "Four."])))
    deltas = list(model.generate(request("count")))
    assert [delta.text for delta in deltas] == ["", "One", " ", " two,", " three.", ""]
    assert (deltas[0].prompt_done, deltas[-1].finish_reason, deltas[-1].output_tokens) == (3, "stop", 4)
    assert answer(model, "count", "One two, three.", "go on") == "Four."
    assert answer(model, "and", "so", "on") == model.spare
    assert len(model.requests) == 3


def test_a_question_that_goes_on_is_one_question() -> None:
    model = ScriptedLanguageModel(["First.", "Second."])
    assert answer(model, "what is") == "First."
    assert answer(model, "what is the time") == "First."
    assert answer(model, "what is the time", "First.", "thanks") == "Second."


def test_the_model_answers_by_words_or_by_a_function() -> None:
    model = ScriptedLanguageModel({"Weather": "Rain.", "time": "Noon."})
    assert (answer(model, "the time?"), answer(model, "the weather?"), answer(model, "x")) == (
        "Noon.", "Rain.", model.spare,
    )
    assert answer(ScriptedLanguageModel(lambda message: message.content.upper()), "hello you") == "HELLO YOU"


@pytest.mark.parametrize(("reply", "texts", "calls", "reason"), [
    ("Hello.", "Hello.", 0, "stop"),
    (call("roll", sides=6), "", 1, "tool_calls"),
    (["Wait.", call("roll"), call("flip")], "Wait.", 2, "tool_calls"),
])
def test_replies_may_call_tools(reply: Reply, texts: str, calls: int, reason: str) -> None:
    deltas = list(ScriptedLanguageModel([reply]).generate(request("go")))
    found = [delta.tool_call for delta in deltas if delta.tool_call]
    assert "".join(delta.text for delta in deltas) == texts
    assert len({one.id for one in found if one.id}) == len(found) == calls
    assert deltas[-1].finish_reason == reason


def test_a_call_keeps_what_it_is_given() -> None:
    model = ScriptedLanguageModel([ToolCall(id="mine", name="roll", arguments={"sides": 6})])
    (one,) = [delta.tool_call for delta in model.generate(request("go")) if delta.tool_call]
    assert (one.id, one.name, one.arguments) == ("mine", "roll", {"sides": 6})


def test_a_reply_may_be_an_error_after_some_words() -> None:
    steps = ScriptedLanguageModel([["Well", EngineFailed("the fuse blew")]]).generate(request("go"))
    assert [next(steps).text, next(steps).text] == ["", "Well"]
    with pytest.raises(EngineFailed, match="the fuse blew"):
        next(steps)


def test_the_ear_gives_texts_by_order_as_audio_comes() -> None:
    ear: ScriptedSpeechToText = pickle.loads(pickle.dumps(ScriptedSpeechToText(["what time is it", "stop"])))
    first = ear.open("en", ("stop",))
    partials = [first.feed(audio.silence(0.25)) for _ in range(5)]
    assert partials == ["what", "what time", "what time is", "what time is it", None]
    assert first.finish().seconds == 1.25
    second, third = ear.open("en", ()), ear.open("en", ())
    drafted = second.draft()
    assert drafted is not None
    assert drafted.text == ""
    assert (second.finish().text, third.finish().text) == ("stop", "")
    assert ear.opened[0] == ("en", ("stop",))
    assert audio.seconds_of(bytes(ear.heard[0])) == 1.25


TEXTS = ("what time is it", "set a timer for ten minutes", "stop", "uh-huh", "tell me a long story", "what is the time")


def understood(known: Sequence[str], *sound: bytes) -> str:
    """What is understood of some audio, fed in pieces of 100 ms."""
    ear: KnownSpeechToText = pickle.loads(pickle.dumps(KnownSpeechToText([synthesise(text) for text in known])))
    opened, pcm = ear.open("en", ("stop",)), b"".join(sound)
    for start in range(0, len(pcm), 3200):
        opened.feed(pcm[start : start + 3200])
    assert ear.phrases == ("stop",)
    return opened.finish().text


@pytest.mark.parametrize("text", TEXTS)
def test_known_speech_is_understood_and_not_taken_for_other_speech(text: str) -> None:
    assert understood(TEXTS, audio.silence(0.3), synthesise(text).pcm, audio.silence(0.3)) == text
    others = [other for other in TEXTS if other != text]
    assert text not in understood(others, synthesise(text).pcm)


@pytest.mark.parametrize("kind", ["white", "pink", "babble"])
def test_known_speech_is_understood_over_noise(kind: audio.NoiseKind) -> None:
    said = audio.silence(0.3) + synthesise(TEXTS[1]).pcm
    assert understood(TEXTS, audio.mix_at_snr(said, audio.noise(kind, 2, -30, seed=1), 10)) == TEXTS[1]


def test_two_utterances_are_understood_in_their_order() -> None:
    said = [synthesise(TEXTS[2]).pcm, audio.silence(0.4), synthesise(TEXTS[0]).pcm, synthesise(TEXTS[2]).pcm]
    assert understood(TEXTS, *said) == "stop what time is it stop"


def test_a_word_that_is_cut_off_is_not_understood() -> None:
    speech = synthesise(TEXTS[1])
    assert understood(TEXTS, speech.pcm[round(speech.words[1].start * 16_000) * 2 :]) == "a timer for ten minutes"
    assert understood(TEXTS, speech.pcm[: round(speech.words[4].start * 16_000) * 2]) == "set a timer for"


def test_nothing_is_understood_where_nothing_known_is_said() -> None:
    other = synthesise("the quick brown fox jumps over the lazy dog").pcm
    for sound in (audio.silence(1), audio.noise("white", 2, -20), audio.noise("babble", 3, -20), other, b""):
        assert understood(TEXTS, sound) == ""


def test_partials_grow_and_the_draft_is_what_would_be_the_end() -> None:
    speech = synthesise(TEXTS[1])
    ear = KnownSpeechToText()
    ear.learn(speech)
    ear.learn(speech)
    assert ear.known == [speech]
    opened = ear.open("en", ())
    partials = [opened.feed(speech.pcm[at : at + 3200]) for at in range(0, len(speech.pcm), 3200)]
    shown = [partial for partial in partials if partial is not None]
    assert shown[0] == "set"
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(shown))
    draft = opened.draft()
    assert draft is not None
    assert draft.text == opened.finish().text == TEXTS[1]
