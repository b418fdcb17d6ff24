"""Which model, and which adapter, a request may name."""

from __future__ import annotations

import json
from pathlib import Path

import anyio.to_thread

from assistant.errors import AssistantError, ModelNotFound
from assistant.finetune import resolve_adapter
from assistant.services import Services
from assistant.wire import ModelInfo

from .failures import Refused
from .shapes import Model

DEFAULTS = frozenset({"", "default", "assistant"})
"""Names of the configured model."""


def configured(services: Services) -> str:
    """The name of the configured model; the engine's own, if it needs none.

    Raises:
        EngineNotFound: no engine can run here.
    """
    engine = services.pool.choose("llm")
    return services.settings.llm.model or engine.default_model or engine.name


async def choose(services: Services, name: str) -> str:
    """What the engine pool is to be asked for; empty for the configured model.

    Nothing is fetched because a request names it.

    Raises:
        Refused: no such model is on the disk.
        EngineNotFound: no engine can run here.
    """
    own = configured(services)
    if name in DEFAULTS or name in (own, own.removeprefix("hf:")):
        return ""
    found = await anyio.to_thread.run_sync(_find, services, name)
    if not found:
        there = ", ".join(model.id for model in await listed(services))
        raise Refused(
            f"there is no model {name[:200]!r} here; there are: {there}", param="model", kind="model_not_found",
            status=404, hint="leave the model out for the configured one; `assistant models pull` fetches others",
        )  # fmt: skip
    return found


async def listed(services: Services) -> list[Model]:
    """The configured model, then the others on the disk that are language models.

    Raises:
        EngineNotFound: no engine can run here.
    """
    own = configured(services)
    known = await anyio.to_thread.run_sync(services.models.known)
    return await anyio.to_thread.run_sync(_listed, own, known, services.started_at)


async def adapter(services: Services, name: str | None, model: str) -> str:
    """The folder of the LoRA adapter to answer with; empty for none.

    Args:
        name: what the request says: the name of one, empty for none, None for the configured one.
        model: as ``choose`` gave it; the configured adapter goes with the configured model only.

    Raises:
        Refused: there is none of that name.
        ModelError: it does not go with the model.
    """
    meant = services.settings.llm.adapter if name is None and not model else name
    if not meant:
        return ""
    if name is not None and ("/" in name or name.startswith(("~", "."))):
        raise Refused(f"adapter: {name!r} is no name", param="adapter", hint="`assistant finetune list` shows them")
    try:
        folder = await anyio.to_thread.run_sync(
            resolve_adapter, services.paths, meant, model or configured(services)
        )
    except ModelNotFound as problem:
        raise Refused(problem.message, param="adapter", kind="adapter_not_found", status=404,
                      hint=problem.hint) from problem  # fmt: skip
    return str(folder)


def _listed(own: str, known: list[ModelInfo], started_at: float) -> list[Model]:
    models = {info.name: info for info in known if info.present and _is_language_model(info)}
    folder = Path(models[own].folder) if own in models else Path(own)
    first = Model(id=own, created=_made(folder, started_at))
    others = [Model(id=name, created=_made(Path(info.folder), started_at)) for name, info in models.items()]
    return [first, *(model for model in others if model.id != own)]


def _find(services: Services, name: str) -> str:
    is_folder = Path(name).expanduser().is_absolute()
    for candidate in (name, f"hf:{name}"):
        if candidate != "starter" and not is_folder and not candidate.startswith("hf:"):
            continue
        try:
            if services.models.info(candidate).present:
                return candidate
        except AssistantError:
            continue
    return ""


def _is_language_model(info: ModelInfo) -> bool:
    """False for a Whisper model and for the networks of onnxruntime, which are fetched too."""
    if any(file.suffix in (".onnx", ".ort") for file in Path(info.folder).glob("*")):
        return False
    try:
        config = json.loads((Path(info.folder) / "config.json").read_text())
    except (OSError, ValueError):
        return True
    return not (isinstance(config, dict) and (config.get("model_type") == "whisper" or "n_mels" in config))


def _made(folder: Path, otherwise: float) -> int:
    try:
        return int(folder.stat().st_mtime) if folder.is_absolute() else int(otherwise)
    except OSError:
        return int(otherwise)
