"""What is made of the calls that a model wrote: every form, every mistake, wherever the stream is cut."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from assistant_mlx.chat.jsontypes import types_of
from assistant_mlx.chat.reader import Markers, Piece, Reader
from assistant_mlx.chat.toolcalls import Dialect, dialect
from families import FAMILIES
from guidekit import CLOCK, TIMER, TOOLS, Small, ask, check, small, told
from hypothesis import given
from hypothesis import strategies as st

from assistant import ToolCall

NATIVE = [family for family in FAMILIES if family not in ("plain", "thinking")]

MINDS: dict[str, Small] = {}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the models of this module are."""
    yield tmp_path_factory.mktemp("families")
    MINDS.clear()


def mind_of(folder: Path, family: str) -> Small:
    """The small model of a family, made once."""
    if family not in MINDS:
        MINDS[family] = small(folder / family, family)
    return MINDS[family]


def llama(body: str, **options: Any) -> list[ToolCall]:
    """What a Llama's call is read as."""
    from assistant_mlx.chat.toolcalls import _llama3_calls, tool_specs

    way = Dialect("llama3", True, "<|python_tag|>", parser=_llama3_calls, tools=(CLOCK, TIMER), choice="auto",
                  specs=tool_specs(TOOLS))
    return way.read(body, **options)


@pytest.mark.parametrize("body", [
    '{"name": "get_time", "parameters": {"zone": "UTC"}}',
    '{"type": "function", "name": "get_time", "parameters": {"zone": "UTC"}}',
    '{"type": "function", "function": {"name": "get_time", "parameters": {"zone": "UTC"}}}',
    '{"name": "get_time", "arguments": "{\\"zone\\": \\"UTC\\"}"}',
    '<function=get_time>{"zone": "UTC"}</function>', '<function=get_time{"zone": "UTC"}</function>',
    '[{"name": "get_time", "parameters": {"zone": "UTC"}}]', ' \n{"name":"get_time","parameters":{"zone":"UTC"}}\n',
])
def test_every_way_a_llama_calls(body: str) -> None:
    assert [(call.name, call.arguments, call.error) for call in llama(body)] == [("get_time", {"zone": "UTC"}, "")]


def test_several_calls_of_a_llama() -> None:
    one = '{"name": "get_time", "parameters": {"zone": "UTC"}}'
    two = '{"name": "set_timer", "parameters": {"minutes": 1}}'
    for body in (f"{one}; {two}", f"{one}<|python_tag|>{two}", f"{one}\n{two}", f"[{one}, {two}]"):
        assert [call.name for call in llama(body)] == ["get_time", "set_timer"], body


@pytest.mark.parametrize(("body", "name", "why"), [
    ('{"name": "get_time", oops', "get_time", "cannot be read"),
    ('{"name": 3}', "", "not a string"),
    ('"get_time"', "", "cannot be read"),
    ("[]x", "", "cannot be read"),
    ("", "", "it is empty"),
    ("[" * 100_000, "", "cannot be read"),
    ('{"name": "fly", "parameters": {}}', "fly", "no tool named 'fly'; the tools are: get_time, set_timer"),
    ('{"name": "get_time", "parameters": [1]}', "get_time", "must be an object"),
    ('{"name": "get_time", "parameters": {"zone": "\\ud800"}}', "get_time", "not text"),
])
def test_a_call_that_cannot_be_run_says_why(body: str, name: str, why: str) -> None:
    (call,) = llama(body)
    assert (call.name, call.arguments) == (name, {})
    assert why in call.error
    assert len(call.error) < 500
    assert call.id


@pytest.mark.parametrize("family", NATIVE)
@pytest.mark.parametrize(
    "body", ['{"name": "roll", oops', '{"name": 3}', '"roll"', "[]x", "", "\ud83d", "{{{{", "x" * 9999]
)
def test_no_parser_raises_and_nothing_is_dropped(folder: Path, family: str, body: str) -> None:
    tokenizer = mind_of(folder, family).tokenizer
    calls = dialect(tokenizer, "auto", ask(tools=TOOLS)).read(body)
    assert calls
    for call in calls:
        assert call.error
        call.error.encode()


@given(st.text(max_size=60))
def test_whatever_a_model_writes_is_a_call_or_an_error(body: str) -> None:
    for call in llama(body):
        assert call.error or call.name in ("get_time", "set_timer")


