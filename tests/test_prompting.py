"""What the model reads: each prompt begins with the one before."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest
import turnkit
from turnkit import call, calling, daemon, endless, text

from assistant import events
from assistant.engines import ChatRequest, Message
from assistant.store import Store
from assistant.turn.prompting import INTERRUPTED_NOTE, REPEATED, REPEATED_NOTE, History, as_prompt
from assistant.wire import StoredMessage, StoredToolCall

pytestmark = pytest.mark.anyio


def rows(count: int) -> list[StoredMessage]:
    """A conversation of so many messages, the last of them an open question if the count is odd."""
    found = []
    for number in range(count):
        role = "assistant" if number % 2 else "user"
        state = "running" if number == count - 1 and role == "user" else "complete"
        found.append(
            StoredMessage(id=number + 1, turn_id=f"t{number // 2}", role=role, text=f"m{number}", at=0.0, state=state)  # type: ignore[arg-type]
        )
    return found


def breaks(requests: Sequence[ChatRequest]) -> list[int]:
    """Where a prompt does not begin with the one before."""
    found = []
    for number, (before, after) in enumerate(itertools.pairwise(requests), start=1):
        assert after.tools == before.tools
        if after.messages[: len(before.messages)] != before.messages:
            found.append(number)
    return found


def is_delta(event: events.Event) -> bool:
    """Whether it is a piece of the answer."""
    return isinstance(event, events.TextDelta)


async def test_every_prompt_begins_with_the_prompt_before_whatever_happens(tmp_path: Path) -> None:
    async with daemon(tmp_path) as world:
        script, session = turnkit.script, await world.session()
        await world.ask("hello", session)
        first, second = call("add", a=1, b=2), call("add", a=3, b=4)
        script.replies = [calling("Let me see.", first), calling("", second), text("Ten")]
        assert (await world.ask("add them up", session)).text == "Let me see.\nTen"
        script.replies = [calling("A\n", call("meet", name="first"), call("meet", name="second")), text("\nB ", "C")]
        await world.ask("meet", session)
        assert (await world.ask("two and two", session)).timings.keys() >= {"intent"}
        script.replies = [calling("Hm. ", call("add", error="its arguments are no JSON: {a: 1")), text("I cannot.")]
        await world.ask("write nonsense", session)
        script.replies = [endless("half an answ")]
        assert (await world.cancelled("go on", session, is_delta)).text == "half an answ"
        script.replies = [endless()]
        await world.cancelled("say nothing", session, lambda event: isinstance(event, events.FinalTranscript))
        script.replies = [calling("One.", call("add", a=1, b=1), call("never"))]
        await world.cancelled(
            "and hang", session, lambda event: isinstance(event, events.ToolCallFinished) and event.tool == "add"
        )
        script.replies = [calling("", call("nothing_of_that_name")), text("")]
        await world.ask("call something else", session)
        script.replies.clear()
        await world.ask("and now?", session)
        assert len(script.requests) >= 13
        assert breaks(script.requests) == []
        last = script.requests[-1].messages
    assert [message.role for message in last].count("system") == 1
    assert last[0].content == "You are a helpful assistant.\nThe user is called Ada."
    told = [(message.role, message.content) for message in last]
    assert ("assistant", f"half an answ {INTERRUPTED_NOTE}") in told
    assert told[told.index(("user", "two and two")) + 2 :][:2] == [
        ("tool", "2 plus 2 is 4."), ("assistant", "2 plus 2 is 4."),
    ]  # fmt: skip
    (wrong,) = [message for message in last if message.role == "tool" and "no JSON" in message.content]
    assert wrong.content.startswith("The call did not run: ")
    results = [message.content for message in last if message.role == "tool" and "was here" in message.content]
    assert results == ["first was here", "second was here"], "in the order of the calls, not of their ends"
    assert [message.content for message in last][-2:] == ["", "and now?"]


async def test_a_restart_changes_nothing_in_the_prompt(tmp_path: Path) -> None:
    async with daemon(tmp_path) as world:
        session = await world.session()
        turnkit.script.replies = [calling("Wait.", call("add", a=1, b=2)), text("Three")]
        await world.ask("add", session)
        before = turnkit.script.requests
    (tmp_path / "site").rename(tmp_path / "old site")
    async with daemon(tmp_path) as world:
        await world.ask("again", session)
        assert breaks([*before, *turnkit.script.requests]) == []


async def test_failed_turns_leave_no_trace(tmp_path: Path) -> None:
    async with daemon(tmp_path) as world:
        script, session = turnkit.script, await world.session()
        await world.ask("hello", session)
        script.context = 40
        assert (await world.ask("word " * 100, session)).reason == "failed"
        script.context = 0
        await world.ask("still there?", session)
        assert breaks(script.requests) == []
        assert "word word" not in str(script.requests[-1])


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 7, 8, 20])
def test_the_window_moves_by_half_and_never_holds_more_than_its_limit(tmp_path: Path, limit: int) -> None:
    store = Store(tmp_path / "a.db")
    store.load()
    session = store.create_session("cli", "").id
    firsts: list[int] = []
    for number in range(40):
        store.begin_turn(session, f"t{number}", "text")
        before = store.window(session, limit, f"t{number}")
        asked = store.add_user_message(session, f"t{number}", f"q{number}")
        found = store.window(session, limit, f"t{number}")
        assert found == before, "whether the question is stored makes no difference"
        assert len(found) <= limit
        assert len(found) >= min(limit // 2, 2 * number)
        firsts.append(found[0].id if found else asked)
        store.finish_turn(f"t{number}", "complete", f"a{number}", None, {}, 0, 0)
    store.close()
    assert firsts == sorted(firsts)
    assert len(set(firsts)) <= 2 + 80 // max(1, (limit + 1) // 2)


async def test_a_long_conversation_keeps_its_beginning_for_many_turns(tmp_path: Path) -> None:
    async with daemon(tmp_path, history_messages=20) as world:
        session = await world.session()
        for number in range(35):
            await world.ask(f"question {number}", session)
        requests = turnkit.script.requests
        assert len(requests) == 35
        assert breaks(requests) == [11, 16, 21, 26, 31]
        assert max(len(request.messages) for request in requests) == 22


async def test_a_prompt_that_overflows_loses_its_oldest_messages_many_at_once(tmp_path: Path) -> None:
    async with daemon(tmp_path) as world:
        script, session = turnkit.script, await world.session()
        script.context = 150
        for number in range(60):
            await world.ask(f"this is the question {number}", session)
        assert len(script.requests) == 60
        assert len(breaks(script.requests)) <= 8
        assert script.overflows == len(breaks(script.requests)), "nothing is tried twice"
        for number, request in enumerate(script.requests):
            assert request.messages[0].role == "system"
            assert request.messages[1].role == "user"
            assert request.messages[-1].content == f"this is the question {number}"
            assert len(request.messages) >= min(12, 2 + 2 * number), "no more goes than must"


async def test_a_question_that_is_too_long_alone_fails_and_the_next_one_is_answered(tmp_path: Path) -> None:
    async with daemon(tmp_path) as world:
        session = await world.session()
        turnkit.script.context = 60
        await world.ask("hello", session)
        failed = await world.ask("word " * 100, session)
        assert (failed.reason, failed.error and failed.error.code) == ("failed", "context_overflow")
        assert (await world.ask("and now?", session)).reason == "complete"


@pytest.mark.parametrize("count", [1, 2, 3, 4, 9, 31, 101])
def test_shortening_leaves_at_least_half_and_ends_with_the_question(count: int) -> None:
    history = History(rows(count))
    assert (history.first, len(history.messages())) == (1, count)
    kept = count
    while history.shorten():
        left = count - history.first + 1
        assert left - 1 >= (kept - 1) // 2
        assert left < kept
        kept = left
    assert [message.content for message in history.messages()] == ([f"m{count - 1}"] if count % 2 else [])


def test_a_remembered_beginning_is_taken_up_again() -> None:
    history = History(rows(21))
    history.shorten()
    assert History(rows(23), history.first).messages()[:-2] == history.messages()
    assert [message.content for message in History(rows(3), 99).messages()] == ["m2"]


def test_text_before_and_between_calls_stays_where_it_was() -> None:
    def stored(place: int, number: int, before: int, name: str) -> StoredToolCall:
        return StoredToolCall(
            id=name, tool=name, arguments={}, result=f"r{name}", ok=True, seconds=0.0, round=number, place=place,
            text_before=before,
        )  # fmt: skip

    asked, told = rows(2)
    calls = (stored(0, 0, 1, "a"), stored(1, 0, 1, "b"), stored(0, 1, 3, "c"), stored(0, 2, 3, "d"))
    told = StoredMessage(id=2, turn_id="t0", role="assistant", text="X\nY\n\nZ", at=0.0, tool_calls=calls)
    found = as_prompt([asked, told])
    assert [(message.role, message.content) for message in found] == [
        ("user", "m0"), ("assistant", "X"), ("tool", "ra"), ("tool", "rb"), ("assistant", "Y"), ("tool", "rc"),
        ("assistant", ""), ("tool", "rd"), ("assistant", "\nZ"),
    ]  # fmt: skip
    assert [[one.id for one in message.tool_calls] for message in found if message.role == "assistant"] == [
        ["a", "b"], ["c"], ["d"], [],
    ]  # fmt: skip


def test_a_long_result_of_an_intent_is_not_read_twice() -> None:
    long = "x" * (REPEATED + 1)
    shown = StoredToolCall(id="i", tool="help", arguments={}, result=long, ok=True, seconds=0.0, origin="intent")
    asked, _ = rows(2)
    told = StoredMessage(id=2, turn_id="t0", role="assistant", text=long, at=0.0, tool_calls=(shown,))
    assert [message.content for message in as_prompt([asked, told])] == ["m0", "", REPEATED_NOTE, long]


def test_a_history_that_begins_in_the_middle_of_a_turn_begins_with_the_next_question() -> None:
    assert [message.content for message in as_prompt(rows(5)[1:])] == ["m2", "m3", "m4"]
    assert as_prompt([]) == History([]).messages() == []
    assert Message(role="user", content="m4") == as_prompt(rows(5))[-1]
