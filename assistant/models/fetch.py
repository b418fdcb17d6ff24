"""Fetching one model in a process of its own, so that the daemon stays small and a fetch can be killed at any moment.

The child, ``python -m assistant.models.fetch NAME FOLDER [--force]``, writes the model into ``FOLDER/model`` and keeps
everything temporary in ``FOLDER/work``; it says how it goes in JSON lines. It leads a process group, with the helpers
it starts, and ends the whole group as soon as its standard input closes: a daemon that is killed leaves nobody
downloading.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Literal

import msgspec

from assistant.errors import AssistantError, ModelDownloadFailed, from_code
from assistant.events import ErrorInfo

Phase = Literal["download", "verify", "convert", "ready"]

POLL_SECONDS = 0.25
"""How often the growth of the files is looked at; four times a second is smooth for a progress bar."""

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
"""What the system says when a disk or a quota is full."""

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


class Progressed(msgspec.Struct, frozen=True, tag="progressed"):
    """How far the child is, in bytes; ``total`` is 0 while it is unknown."""

    phase: Phase
    done: int = 0
    total: int = 0


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """Why the child gave up."""

    error: ErrorInfo


class Finished(msgspec.Struct, frozen=True, tag="finished"):
    """The model is complete in ``FOLDER/model``."""


Report = Callable[[Progressed], None]
"""Takes progress; may be called from any thread of the child."""

_decoder = msgspec.json.Decoder(Progressed | Failed | Finished)


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


def check_space(folder: Path, needed: int) -> None:
    """Raise ModelDownloadFailed if the disk of ``folder`` has less than ``needed`` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ModelDownloadFailed(
            f"the disk is too full: fetching needs {needed / 1e6:.0f} MB, {free / 1e6:.0f} MB are free",
            hint=f"make room on the disk that holds {folder.parent}, or move the assistant with ASSISTANT_HOME",
        )


def disk_full(folder: Path) -> ModelDownloadFailed:
    """The error for a disk that ran full on the way."""
    return ModelDownloadFailed(
        "the disk ran full while the model was being fetched",
        hint=f"make room on the disk that holds {folder.parent}; what was fetched so far has been removed",
    )


@contextmanager
def watching(folder: Path, total: int, report: Report) -> Iterator[None]:
    """Report a download by the growth of ``folder``, for as long as the block runs."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(POLL_SECONDS):
            done = bytes_in(folder)
            report(Progressed("download", min(done, total) if total else done, total))

    thread = threading.Thread(target=watch, name="watch", daemon=True)
    report(Progressed("download", 0, total))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def bytes_in(folder: Path) -> int:
    """Bytes of all files below ``folder``; files that vanish meanwhile count as nothing."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += (Path(parent) / name).stat().st_size
    return total


async def run(name: str, folder: Path, *, force: bool = False) -> AsyncGenerator[Progressed, None]:
    """Fetch a model into ``folder/model`` in a child process; closing the iterator kills it.

    Args:
        force: also what this machine has not the memory for.

    Raises:
        ModelNotFound, ModelTooLarge, ModelDownloadFailed: as the child says, or because it died.
    """
    import anyio

    log = folder / "fetch.log"
    with log.open("wb") as errors:
        process = await anyio.open_process(
            [sys.executable, "-P", "-m", "assistant.models.fetch", name, str(folder), *(["--force"] if force else [])],
            stdin=subprocess.PIPE, stderr=errors, cwd=folder, start_new_session=True, env=_environment(folder),
        )
    assert process.stdout is not None
    finished = False
    buffered = b""
    try:
        async for chunk in process.stdout:
            *lines, buffered = (buffered + chunk).split(b"\n")
            for line in lines:
                said = _decoder.decode(line)
                if isinstance(said, Failed):
                    raise from_code(said.error.code, said.error.message, said.error.hint)
                if isinstance(said, Progressed):
                    yield said
                else:
                    finished = True
        code = await process.wait()
        if not finished:
            raise _died(code, log)
    finally:
        with anyio.CancelScope(shield=True):
            if not finished:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            await process.aclose()


def _environment(folder: Path) -> dict[str, str]:
    quiet = {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    return {**os.environ, **quiet, "TMPDIR": str(folder / "work"), "PYTHONUNBUFFERED": "1"}


def _died(code: int, log: Path) -> ModelDownloadFailed:
    lines = log.read_text(errors="replace").strip().splitlines()
    cause = f"was ended by signal {-code}" if code < 0 else f"ended with status {code}"
    return ModelDownloadFailed(
        f"the process that fetches the model {cause}" + (f": {lines[-1]}" if lines else ""),
        hint="out of memory, or ended by hand? Try again; nothing half-made is left behind",
    )


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGKILL)


def _fetch(name: str, folder: Path, report: Report, *, force: bool) -> None:
    if name == "starter":
        from . import starter

        starter.fetch(folder, report)
    else:
        from . import hub

        hub.fetch(name, folder, report, force=force)


def _teller() -> Callable[[object], None]:
    """Writes messages to what was standard output, which from now on takes only them."""
    out: BinaryIO = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    lock = threading.Lock()

    def tell(message: object) -> None:
        with lock:
            out.write(msgspec.json.encode(message) + b"\n")

    return tell


def main(name: str, folder: Path, *, force: bool = False) -> int:
    """The child: fetch, and say how it went."""
    tell = _teller()
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    for part in ("work", "model"):
        (folder / part).mkdir()
    try:
        _fetch(name, folder, tell, force=force)
    except AssistantError as error:
        info = ErrorInfo(code=error.code, message=error.message, hint=error.hint, permanent=error.permanent)
        tell(Failed(info))
        return 1
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        full = disk_full(folder)
        tell(Failed(ErrorInfo(code=full.code, message=full.message, hint=full.hint, permanent=full.permanent)))
        return 1
    tell(Finished())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), force="--force" in sys.argv[3:]))
