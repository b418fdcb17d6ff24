"""What the lane and the ranks of a cluster say to each other: msgpack, each message after its length in four bytes."""

from __future__ import annotations

from typing import IO, Any

import msgspec

from assistant import ChatRequest, Delta, MemoryUse

MARK = b"\x00assistant rank\x00"
"""A rank's output begins with it; before that may stand what the shell of another machine prints at login."""

MARK_WITHIN = 1 << 16
"""Bytes; where no mark is so far, none will come."""

LENGTH_BYTES = 4


class Setup(msgspec.Struct, frozen=True, tag=True):
    """The first message to a rank: which one it is, and what it will load."""

    rank: int
    size: int
    here: int
    """How many of the ranks run on its machine."""
    backend: str
    folder: str
    """Of the model."""
    settings: dict[str, Any]
    """``[plugins.mlx]``."""
    environment: dict[str, str]
    """Variables to set before MLX is imported."""
    files: dict[str, str]
    """Variables that name a file, and what that file holds."""


class Join(msgspec.Struct, frozen=True, tag=True):
    """Every rank is there: find each other, load the model and answer requests."""

    settings: dict[str, Any]
    """``[plugins.mlx]`` with what fits every rank in place of what each would choose for itself."""


class Begin(msgspec.Struct, frozen=True, tag=True):
    """Answer a request."""

    id: int
    request: ChatRequest


class Cancel(msgspec.Struct, frozen=True, tag=True):
    """Nobody wants the rest of an answer."""

    id: int


class SpeechLive(msgspec.Struct, frozen=True, tag=True):
    """A spoken turn has begun or ended."""

    live: bool


class Stop(msgspec.Struct, frozen=True, tag=True):
    """End in good order."""


Command = Begin | Cancel | SpeechLive | Stop
"""What all ranks get in the same order and take up in the same round."""

ToRank = Setup | Join | Begin | Cancel | SpeechLive | Stop


class Hello(msgspec.Struct, frozen=True, tag=True):
    """A rank has imported MLX, found the model, and has room for its share."""

    versions: str
    model: str
    """The same for the same files."""
    device: str
    context: int
    """Tokens that fit beside its share."""
    prompt_cache: int
    """Bytes that fit for prompts that are kept."""


class Joined(msgspec.Struct, frozen=True, tag=True):
    """A rank has found the others, and begins to load."""


class Ready(msgspec.Struct, frozen=True, tag=True):
    """A rank can answer."""

    context: int
    """Tokens of prompt and answer together."""


class News(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a round brought for one request."""

    id: int
    delta: Delta | None = None
    ended: bool = False
    code: str = ""
    """Of the error that it ended with."""
    message: str = ""
    hint: str = ""


class Round(msgspec.Struct, frozen=True, tag=True):
    """What a round brought; only the first rank tells."""

    news: list[News]


class Usage(msgspec.Struct, frozen=True, tag=True):
    """What the first rank holds in memory."""

    use: MemoryUse


class Fatal(msgspec.Struct, frozen=True, tag=True):
    """A rank cannot go on, and ends."""

    code: str
    message: str
    hint: str
    neighbour: bool = False
    """It is another rank that is gone."""


FromRank = Hello | Joined | Ready | Round | Usage | Fatal

_encoder = msgspec.msgpack.Encoder()
_to_rank = msgspec.msgpack.Decoder(ToRank)
_from_rank = msgspec.msgpack.Decoder(FromRank)


def frame(message: ToRank | FromRank) -> bytes:
    """A message as it is written."""
    body = _encoder.encode(message)
    return len(body).to_bytes(LENGTH_BYTES) + body


def read_command(file: IO[bytes]) -> ToRank | None:
    """The next message to a rank; None at the end of the stream."""
    body = _body(file)
    return None if body is None else _to_rank.decode(body)


def read_report(file: IO[bytes]) -> FromRank | None:
    """The next message from a rank; None at the end of the stream.

    Raises:
        msgspec.DecodeError: it is none.
    """
    body = _body(file)
    return None if body is None else _from_rank.decode(body)


def find_mark(file: IO[bytes]) -> bool:
    """Read up to the end of the mark; whether there is one."""
    seen = b""
    while len(seen) < MARK_WITHIN and (byte := file.read(1)):
        seen += byte
        if seen.endswith(MARK):
            return True
    return False


def _body(file: IO[bytes]) -> bytes | None:
    header = file.read(LENGTH_BYTES)
    if len(header) < LENGTH_BYTES:
        return None
    length = int.from_bytes(header)
    body = file.read(length)
    return body if len(body) == length else None
