"""A conversation as Markdown and as JSON."""

from __future__ import annotations

from datetime import UTC, timedelta, timezone

import msgspec

from assistant.events import ErrorInfo
from assistant.export import to_json, to_markdown
from assistant.wire import Conversation, SessionInfo, StoredMessage, StoredToolCall

NOON = 1_767_268_800.0
"""2026-01-01 12:00:00 UTC."""


def conversation(*messages: StoredMessage, title: str = "Eggs") -> Conversation:
    session = SessionInfo(
        id="k3vq8m2x", title=title, channel="cli", created_at=NOON, updated_at=NOON, messages=len(messages)
    )
    return Conversation(session=session, messages=messages)


def user(text: str, turn: str = "t1", **fields: object) -> StoredMessage:
    return msgspec.structs.replace(StoredMessage(id=1, turn_id=turn, role="user", text=text, at=NOON), **fields)


def answer(text: str, turn: str = "t1", **fields: object) -> StoredMessage:
    return msgspec.structs.replace(StoredMessage(id=2, turn_id=turn, role="assistant", text=text, at=NOON), **fields)


def timer(**fields: object) -> StoredToolCall:
    call = StoredToolCall(
        id="c1", tool="set_timer", arguments={"minutes": 10, "name": "eggs"}, result="Set.", ok=True, seconds=0.1
    )
    return msgspec.structs.replace(call, **fields)


def test_markdown_is_a_heading_and_the_words_of_every_message() -> None:
    text = to_markdown(
        conversation(user("Set a timer", source="voice"), answer("Set.\n\n- one", tool_calls=(timer(),))), UTC
    )
    assert text == (
        "# Eggs\n\n"
        "Conversation `k3vq8m2x` on cli, begun 2026-01-01 12:00:00 UTC.\n\n"
        "## You (2026-01-01 12:00:00 UTC, spoken)\n\n"
        "Set a timer\n\n"
        "## Assistant (2026-01-01 12:00:00 UTC)\n\n"
        '- `set_timer(minutes=10, name="eggs")` → Set.\n\n'
        "Set.\n\n- one\n"
    )


def test_markdown_times_are_in_the_zone_that_was_asked_for() -> None:
    text = to_markdown(conversation(user("hi")), timezone(timedelta(hours=2), "EET"))
    assert "2026-01-01 14:00:00 EET" in text


def test_markdown_says_once_how_a_turn_ended_that_did_not_complete() -> None:
    error = ErrorInfo(code="engine_crashed", message="the lane\ndied")
    text = to_markdown(
        conversation(
            user("one", "t1", state="failed"),
            answer("hal", "t1", state="failed", error=error),
            user("two", "t2", state="interrupted", id=3),
        ),
        UTC,
    )
    assert text.count("**failed**: the lane died") == text.count("**failed**") == 1
    assert text.index("hal") < text.index("**failed**") < text.index("two") < text.index("> **interrupted**\n")


def test_markdown_of_a_failed_tool_call_and_of_backticks_in_its_arguments() -> None:
    call = timer(arguments={"command": "echo `date`"}, ok=False, result="no\nshell")
    text = to_markdown(conversation(user("run it", tool_calls=(call,), state="failed")), UTC)
    assert '- ``set_timer(command="echo `date`")`` → failed: no shell' in text


def test_markdown_leaves_out_what_would_steer_a_terminal() -> None:
    text = to_markdown(conversation(user("a\x1b[2Jb\x07\tc\r\nd\x9b1m")), UTC)
    assert "a[2Jb\tc\nd1m" in text
    assert not {"\x1b", "\x07", "\x9b", "\r"} & set(text)


def test_markdown_of_an_untitled_conversation_without_messages() -> None:
    assert to_markdown(conversation(title=""), UTC).startswith("# Untitled conversation\n\nConversation `k3vq8m2x`")


def test_json_decodes_to_the_same_conversation() -> None:
    error = ErrorInfo(code="tool", message="denied", hint="ask")
    whole = conversation(user("ünïcode 👍"), answer("x", tool_calls=(timer(),), error=error, state="failed"))
    text = to_json(whole)
    assert msgspec.json.decode(text, type=Conversation) == whole
    assert text.startswith('{\n  "session": {')
    assert text.endswith("}\n")
    assert "ünïcode 👍" in text
