"""Somebody speaks over the answer: when it falls silent, when it goes on, and what the words meant."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.voice.interruption import INVENTED_WORDS, Interruption, Verdict, judge
from assistant.voice.phrases import ANSWER, BACKCHANNEL, INVENTED, STOP

PARIS = "Today the weather in Paris is sunny, with a high of twenty-one degrees and a little wind from the west."


def run(probabilities: Iterable[float], level: float = -30.0) -> list[tuple[int, str]]:
    interruption = Interruption()
    said = ((clock, interruption.process(clock, speech, level)) for clock, speech in enumerate(probabilities))
    return [(clock, what) for clock, what in said if what]


def test_speech_pauses_within_a_fifth_of_a_second() -> None:
    ((clock, what),) = run([0.9] * 60)
    assert what == "pause"
    assert 14 <= clock <= 20


def test_gaps_between_syllables_do_not_matter() -> None:
    ((clock, what),) = run(([0.9] * 7 + [0.2] + [0.5] * 3) * 10)
    assert what == "pause"
    assert clock < 50


@pytest.mark.parametrize(
    "probabilities",
    [
        [0.0] * 1_000,
        [0.45] * 1_000,
        ([1.0] * 4 + [0.0] * 30) * 30,
        ([0.95] * 12 + [0.1] * 25) * 20,
        ([0.7] * 5 + [0.2] * 6) * 50,
    ],
    ids=["silence", "doubt", "clicks", "coughs", "rattling"],
)
def test_what_is_no_speech_pauses_nothing(probabilities: list[float]) -> None:
    assert run(probabilities) == []


def test_what_is_far_too_quiet_pauses_nothing() -> None:
    assert run([1.0] * 500, level=-65) == []


def test_it_goes_on_when_it_was_nothing_and_can_be_interrupted_again() -> None:
    said = run([0.9] * 40 + [0.0] * 100 + [0.9] * 40 + [0.0] * 100)
    assert [what for _, what in said] == ["pause", "resume", "pause", "resume"]
    assert 95 <= said[1][0] <= 105


def test_breathing_while_speaking_does_not_let_it_go_on() -> None:
    assert [what for _, what in run(([0.9] * 40 + [0.1] * 45) * 5)] == ["pause"]


def test_a_click_in_the_silence_does_not_hold_it_up_for_long() -> None:
    said = run([0.9] * 30 + [0.0] * 40 + [0.9] * 2 + [0.0] * 100)
    assert said[1] == pytest.approx((30 + 40 + 2 + 36, "resume")) or said[1][0] < 30 + 40 + 2 + 60


def test_a_reset_forgets() -> None:
    interruption = Interruption()
    said = []
    for clock in range(200):
        if clock % 15 == 0:
            interruption.reset()
        said.append(interruption.process(clock, 0.9, -30))
    assert set(said) == {""}


@given(st.lists(st.floats(0, 1), max_size=400), st.floats(-120, 0))
def test_pause_and_resume_take_turns(probabilities: list[float], level: float) -> None:
    said = [what for _, what in run(probabilities, level)]
    assert said == ["pause", "resume"] * (len(said) // 2) + ["pause"] * (len(said) % 2)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("Stop.", "stop"), ("stop!!", "stop"), ("STOP", "stop"), ("Stoooop", "stop"), ("Stop, stop, stop!", "stop"),
        ("Be quiet.", "stop"), ("Shut up!", "stop"), ("Cancel.", "stop"), ("Never mind.", "stop"), ("Enough!", "stop"),
        ("Okay, stop.", "stop"), ("Hey Jarvis, stop.", "stop"), ("Okay Nabu, please stop it now", "stop"),
        ("No, no, stop talking please.", "stop"), ("Oh shut up.", "stop"), ("Can you stop?", "stop"),
        ("That's enough, thanks.", "stop"), ("That’s enough", "stop"), ("Shhh!", "stop"), ("Psst", "stop"),  # noqa: RUF001
        ("uh, stop", "stop"), ("Wait.", "stop"), ("Stopp!", "stop"), ("Hör auf!", "stop"), ("Sei bitte still", "turn"),
        ("Bitte sei still.", "stop"), ("Halt die Klappe", "stop"), ("Arrête !", "stop"), ("Tais-toi !", "stop"),
        ("Ça suffit, s'il te plaît", "stop"), ("¡Cállate!", "stop"), ("Basta ya, por favor.", "stop"), ("Para", "stop"),
        ("Stop the timer.", "turn"), ("Cancel my alarm", "turn"), ("When does the bus stop?", "turn"),
        ("Stop by the shop", "turn"), ("No.", "turn"), ("Why?", "turn"), ("What about tomorrow?", "turn"),
        ("Yeah, but what about Lyon?", "turn"), ("Okay, set a timer for ten minutes.", "turn"), ("Louder", "turn"),
        ("Thank you, and what is the time?", "turn"), ("Wow, how old is it?", "turn"), ("你好", "turn"),
        ("Uh-huh.", "backchannel"), ("uh huh", "backchannel"), ("Mm-hmm.", "backchannel"), ("Mhm", "backchannel"),
        ("Mmmmm", "backchannel"), ("Hmm.", "backchannel"), ("Yeah.", "backchannel"), ("Yeahhh", "backchannel"),
        ("Okay.", "backchannel"), ("OK", "backchannel"), ("Right.", "backchannel"), ("I see.", "backchannel"),
        ("Wow!", "backchannel"), ("Oh, wow.", "backchannel"), ("Yeah, yeah, right.", "backchannel"),
        ("Okay, I see. Uh-huh.", "backchannel"), ("Ahh, that makes sense", "backchannel"), ("Aha!", "backchannel"),
        ("Genau.", "backchannel"), ("Ach so, ja, okay", "backchannel"), ("D'accord, je vois.", "backchannel"),
        ("Vale, claro.", "backchannel"), ("Sí", "backchannel"), ("Ah, ok.", "backchannel"), ("Go on.", "backchannel"),
        ("", "nothing"), ("  \n", "nothing"), ("...", "nothing"), ("[BLANK_AUDIO]", "nothing"), ("(music)", "nothing"),
        ("[Music] (applause)", "nothing"), ("*coughs*", "nothing"), ("♪ la la la ♪", "nothing"), ("♪", "nothing"),
        ("<|nospeech|>", "nothing"), ("Thank you.", "nothing"), ("Thanks for watching!", "nothing"),
        ("Thank you for watching. Bye.", "nothing"), ("you", "nothing"), ("Bye-bye.", "nothing"),
        ("Untertitel der Amara.org-Community", "nothing"), ("Vielen Dank.", "nothing"),
        ("Sous-titres réalisés par la communauté d'Amara.org", "nothing"), ("¡Suscríbete!", "nothing"),
    ],
)
def test_what_words_mean(text: str, verdict: Verdict) -> None:
    assert judge(text) == verdict


@pytest.mark.parametrize(
    "text",
    [
        "The weather in Paris is sunny", "weather in Paris", "whether in Paris is sunny with a high",
        "twenty-one degrees and a little wind", "a little win from the west", "wind from the west.", "sunny with a",
        "the weather and Paris is sunny",
    ],
)
def test_its_own_words_coming_back_are_nothing(text: str) -> None:
    assert judge(text, PARIS) == "nothing"
    assert judge(text) == "turn"


@pytest.mark.parametrize(
    "text",
    [
        "What about Lyon?", "How is the weather in London tomorrow?", "Is it sunny in the west of Spain?", "Louder",
        "the west of wind little a", "and what is the high of the hill", "turn on the light in the kitchen",
    ],
)
def test_somebody_elses_words_are_a_turn(text: str) -> None:
    assert judge(text, PARIS) == "turn"


def test_stop_always_works() -> None:
    assert judge("Stop.", "You should stop at the next station") == "stop"
    assert judge("please stop", "please stop at the next station?") == "stop"


def test_an_answer_to_a_question_is_no_backchannel() -> None:
    question = "Shall I set it to ten minutes or to twenty minutes?"
    for text in ("Yes.", "Yeah, sure.", "Okay", "Ja, genau", "Oui", "Sí, claro", "twenty minutes", "to ten minutes"):
        assert judge(text, question) == "turn", text
    assert judge("Yes.", "I set it to ten minutes.") == "backchannel"
    assert judge("shall I set it to ten minutes", question) == "nothing"
    assert judge("Wow", question) == "backchannel"


@pytest.mark.parametrize("language", STOP)
def test_every_phrase_of_the_tables_is_found(language: str) -> None:
    stops = set(STOP[language])
    assert {judge(phrase) for phrase in stops} == {"stop"}
    taken = {one for several in (*STOP.values(), *INVENTED.values()) for one in several}
    assert {judge(phrase) for phrase in BACKCHANNEL[language] if phrase not in taken} == {"backchannel"}
    every = {one for several in STOP.values() for one in several}
    assert {judge(phrase) for phrase in INVENTED[language] if phrase not in every} == {"nothing"}
    assert all(len(phrase.split()) <= INVENTED_WORDS for phrase in INVENTED[language])
    assert {judge(phrase, "Shall I?") for phrase in ANSWER[language]} == {"turn"}


@given(st.text(max_size=60), st.text(max_size=200))
def test_any_text_is_judged(text: str, spoken: str) -> None:
    assert judge(text, spoken) in ("stop", "backchannel", "turn", "nothing")


@given(st.text(alphabet="mhuaoers' -", max_size=3_000))
def test_hums_of_any_length_are_judged(text: str) -> None:
    assert judge(text, text[::-1]) in ("stop", "backchannel", "turn", "nothing")
