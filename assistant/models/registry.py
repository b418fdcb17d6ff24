"""The models on this machine: finding one by its name, fetching it when it is absent, listing, removing.

A fetched model is one folder below the models folder. It is made in a ``.partial-…`` folder and renamed when it is
complete, under a file lock, so that two daemons share one fetch and a kill leaves nothing half-made: what a dead
process left is swept at the next start.
"""

from __future__ import annotations

import difflib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from assistant.errors import ModelDownloadFailed, ModelError, ModelNotFound
from assistant.events import Event, ModelProgressed
from assistant.wire import ModelInfo

from . import fetch, hub
from .downloading import NO_SPACE, bytes_in, disk_full
from .manifest import damage, read_manifest
from .wheel_models import WHEEL_MODELS

LOCK_POLL_SECONDS = 0.2
"""How often a fetch by somebody else is looked at."""

PARTIAL = ".partial-"
REMOVED = ".removed-"
LOCK = ".lock-"


class Models:
    """The models folder."""

    def __init__(self, folder: Path, publish: Callable[[Event], None]) -> None:
        self._folder = folder
        self._publish = publish
        self._sweep()

    async def resolve(self, name: str, *, force: bool = False) -> Path:
        """The folder of a model: ``starter`` or another of ``WHEEL_MODELS``, ``hf:org/name``, or a folder's path.

        It is fetched first if it is absent.

        Several callers, also in other processes, share one fetch. A cancelled call kills its fetch.

        Args:
            force: also fetch what this machine has not the memory for.

        Raises:
            ModelNotFound: nothing goes by that name.
            ModelTooLarge: it is not here, and its weights do not fit this machine.
            ModelDownloadFailed: it could not be fetched.
        """
        import anyio

        if not is_fetched(name):
            return _own_folder(name)
        target = self._target(name)
        try:
            while not self._whole(name, target):
                with self._locked(target.name) as locked:
                    if not locked:
                        await anyio.sleep(LOCK_POLL_SECONDS)
                    elif not self._whole(name, target):
                        await self._fetch(name, target, force=force)
        except OSError as error:
            if error.errno in NO_SPACE:
                raise disk_full(target) from error
            raise ModelDownloadFailed(
                f"the models folder {self._folder} cannot be written: {error.strerror or error}",
                hint="check who owns it, or move the assistant with ASSISTANT_HOME",
            ) from error
        return target

    def known(self) -> list[ModelInfo]:
        """The models from wheels, the starter first, and everything else that has been fetched, by name."""
        names = set(WHEEL_MODELS)
        for entry in self._entries():
            if not entry.name.startswith(".") and (manifest := read_manifest(entry)):
                names.add(manifest.name)
        first = list(WHEEL_MODELS)
        others = sorted(names.difference(first))
        return [self.info(name) for name in [*first, *others]]

    def info(self, name: str) -> ModelInfo:
        """What is known of a model, without fetching it.

        Raises:
            ModelNotFound: nothing goes by that name.
        """
        if not is_fetched(name):
            folder = _own_folder(name)
            return ModelInfo(
                name=name, present=True, folder=str(folder), bytes=bytes_in(folder), note="a folder of yours"
            )
        target = self._target(name)
        present = self._whole(name, target)
        wheel = WHEEL_MODELS.get(name)
        size = bytes_in(target) if present else wheel.wheel_bytes if wheel else 0
        manifest = read_manifest(target) if present else None
        return ModelInfo(
            name=name,
            present=present,
            folder=str(target) if present else "",
            bytes=size,
            licence=wheel.licence if wheel else "",
            note=wheel.note if wheel else manifest.source if manifest else "",
        )

    async def remove(self, name: str) -> None:
        """Delete a fetched model from the disk.

        Raises:
            ModelNotFound: it is not on the disk.
            ModelError: it is a folder of the user's, or it is being fetched right now.
        """
        import anyio

        if not is_fetched(name):
            raise ModelError(
                f"{_own_folder(name)} was not fetched by the assistant, so the assistant does not delete it",
                hint="delete the folder yourself",
            )
        target = self._target(name)
        if not target.is_dir():
            raise ModelNotFound(f"the model {name} is not on the disk", hint="`assistant models` lists those that are")
        with self._locked(target.name) as locked:
            if not locked:
                raise ModelError(f"the model {name} is being fetched", hint="try again when that is over")
            await anyio.to_thread.run_sync(_discard, target)

    async def _fetch(self, name: str, target: Path, *, force: bool) -> None:
        import anyio

        partial = Path(tempfile.mkdtemp(prefix=f"{PARTIAL}{target.name}-", dir=self._folder))
        try:
            async with aclosing(fetch.run(name, partial, force=force)) as progress:
                async for at in progress:
                    self._publish(ModelProgressed(model=name, phase=at.phase, done=at.done, total=at.total))
            if target.exists():
                await anyio.to_thread.run_sync(_discard, target)
            (partial / "model").rename(target)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(lambda: shutil.rmtree(partial, ignore_errors=True))
        size = bytes_in(target)
        self._publish(ModelProgressed(model=name, phase="ready", done=size, total=size))

    def _target(self, name: str) -> Path:
        return self._folder / name.replace(":", "--").replace("/", "--")

    def _whole(self, name: str, target: Path) -> bool:
        manifest = read_manifest(target)
        wanted = WHEEL_MODELS[name].format if name in WHEEL_MODELS else hub.FORMAT
        return (
            manifest is not None and (manifest.name, manifest.format) == (name, wanted) and not damage(target, manifest)
        )

    @contextmanager
    def _locked(self, slug: str) -> Iterator[bool]:
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / f"{LOCK}{slug}").open("wb") as file:
            yield _try_lock(file)

    def _entries(self) -> list[Path]:
        return sorted(self._folder.iterdir()) if self._folder.is_dir() else []

    def _sweep(self) -> None:
        for entry in self._entries():
            if entry.name.startswith(REMOVED):
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name.startswith(PARTIAL):
                slug = entry.name.removeprefix(PARTIAL).rpartition("-")[0]
                with suppress(OSError), self._locked(slug) as locked:
                    if locked:
                        shutil.rmtree(entry, ignore_errors=True)


