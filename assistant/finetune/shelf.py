"""The adapters on this machine: a folder each, with its data set, its record and what the engine wrote."""

from __future__ import annotations

import difflib
import os
import re
import shutil
from pathlib import Path
from typing import get_args

import msgspec

from assistant.errors import ModelError, ModelNotFound
from assistant.paths import Paths

from .records import AdapterInfo, AdapterName

RECORD = "assistant.json"
"""Holds an ``AdapterInfo``."""
WEIGHTS = "adapters.safetensors"
"""Written by the engine when it first saves; mlx-lm's name."""

NAME = re.compile(get_args(AdapterName)[1].pattern)


def home(paths: Paths) -> Path:
    """The folder of all adapters."""
    return paths.models / "adapters"


def adapters(paths: Paths) -> list[AdapterInfo]:
    """Every adapter that ``assistant finetune`` made, by name."""
    root = home(paths)
    found = (read(folder) for folder in sorted(root.iterdir())) if root.is_dir() else ()
    return [info for info in found if info is not None]


def read(folder: Path) -> AdapterInfo | None:
    """The adapter in a folder; None if there is none that was made here."""
    try:
        info = msgspec.json.decode((folder / RECORD).read_bytes(), type=AdapterInfo)
    except (OSError, msgspec.DecodeError):
        return None
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return msgspec.structs.replace(info, folder=str(folder), bytes=size, usable=(folder / WEIGHTS).is_file())


def write(folder: Path, info: AdapterInfo) -> None:
    """Replace the record as a whole."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{RECORD}.partial"
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(info), indent=2))
    partial.replace(folder / RECORD)


def find(paths: Paths, name: str) -> AdapterInfo:
    """The adapter of that name.

    Raises:
        ModelNotFound: there is none; names the nearest.
    """
    if NAME.match(name) and (info := read(home(paths) / name)):
        return info
    known = [info.name for info in adapters(paths)]
    near = difflib.get_close_matches(name, known, 1)
    listed = f"there are: {', '.join(known)}" if known else "`assistant finetune NAME FILE` trains one"
    raise ModelNotFound(f"there is no adapter {name!r}", hint=f"did you mean {near[0]!r}?" if near else listed)


def resolve_adapter(paths: Paths, name_or_folder: str, model: str) -> Path:
    """The folder of the adapter that is meant.

    Args:
        name_or_folder: a name that ``assistant finetune`` gave, or a path (with a ``/``) to a folder that it or
            ``mlx_lm.lora`` wrote.
        model: what answers, as the configuration names it.

    Raises:
        ModelNotFound: there is none.
        ModelError: it was made for another model, or nothing has been saved of it yet.
    """
    if "/" in name_or_folder or name_or_folder.startswith("~"):
        folder = Path(name_or_folder).expanduser().absolute()
        if not (folder / WEIGHTS).is_file():
            raise ModelNotFound(f"{folder} holds no adapter: {WEIGHTS} is missing", hint="`assistant finetune list`")
        info = read(folder)
    else:
        info = find(paths, name_or_folder)
        folder = Path(info.folder)
        if not info.usable:
            raise ModelError(
                f"nothing has been saved of the adapter {info.name!r} yet",
                hint=f"wait for its training, or go on with it: assistant finetune {info.name} --resume",
            )
    if info is not None and info.model != model:
        raise ModelError(
            f"the adapter {info.name!r} was trained on the model {info.model!r} and does not fit {model!r}",
            hint=f"answer with that model (--model {info.model}), or train an adapter for {model}",
        )
    return folder


def remove(paths: Paths, name: str) -> None:
    """Delete an adapter and its data set.

    Raises:
        ModelNotFound: there is none of that name.
    """
    folder = Path(find(paths, name).folder)
    away = folder.with_name(f".removed-{folder.name}-{os.urandom(4).hex()}")
    folder.rename(away)
    shutil.rmtree(away, ignore_errors=True)
