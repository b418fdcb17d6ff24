"""A conversation as text to keep: Markdown to read, JSON to process."""

from __future__ import annotations

import json
import re
from datetime import datetime, tzinfo

import msgspec

from .wire import Conversation, StoredMessage, StoredToolCall

_NAMES = {"user": "You", "assistant": "Assistant"}
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def to_json(conversation: Conversation) -> str:
    """The conversation as the HTTP route gives it, indented; ``msgspec.json`` decodes it to a ``Conversation``."""
    return msgspec.json.format(msgspec.json.encode(conversation), indent=2).decode() + "\n"


def to_markdown(conversation: Conversation, zone: tzinfo | None = None) -> str:
    """The conversation as a document: a heading for every message, its text as it was said.

    Control characters other than line ends and tabs are left out, so that the text is safe on a terminal.

    Args:
        zone: of the times; None is the zone of this machine.
    """
    session = conversation.session
    blocks = [
        f"# {session.title or 'Untitled conversation'}",
        f"Conversation `{session.id}` on {session.channel}, begun {_time(session.created_at, zone)}.",
    ]
    last = {message.turn_id: message.id for message in conversation.messages}
    for message in conversation.messages:
        blocks += _message(message, zone)
        if last[message.turn_id] == message.id and message.state != "complete":
            reason = f": {_inline(message.error.message)}" if message.error else ""
            blocks.append(f"> **{message.state}**{reason}")
    return _CONTROLS.sub("", "\n\n".join(blocks).replace("\r\n", "\n")) + "\n"


def _message(message: StoredMessage, zone: tzinfo | None) -> list[str]:
    spoken = ", spoken" if message.source == "voice" and message.role == "user" else ""
    blocks = [f"## {_NAMES[message.role]} ({_time(message.at, zone)}{spoken})"]
    calls = "\n".join(_tool_call(call) for call in message.tool_calls)
    text = message.text.strip("\n")
    parts = [calls, text] if message.role == "assistant" else [text, calls]
    return blocks + [part for part in parts if part]


def _tool_call(call: StoredToolCall) -> str:
    arguments = ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in call.arguments.items())
    outcome = "" if call.ok else "failed: "
    return f"- {_code(f'{call.tool}({arguments})')} → {outcome}{_inline(call.result)}"


def _code(text: str) -> str:
    """A code span; its fence is longer than any run of backticks inside (CommonMark 6.1)."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    space = " " if "`" in (text[:1], text[-1:]) else ""
    return f"{fence}{space}{text}{space}{fence}"


def _inline(text: str) -> str:
    return " ".join(text.split())


def _time(at: float, zone: tzinfo | None) -> str:
    return datetime.fromtimestamp(at, zone).astimezone(zone).strftime("%Y-%m-%d %H:%M:%S %Z")