def is_fetched(name: str) -> bool:
    """Whether the assistant fetches a model of that name by itself; if not, it must be the path of a folder."""
    return name in WHEEL_MODELS or hub.NAME.fullmatch(name) is not None


def _own_folder(name: str) -> Path:
    folder = Path(name).expanduser().absolute()
    if not name or name.startswith(hub.PREFIX) or not folder.is_dir():
        raise ModelNotFound(f"there is no model {name!r}", hint=_hint(name))
    if not (folder / "config.json").is_file():
        raise ModelNotFound(
            f"the folder {folder} holds no model: config.json is missing",
            hint="name the folder in which config.json, the weights (*.safetensors) and the tokenizer lie",
        )
    return folder


def _hint(name: str) -> str:
    if name.startswith(hub.PREFIX):
        return "a model of the Hugging Face hub is named hf:organisation/name"
    if hub.NAME.fullmatch(f"{hub.PREFIX}{name}"):
        return f"from the Hugging Face hub it is {hub.PREFIX}{name}; there is no folder of that name"
    if near := difflib.get_close_matches(name, WHEEL_MODELS, 1):
        return f"did you mean {near[0]!r}?"
    return "a model is 'starter' (which is always to be had), hf:organisation/name, or the path of a folder"


def _try_lock(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _discard(folder: Path) -> None:
    """Rename, then delete: a folder under its own name is always whole."""
    away = folder.with_name(f"{REMOVED}{folder.name}-{os.urandom(4).hex()}")
    folder.rename(away)
    shutil.rmtree(away, ignore_errors=True)
