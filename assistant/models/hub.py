"""Models from the Hugging Face hub, ``hf:org/name``; ``fetch`` runs in the process that fetches only."""

from __future__ import annotations

import fnmatch
import hashlib
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from assistant.errors import ModelDownloadFailed, ModelError, ModelNotFound

from .downloading import Progressed, Report, check_space, watching
from .machine import machine_memory
from .manifest import write_manifest
from .refusal import check_download

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

PREFIX = "hf:"
NAME = re.compile(r"hf:(?P<repo>[\w][\w.-]*/[\w][\w.-]*)", re.ASCII)

FORMAT = 1
"""The version of the folders that ``fetch`` makes."""

PATTERNS = (
    "*.json", "*.safetensors", "*.npz", "*.txt", "*.jsonl", "*.jinja", "*.tiktoken", "tokenizer.model",
    "README.md", "LICENSE*",
)
"""What is fetched of a repository: mlx-lm's own list without ``*.py``, for a model's code is never run, and with
``*.npz``, in which mlx-whisper keeps its weights."""


def fetch(name: str, folder: Path, report: Report, *, force: bool = False) -> None:
    """Download ``hf:org/name`` into ``folder/model`` and check every file against the hub's list.

    Args:
        force: also what this machine has not the memory for.

    Raises:
        ModelTooLarge: its weights do not fit this machine.
        ModelNotFound: there is no such repository, it is not open to this user, or it holds no model.
        ModelDownloadFailed: the hub cannot be reached, the disk is full, or a file arrived damaged.
    """
    import httpx2
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    repo, model = name.removeprefix(PREFIX), folder / "model"
    try:
        info = HfApi().model_info(repo, files_metadata=True)
        files = _wanted(name, info.siblings or [])
        names = [file.rfilename for file in files]
        total = sum(file.size or 0 for file in files)
        if not force:
            check_download(name, sum(file.size or 0 for file in files if _is_weights(file.rfilename)), machine_memory())
        check_space(folder, total)
        with watching(model, total, report):
            snapshot_download(repo, revision=info.sha, local_dir=model, allow_patterns=names)
    except HfHubHTTPError as error:
        raise _refused(name, error) from error
    except (httpx2.HTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, ConnectionError, TimeoutError) as error:
        raise ModelDownloadFailed(
            f"the Hugging Face hub cannot be reached for {name}: {str(error).strip().splitlines()[0]}",
            hint='check the network, HF_ENDPOINT and HF_HUB_OFFLINE; `[llm] model = "starter"` needs no hub',
        ) from error
    report(Progressed("verify", total, total))
    shutil.rmtree(model / ".cache", ignore_errors=True)
    for file in files:
        _verify(model, file)
    write_manifest(model, name=name, format_=FORMAT, source=f"{repo}@{info.sha}")


def _wanted(name: str, siblings: list[RepoSibling]) -> list[RepoSibling]:
    files = [file for file in siblings if any(fnmatch.fnmatch(file.rfilename, pattern) for pattern in PATTERNS)]
    names = {file.rfilename for file in files}
    missing = [] if "config.json" in names else ["config.json"]
    if not any(map(_is_weights, names)):
        missing.append("weights (*.safetensors)")
    if missing:
        raise ModelNotFound(
            f"{name} holds no model that MLX can load: {' and '.join(missing)} missing",
            hint="look for a conversion of it for MLX, for example by mlx-community",
        )
    return files


def _is_weights(file: str) -> bool:
    return file.endswith((".safetensors", ".npz"))


def _refused(name: str, error: Exception) -> ModelError:
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    if isinstance(error, GatedRepoError):
        return ModelNotFound(
            f"{name} is only given to those who accepted its licence",
            hint="accept it on the model's page, then set HF_TOKEN or run `hf auth login`",
        )
    if isinstance(error, RepositoryNotFoundError):
        return ModelNotFound(
            f"the Hugging Face hub has no model {name.removeprefix(PREFIX)!r}, or it is private",
            hint="check the spelling; for a private one set HF_TOKEN or run `hf auth login`",
        )
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else 0
    return ModelDownloadFailed(
        f"the Hugging Face hub answered {status} for {name}",
        hint="it is overloaded or refuses this network; try again later",
    )


def _verify(model: Path, file: RepoSibling) -> None:
    path = model / file.rfilename
    size = path.stat().st_size if path.is_file() else -1
    whole = file.size is None or size == file.size
    if whole and size >= 0 and file.lfs is not None:
        with path.open("rb") as content:
            whole = hashlib.file_digest(content, "sha256").hexdigest() == file.lfs.sha256
    if not whole or size < 0:
        raise ModelDownloadFailed(f"{file.rfilename} arrived damaged (its size or checksum is wrong)", hint="try again")
