"""What a lane and its host say to each other, and how it looks on a socket.

A frame is four bytes of length, big-endian, and a msgpack array. ``body`` fields hold what only the two ends
understand: pickled bytes between processes, the object itself between threads.
"""

from __future__ import annotations

from typing import Any

import msgspec

FRAME_LIMIT = 1 << 30
"""Bytes; a longer frame is garbage."""


class Message(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """What all messages share: nothing but being one."""


class Start(Message, frozen=True):
    """The first message to a child: how to find modules and how often to report."""

    path: list[str]
    """The host's ``sys.path``."""
    heartbeat_seconds: float


class Load(Message, frozen=True):
    """Load an engine; answered by ``Done`` or ``Failed``."""

    job: int
    priority: int
    key: str
    body: Any
    """``(engine, model)``"""


class Unload(Message, frozen=True):
    """Close an engine, before any other step; answered by ``Done``."""

    job: int
    key: str


class Call(Message, frozen=True):
    """Call a method once; answered by ``Done`` or ``Failed``."""

    job: int
    priority: int
    target: str | int
    """The key of an engine, or the number of the job that opened an object."""
    keep: bool
    """The result stays in the lane under this job's number."""
    body: Any
    """``(method, args)``"""


class Stream(Message, frozen=True):
    """Step an iterator; answered by any number of ``Item`` and one ``Finished`` or ``Failed``."""

    job: int
    priority: int
    target: str | int
    credit: int
    """Items that may be sent before the host asks for more."""
    body: Any
    """``(method, args)``"""


class More(Message, frozen=True):
    """So many more items may be sent."""

    job: int
    credit: int


class Cancel(Message, frozen=True):
    """Drop a job, answered by ``Finished`` if there was one; or forget the object that it opened."""

    job: int


class Close(Message, frozen=True):
    """Drop all jobs, close all engines and end."""


class Ready(Message, frozen=True):
    """The lane takes jobs."""

    pid: int


class Beat(Message, frozen=True):
    """The lane lives."""

    rss: int
    """Resident bytes."""
    busy_seconds: float
    """Age of the current step; 0 between steps."""
    busy: str
    """The engine whose step it is."""
    loading: bool
    """The step is a load."""
    loaded: tuple[str, ...]
    """Keys of the engines that are loaded."""


class Done(Message, frozen=True):
    """A call, load or unload came to its end."""

    job: int
    body: Any


class Item(Message, frozen=True):
    """One item of a stream."""

    job: int
    body: Any


class Finished(Message, frozen=True):
    """A stream came to its end, or a job was dropped; its iterator is closed."""

    job: int


class Failed(Message, frozen=True):
    """A job raised; its iterator is closed."""

    job: int
    code: str
    message: str
    hint: str
    body: Any
    """The exception itself, for hosts that can read it."""


ToLane = Start | Load | Unload | Call | Stream | More | Cancel | Close
"""What the host says."""

FromLane = Ready | Beat | Done | Item | Finished | Failed
"""What the lane says."""

_encoder = msgspec.msgpack.Encoder()
_to_lane: msgspec.msgpack.Decoder[ToLane] = msgspec.msgpack.Decoder(ToLane)
_from_lane: msgspec.msgpack.Decoder[FromLane] = msgspec.msgpack.Decoder(FromLane)


class GarbageError(ValueError):
    """What came through the socket is no message."""


def frame(message: ToLane | FromLane) -> bytes:
    """One message as it goes onto the socket."""
    payload = _encoder.encode(message)
    return len(payload).to_bytes(4, "big") + payload


def frame_length(header: bytes | memoryview) -> int:
    """How many bytes follow the four of ``header``.

    Raises:
        GarbageError: more than any message has.
    """
    length = int.from_bytes(header, "big")
    if length > FRAME_LIMIT:
        raise GarbageError(f"a frame of {length} bytes")
    return length


def to_lane(payload: bytes) -> ToLane:
    """The message in a frame that the host sent."""
    return _to_lane.decode(payload)


class Inbox:
    """Puts frames from a lane together again, however the socket cut them."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[FromLane]:
        """The messages that are complete with ``data``.

        Raises:
            GarbageError: this is no message of a lane.
        """
        self._buffer += data
        messages: list[FromLane] = []
        start = 0
        with memoryview(self._buffer) as view:
            while start + 4 <= len(view):
                end = start + 4 + frame_length(view[start : start + 4])
                if end > len(view):
                    break
                try:
                    messages.append(_from_lane.decode(view[start + 4 : end]))
                except msgspec.MsgspecError as error:
                    raise GarbageError(str(error)) from None
                start = end
        del self._buffer[:start]
        return messages
