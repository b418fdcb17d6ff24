"""The error tree: what can go wrong, in words a user can act on.

    AssistantError
    ├── ConfigError            a setting is unknown, of the wrong type or out of range
    ├── PluginError            a plugin could not be loaded or broke its contract
    ├── VoiceError             it cannot listen, or does not
    ├── DaemonError
    │   ├── DaemonUnreachable  nothing answers on the socket
    │   └── DaemonAlreadyRunning
    ├── LaneError
    │   ├── EngineNotFound     no plugin offers an engine of that name
    │   ├── EngineFailed       the engine raised
    │   ├── EngineCrashed      the lane process died or hung (transient: it restarts)
    │   └── LaneQuarantined    it died too often; fix the cause, then `assistant down && assistant up`
    ├── ModelError
    │   ├── ModelNotFound
    │   ├── ModelDownloadFailed
    │   ├── ModelTooLarge      it does not fit the memory beside what is loaded
    │   ├── ContextOverflow    the prompt does not fit the model's context
    │   └── TrainingBusy       another adapter is being trained (transient)
    ├── StoreError
    │   ├── SessionNotFound
    │   └── DiskFull
    ├── DatasetError           there is nothing, too little or something wrong to learn from
    ├── AudioError             not audio, truncated, empty
    ├── PromptError            an empty, oversized or undecodable prompt
    └── ToolError              a tool refused its arguments, timed out or was denied

Every error has a stable wire ``code``, a message, a hint and a word on whether trying again can help.
This module imports nothing of ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, TypeVar

E = TypeVar("E", bound=BaseException)


class AssistantError(Exception):
    """The root of every error that a user may see."""

    code: ClassVar[str] = "error"
    permanent: ClassVar[bool] = True
    """False: the same request may work when it is tried again."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.hint))

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


class ConfigError(AssistantError):
    """A setting is unknown, of the wrong type or out of range."""

    code = "config"


class PluginError(AssistantError):
    """A plugin could not be loaded or broke its contract."""

    code = "plugin"


class DaemonError(AssistantError):
    """The daemon could not be reached, started or stopped."""

    code = "daemon"


class DaemonUnreachable(DaemonError):
    """Nothing answers on the daemon's socket."""

    code = "daemon_unreachable"
    permanent = False


class DaemonAlreadyRunning(DaemonError):
    """Another daemon owns this home."""

    code = "daemon_already_running"


class VoiceError(AssistantError):
    """The assistant cannot listen, or does not."""

    code = "voice"


class LaneError(AssistantError):
    """Work on a lane failed."""

    code = "lane"


class EngineNotFound(LaneError):
    """No plugin offers an engine of that name."""

    code = "engine_not_found"


class EngineFailed(LaneError):
    """The engine raised; the lane lives on."""

    code = "engine_failed"


class EngineCrashed(LaneError):
    """The lane's process died or stopped answering; it restarts by itself."""

    code = "engine_crashed"
    permanent = False


class LaneQuarantined(LaneError):
    """The lane died too often within its window and is not restarted."""

    code = "lane_quarantined"


class ModelError(AssistantError):
    """A model could not be found, fetched, loaded or used."""

    code = "model"


class ModelNotFound(ModelError):
    """No model goes by that name."""

    code = "model_not_found"


class ModelDownloadFailed(ModelError):
    """A model could not be fetched; nothing half-made is left behind."""

    code = "model_download_failed"
    permanent = False


class ModelTooLarge(ModelError):
    """A model does not fit the memory beside what is loaded; the host unloads what is idle and tries again."""

    code = "model_too_large"


class ContextOverflow(ModelError):
    """The prompt has more tokens than the model's context."""

    code = "context_overflow"


class TrainingBusy(ModelError):
    """Another adapter is being trained; one is at a time."""

    code = "training_busy"
    permanent = False


class DatasetError(AssistantError):
    """What a model shall learn from is missing, too little or malformed."""

    code = "dataset"


class StoreError(AssistantError):
    """The conversation store could not read or write."""

    code = "store"


class SessionNotFound(StoreError):
    """No conversation has that id."""

    code = "session_not_found"


class DiskFull(StoreError):
    """There is no room left to write."""

    code = "disk_full"
    permanent = False


class AudioError(AssistantError):
    """The input is not usable audio."""

    code = "audio"


class PromptError(AssistantError):
    """The prompt is empty, too large or not text."""

    code = "prompt"


class ToolError(AssistantError):
    """A tool refused its arguments, timed out or was denied."""

    code = "tool"


def _rebuild(kind: type[AssistantError], message: str, hint: str) -> AssistantError:
    return kind(message, hint=hint)


def _tree(root: type[AssistantError]) -> dict[str, type[AssistantError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found.update(_tree(child))
    return found


def from_code(code: str, message: str, hint: str = "") -> AssistantError:
    """The error that a wire ``code`` stands for; an unknown code gives the root."""
    return _tree(AssistantError).get(code, AssistantError)(message, hint=hint)


def leaves(group: BaseExceptionGroup[E]) -> Iterator[E]:
    """The errors of a group and of the groups in it."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from leaves(error)
        else:
            yield error
