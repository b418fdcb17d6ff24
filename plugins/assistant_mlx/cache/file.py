"""One kept prompt in one safetensors file.

A file is complete when it has its name, which carries the checksums of its header and of its data:
``<32 hex digits>-<crc32>-<crc32>.safetensors``. So nothing is read, and MLX parses nothing, but what was written.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import uuid
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from .state import settle, size

WRITING = ".writing.safetensors"
"""How the name of a file ends that is not complete."""

BLOCK = 1 << 20
"""Bytes that are read at once for a checksum."""

LAYER_HEADER = 1024
"""Bytes that a layer may take in the header: at most nine tensors (a quantized cache) of a hundred bytes."""

_NAME = re.compile(r"[0-9a-f]{32}-([0-9a-f]{8})-([0-9a-f]{8})\.safetensors")

_NOTE = "assistant"

BROKEN = (OSError, RuntimeError, ValueError, KeyError, TypeError, IndexError, AttributeError, msgspec.MsgspecError)
"""What mlx-lm and MLX raise for files that they cannot read."""


class Note(msgspec.Struct, frozen=True):
    """What the metadata of a file says of it."""

    fingerprint: str
    key: str
    tokens: str
    """Base64 of little-endian 32-bit integers."""
    snapshot: bool
    trimmable: bool


def expected_size(caches: list[Any], tokens: Any) -> int:
    """Bytes that the file will have at most."""
    return size(caches) + LAYER_HEADER * len(caches) + 2 * int(tokens.nbytes)


def written(folder: Path, caches: list[Any], note: Note) -> Path:
    """Write a file, bring it to the disk, check that it is whole, and give it its name.

    Raises:
        OSError, RuntimeError, ValueError: it cannot be written; nothing is left of it.
    """
    stem = uuid.uuid4().hex
    draft = folder / f"{stem}{WRITING}"
    try:
        header, data = _write(draft, caches, note)
        path = folder / f"{stem}-{header:08x}-{data:08x}.safetensors"
        draft.rename(path)
    finally:
        draft.unlink(missing_ok=True)
    _sync_folder(folder)
    return path


def _write(draft: Path, caches: list[Any], note: Note) -> tuple[int, int]:
    from mlx_lm.models.cache import save_prompt_cache

    draft.touch(mode=0o600)
    save_prompt_cache(str(draft), caches, {_NOTE: msgspec.json.encode(note).decode()})
    with draft.open("rb+") as file:
        header = zlib.crc32(_header(file))
        data = _checksum(file)
        os.fsync(file.fileno())
    return header, data


def loaded(path: Path) -> list[Any]:
    """The caches of a file.

    Raises:
        FileNotFoundError: it has vanished.
        BROKEN: it is damaged.
    """
    from mlx_lm.models.cache import load_prompt_cache

    _check(path)
    caches: list[Any] = load_prompt_cache(str(path))
    settle(caches)
    return caches


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # Some file systems have no fsync of folders.
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _header(file: BinaryIO) -> bytes:
    """The JSON header of a safetensors file, which is then at the beginning of its data.

    Raises:
        ValueError: the file is not as long as the header says.
    """
    total = os.fstat(file.fileno()).st_size
    count = int.from_bytes(file.read(8), "little")
    if not 2 <= count <= total - 8:
        raise ValueError("it is cut off in its header")
    header = file.read(count)
    tensors = msgspec.json.decode(header, type=dict[str, dict[str, Any]])
    ends = (tensor["data_offsets"][1] for name, tensor in tensors.items() if name != "__metadata__")
    if total != 8 + count + max(ends, default=0):
        raise ValueError("it is cut off, or too long")
    return header


def read_note(path: Path) -> Note:
    """What a file says of itself.

    Raises:
        OSError, ValueError, KeyError, msgspec.MsgspecError: it is damaged, or not one of ours.
    """
    if not (name := _NAME.fullmatch(path.name)):
        raise ValueError("it is not a kept prompt")
    with path.open("rb") as file:
        count = int.from_bytes(file.read(8), "little")
        if count > os.fstat(file.fileno()).st_size - 8:
            raise ValueError("it is cut off in its header")
        if zlib.crc32(file.read(count)) != int(name[1], 16):
            raise ValueError("the checksum of its header is wrong")
        file.seek(0)
        metadata = msgspec.json.decode(_header(file))["__metadata__"]
    return msgspec.json.decode(metadata[f"0.{_NOTE}"], type=Note)


def _check(path: Path) -> None:
    """Compare the checksums in the name.

    Raises:
        OSError, ValueError: the file is damaged.
    """
    read_note(path)
    name = _NAME.fullmatch(path.name)
    assert name is not None
    with path.open("rb") as file:
        file.seek(int.from_bytes(file.read(8), "little"), os.SEEK_CUR)
        if _checksum(file) != int(name[2], 16):
            raise ValueError("the checksum of its data is wrong")


def _checksum(file: BinaryIO) -> int:
    total = 0
    while block := file.read(BLOCK):
        total = zlib.crc32(block, total)
    return total


def encoded(tokens: Any) -> str:
    """An array of int32 as ``Note.tokens``."""
    return base64.b64encode(tokens.astype("<i4").tobytes()).decode()


def decoded(text: str) -> Any:
    """The array of int32 in ``Note.tokens``."""
    import numpy as np

    return np.frombuffer(base64.b64decode(text, validate=True), dtype="<i4").astype(np.int32)
