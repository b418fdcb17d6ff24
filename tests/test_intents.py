"""The matcher: whole sentences, typed arguments, the best of several readings."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant import Intent, PluginError, Range, Wildcard, Words
from assistant.intents import IntentMatcher, Match, check_intent
from assistant.intents.matcher import MAX_PHRASES, MAX_TEXT

TIMER = Intent(
    tool="set_timer",
    sentences=("(set|start) a timer for {minutes} minute[s]", "set a {minutes} minute timer"),
    slots={"minutes": Range(1, 300)},
)
NAMED = Intent(
    tool="set_timer",
    sentences=("(set|start) a {name} timer for {minutes} minute[s]", "set a timer for {minutes} minutes for {name}"),
    slots={"minutes": Range(1, 300), "name": Wildcard()},
)
LIGHT = Intent(
    tool="light",
    sentences=("turn [the] {room} light {state}", "turn {state} [the] {room} light"),
    slots={
        "room": Words({"kitchen": "room.kitchen", "living room": "room.living"}),
        "state": Words({"on": 1, "off": 0, "half": 0.5}),
    },
    arguments={"fade": 2},
)
SUM = Intent(tool="calculate", sentences=("[what is] {sum}",), slots={"sum": Wildcard(r"[\d.]+( ?[-+*!] ?[\d.]+)+")})
MATCHER = IntentMatcher([TIMER, NAMED, LIGHT, SUM])


def matched(text: str) -> tuple[str, dict[str, object]] | None:
    match = MATCHER.match(text)
    return (match.tool, dict(match.arguments)) if match else None


@pytest.mark.parametrize(
    "text",
    [
        "set a timer for ten minutes",
        "set a timer for 10 minutes",
        "SET A TIMER FOR TEN MINUTES",
        "set a timer for ten minutes.",
        "Set a timer for 10 minutes, please!",
        "please set a timer for ten minutes",
        "Hey Jarvis, could you please set a timer for ten minutes?",
        "um set a timer for ten minutes thank you",
        "set a timer please for ten minutes",
        "  set   a timer\nfor ten minutes ",
        "I'd like you to set a timer for 10 minutes",
        "I\N{RIGHT SINGLE QUOTATION MARK}d like to set a timer for ten minutes",
        "set a timer for ten minutes for me",
        "set a ten-minute timer",
        "set a ten min timer",
        "set a timer for 10 mins",
        "set a timer for 10min",
    ],
)
def test_one_meaning_in_many_words(text: str) -> None:
    assert matched(text) == ("set_timer", {"minutes": 10})


@pytest.mark.parametrize(
    ("said", "minutes"),
    [("twenty five", 25), ("twenty-five", 25), ("one hundred and five", 105), ("1", 1), ("three hundred", 300)],
)
def test_numbers_in_words_and_digits_are_integers(said: str, minutes: int) -> None:
    match = MATCHER.match(f"set a timer for {said} minutes")
    assert match == Match(tool="set_timer", arguments={"minutes": minutes})
    assert match is not None
    assert type(match.arguments["minutes"]) is int


@pytest.mark.parametrize(
    "text",
    [
        "set a timer for ten",
        "set a timer for ten minutes and then play music",
        "now and then I set a timer for ten minutes",
        "set a timer for 301 minutes",
        "set a timer for 0 minutes",
        "set a timer for 10.5 minutes",
        "set a timer for tenty minutes",
        "set a timer for minutes",
        "what is love",
        "what is 5",
        "",
        "   ",
        "?!.",
        "🙂",
        "\x00\ud800",
        "please",
        "hey jarvis",
        "set a timer for ten minutes " * 40_000,
        "a " * 149,
    ],
)
def test_what_is_not_wholly_understood_is_left_alone(text: str) -> None:
    assert MATCHER.match(text) is None


def test_words_pass_their_value_and_fixed_arguments_come_along() -> None:
    assert matched("turn on the living room light") == ("light", {"room": "room.living", "state": 1, "fade": 2})
    assert matched("turn the kitchen light half") == ("light", {"room": "room.kitchen", "state": 0.5, "fade": 2})
    assert matched("turn on the garage light") is None


def test_a_reading_without_wildcards_is_preferred() -> None:
    greedy = Intent(tool="play", sentences=("play {what}",), slots={"what": Wildcard()})
    exact = Intent(tool="radio", sentences=("play the radio",))
    longer = Intent(
        tool="play_by", sentences=("play {what} by {artist}",), slots={"what": Wildcard(), "artist": Wildcard()}
    )
    for order in ([greedy, exact, longer], [longer, exact, greedy]):
        matcher = IntentMatcher(order)
        radio, song = matcher.match("play the radio"), matcher.match("play hello")
        assert radio == Match(tool="radio", arguments={})
        assert song == Match(tool="play", arguments={"what": "hello"})


def test_of_equal_readings_the_most_literal_wins() -> None:
    loose = Intent(tool="loose", sentences=("open {thing} door",), slots={"thing": Words({"the front": "front"})})
    tight = Intent(tool="tight", sentences=("open the {thing} door",), slots={"thing": Words({"front": "front"})})
    for order in ([loose, tight], [tight, loose]):
        match = IntentMatcher(order).match("open the front door")
        assert match == Match(tool="tight", arguments={"thing": "front"})


def test_wildcards_keep_their_case_and_inner_punctuation() -> None:
    assert matched("set a Pasta al Forno timer for 8 minutes") == (
        "set_timer",
        {"minutes": 8, "name": "Pasta al Forno"},
    )
    assert matched("set a timer for ten minutes for the dog's bath") == (
        "set_timer",
        {"minutes": 10, "name": "the dog's bath"},
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("what is 2 + 3?", "2 + 3"),
        ("2+3", "2+3"),
        ("what is .5 * 2", "0.5 * 2"),
        ("what is 3.5 - 1.25.", "3.5 - 1.25"),
        ("what is 5! + 3", None),
        ("what is 2 + x", None),
        ("what is love + 2", None),
    ],
)
def test_a_pattern_guards_a_wildcard(text: str, expected: str | None) -> None:
    assert matched(text) == (None if expected is None else ("calculate", {"sum": expected}))


def test_a_slot_can_be_passed_under_another_name() -> None:
    intent = Intent(
        tool="set_timer",
        sentences=("set a timer for {hours} hours [{half:minutes}]",),
        slots={"hours": Range(1, 9), "half": Words({"and a half": 30})},
    )
    match = IntentMatcher([intent]).match("set a timer for two hours and a half")
    assert match == Match(tool="set_timer", arguments={"hours": 2, "minutes": 30})


@pytest.mark.parametrize(
    ("said", "number"), [("54321", 54321), ("100000", 100_000), ("ten", 10), ("nine hundred and one", 901)]
)
def test_a_large_range_is_understood_in_digits_and_its_beginning_in_words(said: str, number: int) -> None:
    slots = {"n": Range(0, 100_000), "m": Range(5, 2_000)}
    matcher = IntentMatcher([Intent(tool="pick", sentences=("pick number {n} [of {m}]",), slots={**slots})])
    assert matcher.match(f"pick number {said}") == Match(tool="pick", arguments={"n": number})
    assert matcher.match(f"pick number {said} of 1999") == Match(tool="pick", arguments={"n": number, "m": 1999})
    assert matcher.match("pick number 100001") is None


def test_other_languages_keep_their_own_words() -> None:
    german = Intent(
        tool="timer", sentences=("stell einen wecker auf {n} minuten",), slots={"n": Range(1, 60)}, language="de"
    )
    matcher = IntentMatcher([german, TIMER])
    assert matcher.match("Stell einen Wecker auf zehn Minuten!") == Match(tool="timer", arguments={"n": 10})
    assert matcher.match("set a timer for ten minutes") == Match(tool="set_timer", arguments={"minutes": 10})
    assert matcher.match("stell einen wecker auf ten minuten") is None


def test_no_intents_match_nothing() -> None:
    matcher = IntentMatcher([])
    assert matcher.match("what time is it") is None
    assert matcher.phrases() == ()


@settings(max_examples=150, deadline=None, database=None)
@given(st.one_of(st.text(max_size=MAX_TEXT + 5), st.lists(st.sampled_from(
    ["set", "a", "timer", "for", "ten", "minutes", "please", "hey", "what is", "5", "+", "-", ".", "the", "{minutes}"]
)).map(" ".join)))  # fmt: skip
def test_no_text_breaks_it(text: str) -> None:
    match = MATCHER.match(text)
    assert match is None or match.tool in {"set_timer", "calculate", "light"}


@pytest.mark.parametrize(
    ("sentence", "slots", "said"),
    [
        ("set {minutes", {}, "cannot be parsed"),
        ("set a (timer", {}, "cannot be parsed"),
        ("set a ) timer", {}, "cannot be parsed"),
        ("", {}, "cannot be parsed"),
        ("set {}", {}, "cannot be parsed"),
        ("set {minutes}", {}, "{minutes}, which is not one of its slots"),
        ("set <rule>", {}, "rules"),
        ("{all}", {"all": Wildcard()}, "would take every sentence"),
        ("[please] {all}", {"all": Wildcard()}, "would take every sentence"),
        ("play {all:song}", {"all": Wildcard()}, "another name"),
        ("play {@song}", {"song": Wildcard()}, "capture"),
    ],
)
def test_a_bad_template_is_named(sentence: str, slots: dict[str, Wildcard], said: str) -> None:
    with pytest.raises(PluginError) as caught:
        IntentMatcher([Intent(tool="broken_tool", sentences=("fine", sentence), slots={**slots})])
    assert "broken_tool" in caught.value.message
    assert repr(sentence) in caught.value.message
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("slot", "said"),
    [(Range(9, 1), "9 down to 1"), (Words({}), "no words"), (Words({" ": 1}), "no words"), (Wildcard("("), "pattern")],
)
def test_a_bad_slot_is_named(slot: Range | Words | Wildcard, said: str) -> None:
    with pytest.raises(PluginError) as caught:
        check_intent(Intent(tool="broken_tool", sentences=("say {it}",), slots={"it": slot}))
    assert "broken_tool" in caught.value.message
    assert "'it'" in caught.value.message
    assert said in caught.value.message


def test_an_intent_needs_sentences() -> None:
    with pytest.raises(PluginError, match="no sentences"):
        check_intent(Intent(tool="silent", sentences=()))


def test_phrases_are_plain_sentences_that_match() -> None:
    phrases = MATCHER.phrases()
    assert "set a timer for ten minutes" in phrases or "set a timer for ten minute" in phrases
    assert "set twenty five minute timer" not in phrases
    assert "set a twenty five minute timer" in phrases
    assert "turn kitchen light on" in phrases
    assert len(set(phrases)) == len(phrases)
    for phrase in phrases:
        assert not set(phrase) & set("{}[]()|<>0123456789-"), phrase
        assert MATCHER.match(phrase) is not None, phrase


def test_a_wildcard_says_its_examples() -> None:
    examples = ("two plus three", "half of ten")
    slot = Wildcard(r"[\w ]+", examples)
    summing = Intent(tool="calculate", sentences=("(what is|what's) {sum}",), slots={"sum": slot})
    other = Intent(tool="search", sentences=("search for {words}",), slots={"words": Wildcard()})
    assert set(IntentMatcher([summing, other]).phrases()) == {
        f"{start} {example}" for start in ("what is", "what's") for example in examples
    }


def test_phrases_are_bounded_and_every_template_has_some() -> None:
    long = Intent(
        tool="long",
        sentences=("(a|b|c|d|e|f) (a|b|c|d|e|f) (a|b|c|d|e|f) (a|b|c|d|e|f) (a|b|c|d|e|f) [x] [y] [z] {n} {n2} {n3}",),
        slots={"n": Range(1, 60), "n2": Range(1, 60), "n3": Range(1, 60)},
    )
    phrases = IntentMatcher([long, long, TIMER, LIGHT]).phrases()
    assert len(phrases) <= MAX_PHRASES
    assert sum("timer" in phrase for phrase in phrases) == 3 * 60 * 2 - 60
    assert sum("light" in phrase for phrase in phrases) == 2 * 2 * 3 * 2


def test_importing_the_types_stays_cheap() -> None:
    code = "import sys, assistant; print(sorted({'hassil', 'yaml', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