def test_a_call_cut_off_is_told_and_the_text_before_it_kept(folder: Path) -> None:
    mind = mind_of(folder, "json_tools")
    request = ask(tools=TOOLS, max_tokens=20)
    way = dialect(mind.tokenizer, "auto", request)
    wish = mind.tokenizer.encode('On it. <tool_call>{"name": "get_time", "arguments": {"zone": "UTC"}}</tool_call>')
    answer = told(mind, request, way, [1], wish)
    (call,) = answer.calls
    assert (answer.text, call.name, call.arguments, answer.finish) == ("On it. ", "get_time", {}, "tool_calls")
    assert "it was cut off" in call.error
    ended = told(mind, request, way, [1], [*mind.tokenizer.encode("Five."), mind.tokenizer.eos_token_id])
    assert (ended.text, ended.finish) == ("Five.", "stop")


def test_calls_before_one_that_is_cut_off_are_kept(folder: Path) -> None:
    one = '{"name": "get_time", "KEY": {"zone": "UTC"}}'
    for family, body in (
        ("llama3", f"{one}; {one}; {one[:30]}".replace("KEY", "parameters")),
        ("mistral", f" [{one}, {one}, {one[:30]}".replace("KEY", "arguments")),
        ("mistral_header", '[TOOL_CALLS]'.join(['get_time[ARGS]{"zone": "UTC"}'] * 2 + ['get_time[ARGS]{"zo'])),
    ):
        calls = dialect(mind_of(folder, family).tokenizer, "auto", ask(tools=TOOLS)).read(body, cut=True)
        assert {call.name for call in calls} == {"get_time"}
        assert [call.arguments for call in calls] == [{"zone": "UTC"}, {"zone": "UTC"}, {}]
        assert [bool(call.error) for call in calls] == [False, False, True]
        assert "cut off" in calls[-1].error


def test_a_call_without_its_end_marker_is_still_a_call(folder: Path) -> None:
    mind = mind_of(folder, "json_tools")
    request = ask(tools=TOOLS)
    wish = mind.tokenizer.encode('<tool_call>{"name": "get_time", "arguments": {"zone": "UTC"}}')
    answer = told(mind, request, dialect(mind.tokenizer, "auto", request), [1], [*wish, mind.tokenizer.eos_token_id])
    check(answer.calls[0])


def test_a_brace_that_begins_no_call_is_text(folder: Path) -> None:
    mind = mind_of(folder, "llama3")
    request = ask(tools=TOOLS, max_tokens=200)
    way = dialect(mind.tokenizer, "auto", request)
    for text in ('{"answer": 5}', "{ this is prose }"):
        wish = [*mind.tokenizer.encode(text, add_special_tokens=False), mind.tokenizer.eos_token_id]
        answer = told(mind, request, way, [1], wish)
        assert (answer.text, answer.calls, answer.finish) == (text, [], "stop")


def test_types_are_those_of_the_schema() -> None:
    root = {"$defs": {"Kind": {"enum": ["a", "b"]}}}
    assert types_of({"anyOf": [{"type": "integer"}, {"$ref": "#/$defs/Kind"}]}, root) == {"integer", "string"}
    assert types_of({"type": ["string", "null"]}, root) == {"string", "null"}
    assert types_of({"const": True}, root) == {"boolean"}
    assert "object" in types_of({}, root)
    assert "object" in types_of({"$ref": "#/$defs/Kind/enum/0"}, {"$defs": {"Kind": {"$ref": "#/$defs/Kind"}}})


ALPHABET = st.lists(
    st.sampled_from(
        ["<think>", "</think>", "<call>", "</call>", "<f=", "</f>", "{", "}", '"', "\\", " ", "a", "<", "STOP"]
    ),
    max_size=20,
).map("".join)


@given(ALPHABET, st.lists(st.integers(1, 6), min_size=1, max_size=30), st.booleans(), st.booleans())
def test_the_reader_never_minds_where_it_is_cut(text: str, sizes: list[int], quoted: bool, bare: bool) -> None:
    markers = Markers(
        "<think>", "</think>", "<call>", "</call>", others=(("<f=", "</f>"),), bare="{" if bare else "", quoted=quoted
    )
    whole, pieces = Reader(markers, ("STOP",)), Reader(markers, ("STOP",))
    expected = _merged([*whole.feed(text), *whole.finish()])
    found: list[Piece] = []
    at = 0
    for size in [*sizes, len(text)]:
        found += pieces.feed(text[at : at + size])
        at += size
    assert _merged([*found, *pieces.finish()]) == expected
    assert pieces.stopped == whole.stopped


def _merged(pieces: list[Piece]) -> list[Piece]:
    merged: list[Piece] = []
    for piece in pieces:
        if merged and piece.kind == merged[-1].kind and piece.kind in ("text", "reasoning"):
            merged[-1] = Piece(piece.kind, merged[-1].text + piece.text)
        else:
            merged.append(piece)
    return merged
