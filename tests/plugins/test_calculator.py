"""The calculator: what it works out, what it refuses, and which sentences it takes for itself."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

import assistant_calculator
import pytest
from assistant_calculator.arithmetic import answer
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant import PluginContext, PluginSettings, ToolCall, ToolError
from assistant.intents import IntentMatcher
from assistant.toolbox import call_tool

CONTEXT = PluginContext("calculator", PluginSettings(), Path("unused"), logging.getLogger("test"), lambda event: None)
MATCHER = IntentMatcher(assistant_calculator.register_intents(CONTEXT))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("17 percent of 340", "17 percent of 340 is 57.8."),
        ("12 times 8", "12 times 8 is 96."),
        ("five plus six", "Five plus six is 11."),
        ("square root of 144", "The square root of 144 is 12."),
        ("two to the power of ten", "Two to the power of ten is 1024."),
        ("10 divided by 4", "10 divided by 4 is 2.5."),
        ("3.5 * 2", "3.5 * 2 is 7."),
        ("15% off 80", "15% off 80 is 68."),
        ("0.1 + 0.2", "0.1 + 0.2 is 0.3."),
        ("10/3", "10/3 is about 3.3333333."),
        ("2^0.5", "2^0.5 is about 1.4142136."),
        ("1/3 + 1/6", "1/3 + 1/6 is 0.5."),
        ("10 / 3 * 3", "10 / 3 * 3 is 10."),
        ("(2 + 3) * 4", "(2 + 3) * 4 is 20."),
        ("2 + 3 * 4", "2 + 3 * 4 is 14."),
        ("-5 + 2", "-5 + 2 is -3."),
        ("5 - 5", "5 - 5 is 0."),
        ("1,000 + 2,000,000", "1,000 + 2,000,000 is 2001000."),
        ("1,000 x 1,000", "1,000 x 1,000 is 1000000."),
        ("007 + 1", "007 + 1 is 8."),
        (".5 * 2", ".5 * 2 is 1."),
        ("10 % 3", "10 % 3 is 1."),
        ("5% * 200", "5% * 200 is 10."),
        ("100 plus 10 percent", "100 plus 10 percent is 110."),
        ("200 - 10%", "200 - 10% is 180."),
        ("half of 10", "Half of 10 is 5."),
        ("a third of nine", "A third of nine is 3."),
        ("two thirds of 9", "Two thirds of 9 is 6."),
        ("three quarters of 8", "Three quarters of 8 is 6."),
        ("two and a half times four", "Two and a half times four is 10."),
        ("two point five times four", "Two point five times four is 10."),
        ("point five times four", "Point five times four is 2."),
        ("add five and six", "The answer is 11."),
        ("add one hundred and five to six", "The answer is 111."),
        ("subtract 3 from 10", "The answer is 7."),
        ("multiply 6 by 7", "The answer is 42."),
        ("divide 10 by 4", "The answer is 2.5."),
        ("the sum of 2 and 3", "The sum of 2 and 3 is 5."),
        ("product of 4 and 5", "The product of 4 and 5 is 20."),
        ("the difference between 9 and 4", "The difference between 9 and 4 is 5."),
        ("three squared plus four squared", "Three squared plus four squared is 25."),
        ("2 to the third power", "2 to the third power is 8."),
        ("cube root of 27", "The cube root of 27 is 3."),
        ("sqrt(16) + 1", "Sqrt(16) + 1 is 5."),
        ("square root of the square root of 81", "The square root of the square root of 81 is 3."),
        ("twice seven", "Twice seven is 14."),
        ("a dozen times two", "A dozen times two is 24."),
        ("a hundred minus one", "A hundred minus one is 99."),
        (
            "one thousand two hundred and thirty four plus one",
            "One thousand two hundred and thirty four plus one is 1235.",
        ),
        ("two hundred and five million minus 5", "Two hundred and five million minus 5 is 204999995."),
        ("twenty-five times four", "Twenty-five times four is 100."),
        ("twelve hundred plus one", "Twelve hundred plus one is 1201."),
        ("2.5 million times two", "2.5 million times two is 5000000."),
        ("pi times two", "Pi times two is about 6.2831853."),
        ("minus five plus two", "Minus five plus two is -3."),
        ("2 + 2 = ?", "2 + 2 is 4."),
        ("2 ** 64", "2 ** 64 is about 1.8446744 times 10 to the power of 19."),
        ("10 trillion times 10 trillion", "10 trillion times 10 trillion is 10 to the power of 26."),
        ("1 / 8000000", "1 / 8000000 is about 1.25 times 10 to the power of -7."),
        ("999999999999999 + 0", "999999999999999 + 0 is 999999999999999."),
        ("0.1234567890123456789 * 1", "0.1234567890123456789 * 1 is about 0.12345679."),
    ],
)
def test_it_works_out(expression: str, expected: str) -> None:
    assert answer(expression) == expected


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("1/0", "divide by zero"),
        ("5 divided by zero", "divide by zero"),
        ("5 / (3 - 3)", "divide by zero"),
        ("0/0", "no answer"),
        ("7 mod 0", "no answer"),
        ("the square root of minus one", "no answer"),
        ("-8 to the power of 0.5 * -1 + (0 - 8) ** 0.5", "no answer"),
        ("9**9**9", "too large"),
        ("9^9^9^9^9^9^9", "too large"),
        ("ten to the power of one million", "too large"),
        ("9" * 200 + " ** 99", "too large"),
        ("", "nothing to calculate"),
        ("  ?", "nothing to calculate"),
        ("5 plus", "make sense"),
        ("* 5", "make sense"),
        ("(1", "make sense"),
        ("()", "make sense"),
        ("5 + * 3", "make sense"),
        ("8 // 3", "make sense"),
        ("add 5", "calculate with"),
        ("five six", "after 5"),
        ("2(3)", "after 2"),
        ("5 plus banana", "banana"),
        ("1e5 + 2", "'e'"),
        ("5! + 3", "'!'"),
        ("1,5 + 2", "','"),
        ("__import__('os').system('true')", "calculate with"),
        ("1 if 1 else 2", "'if'"),
        ("'a' * 99999", "calculate with"),
        ("[1] * 5", "calculate with"),
        ("1 + " * 100 + "1", "too long"),
        ("5 + \N{FULLWIDTH DIGIT FIVE}", "calculate with"),
        ("\ud800", "calculate with"),
    ],
)
def test_it_refuses_in_a_sentence(expression: str, said: str) -> None:
    with pytest.raises(ToolError) as caught:
        answer(expression)
    assert said in caught.value.message
    assert caught.value.message.endswith(".")


WORDS = [
    *("0", "1", "2", "9.5", "99999", "one", "hundred", "and", "point", "five", "half", "thirds", "the", "a", "x", "="),
    *("(", ")", "+", "-", "*", "/", "**", "^", "%", "~", "percent", "of", "off", "add", "squared", "root of", "cube"),
    *("to the power of", "plus", "minus"),
]


@settings(max_examples=300, deadline=None, database=None)
@given(
    st.one_of(
        st.text(max_size=60),
        st.lists(st.sampled_from(WORDS), max_size=25).map(" ".join),
    )
)
def test_anything_gives_a_sentence_or_a_refusal(expression: str) -> None:
    result = "refused."
    with contextlib.suppress(ToolError):
        result = answer(expression)
    assert result.endswith(".")
    assert "NaN" not in result
    assert "E+" not in result


@pytest.mark.anyio
async def test_the_tool_answers_through_the_toolbox() -> None:
    (tool,) = assistant_calculator.register_tools(CONTEXT)
    assert tool.name == "calculate"
    assert tool.effect == "read"
    good = await call_tool(tool, ToolCall(id="1", name="calculate", arguments={"expression": "17 percent of 340"}), 10)
    bad = await call_tool(tool, ToolCall(id="2", name="calculate", arguments={"expression": "1/0"}), 10)
    assert (good.ok, good.result) == (True, "17 percent of 340 is 57.8.")
    assert (bad.ok, bad.result) == (False, "I cannot divide by zero.")


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("17 percent of 340", "57.8."),
        ("What is 17 percent of 340?", "57.8."),
        ("what is 12 times 8", "96."),
        ("What's five plus six?", "11."),
        ("whats 2 + 2", "4."),
        ("what is the square root of 144", "12."),
        ("two to the power of ten", "1024."),
        ("calculate 10 divided by 4", "2.5."),
        ("3.5 * 2", "7."),
        ("what is .5 * 2", "1."),
        ("15% off 80", "68."),
        ("2+2", "4."),
        ("hey jarvis, what is nine times nine please", "81."),
        ("could you tell me what 6 times 7 is", "42."),
        ("how much is 20 percent of 45", "9."),
        ("what does 5 plus 5 equal", "10."),
        ("what is five plus six equals", "11."),
        ("what is 5 + 5 =", "10."),
        ("what's half of 90", "45."),
        ("add five and six", "11."),
        ("what is ten squared", "100."),
        ("100 - 7", "93."),
        ("2^10", "1024."),
        ("5 x 7", "35."),
        ("one hundred and five times two", "210."),
        ("1,000 + 2", "1002."),
        ("what is (2 + 3) * 4", "20."),
        ("sqrt(16)", "4."),
    ],
)
def test_calculations_match_and_are_right(sentence: str, expected: str) -> None:
    match = MATCHER.match(sentence)
    assert match is not None
    assert answer(str(match.arguments["expression"])).endswith(f" {expected}")


@pytest.mark.parametrize(
    "sentence",
    [
        "what is love",
        "what time is it in my head",
        "set the table for ten",
        "what is the meaning of life",
        "what is 5 minutes in french",
        "what is the capital of France",
        "what is one",
        "what is 42",
        "five",
        "one two three",
        "two times",
        "one more time",
        "how many times",
        "what is 9/11",
        "what is 24/7",
        "call 555-1234",
        "555-1234",
        "2024-01-02",
        "what is 1/2/2024",
        "what is the power of one",
        "what is five percent",
        "what is the square root",
        "what is plus",
        "what is one plus",
        "what is the point",
        "what is pi",
        "what is a prime number",
        "what is the difference between a cat and a dog",
        "what is over",
        "add milk to the list",
        "add two eggs",
        "double trouble",
        "divide and conquer",
        "what is the third of may",
        "half past ten",
        "quarter to five",
        "over nine thousand",
        "one and a half",
        "what is 5! + 3",
        "what is 3 + x",
        "what is +",
        "()",
        "--",
        "the",
        "",
    ],
)
def test_other_sentences_are_left_alone(sentence: str) -> None:
    assert MATCHER.match(sentence) is None
