"""The manifest of a fetched model folder: what it is, and which files must be there."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

MANIFEST = "assistant.json"
"""The file in a finished model folder that says what it is and what must be there."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a fetched model folder consists of."""

    name: str
    """How the model is named in the configuration."""
    format: int
    """The version of whoever made the folder; another version makes it again."""
    source: str
    """The exact version it was made from, with its checksum or commit."""
    files: dict[str, int]
    """Bytes of every file, by its path within the folder."""


def write_manifest(folder: Path, *, name: str, format_: int, source: str) -> None:
    """List what is in ``folder`` and put everything safely on the disk."""
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    for path in files.values():
        _sync(path)
    sizes = {relative: path.stat().st_size for relative, path in files.items()}
    manifest = folder / MANIFEST
    manifest.write_bytes(msgspec.json.encode(Manifest(name=name, format=format_, source=source, files=sizes)))
    _sync(manifest)
    _sync(folder)


def read_manifest(folder: Path) -> Manifest | None:
    """What ``folder`` says it is; None if it says nothing legible."""
    try:
        return msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.DecodeError):
        return None


def damage(folder: Path, manifest: Manifest) -> str:
    """What is wrong with the files of a model, for example a missing one; empty if nothing is."""
    for relative, size in manifest.files.items():
        try:
            found = (folder / relative).stat().st_size
        except OSError:
            return f"{relative} is missing"
        if found != size:
            return f"{relative} has {found} bytes instead of {size}"
    return ""


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
