"""The prompt: what stands on the command line, then what standard input brings."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Sequence
from typing import BinaryIO

from assistant.errors import PromptError

from . import render

LIMIT = 1 << 20
"""1 MiB of UTF-8: the most that the daemon takes as one prompt."""
COUNTED = 16 << 20
"""How far an oversized input is read so that its size can be told."""


def read_prompt(words: Sequence[str]) -> str:
    """The words joined by spaces; piped standard input follows after a blank line.

    Raises:
        PromptError: nothing was said, it is not UTF-8, or it is larger than 1 MiB.
    """
    typed = _from_arguments(words)
    piped = "" if render.is_terminal(sys.stdin) else read_stdin()
    text = "\n\n".join(part for part in (typed.strip(), piped.strip()) if part)
    if not text:
        raise PromptError("the prompt is empty", hint='assistant ask "What is the capital of France?"')
    return checked(text)


def checked(text: str) -> str:
    """The text, if it is not too large."""
    if (size := len(text.encode())) > LIMIT:
        raise _too_large(size)
    return text


def read_stdin() -> str:
    """All of standard input as text; empty if there is none.

    Raises:
        PromptError: it is not UTF-8 or larger than 1 MiB.
    """
    data = read_bytes(LIMIT)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PromptError(
            f"standard input is not UTF-8 text (byte {error.start})", hint="iconv -t UTF-8; audio goes with --audio -"
        ) from None


def read_bytes(limit: int) -> bytes:
    """All of standard input as bytes.

    Raises:
        PromptError: it is larger than ``limit``.
    """
    if sys.stdin is None or sys.stdin.closed:
        return b""
    source = sys.stdin.buffer
    data = source.read(limit + 1)
    if len(data) > limit:
        raise _too_large(len(data) + _rest(source))
    return data


def _rest(source: BinaryIO) -> int:
    """How many bytes are left, as far as they can be counted in good time."""
    try:
        about = os.fstat(source.fileno())
    except (OSError, ValueError):
        about = None
    if about is not None and stat.S_ISREG(about.st_mode):
        return max(0, about.st_size - source.tell())
    count = 0
    while count < COUNTED and (block := source.read(1 << 20)):
        count += len(block)
    return count


def _from_arguments(words: Sequence[str]) -> str:
    text = " ".join(words)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PromptError(
            "the prompt is not UTF-8 text", hint="set a UTF-8 locale, or pipe it through iconv -t UTF-8"
        ) from None
    return text


def _too_large(size: int) -> PromptError:
    more = "more than " if size > COUNTED else ""
    return PromptError(
        f"the prompt has {more}{size:,} bytes; at most {LIMIT:,} (1 MiB) are taken", hint="send a part of it"
    )
