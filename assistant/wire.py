"""What travels between the daemon and its clients besides events: commands, and the answers of the HTTP routes."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from .engines import MemoryUse, Transcript
from .errors import AssistantError
from .events import ErrorInfo, ToolOrigin, TurnSource, VoiceState

__all__ = [
    "Cancel",
    "Command",
    "Conversation",
    "EndAudio",
    "EngineInfo",
    "ErrorBody",
    "LaneInfo",
    "Listen",
    "LoadedModel",
    "ModelInfo",
    "PluginInfo",
    "Say",
    "SearchHit",
    "SessionInfo",
    "Status",
    "StoredMessage",
    "StoredToolCall",
    "Subscribe",
    "Transcript",
    "VoiceInfo",
    "error_info",
]


class Say(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="say"):
    """Start a typed turn; its events follow on this connection."""

    turn_id: str
    """Chosen by the client (32 hexadecimal digits), so that it knows its own turn among others."""
    text: str
    session_id: str = ""
    """Empty: continue the newest conversation of ``channel`` if it is recent, else begin one."""
    new: bool = False
    """Begin a conversation in any case."""
    channel: str = "cli"
    """Where the words come from: ``cli``, ``tui``, ``voice`` or ``api``."""
    speak: bool = False
    """Also speak the answer: ``SpeechSynthesized`` events."""
    model: str = ""
    """Use this model instead of the configured one, for this turn."""
    schema: dict[str, Any] | None = None
    """A JSON schema: the answer is one JSON value that satisfies it, or the turn fails."""
    adapter: str = ""
    """Answer with this LoRA adapter instead of the configured one, for this turn."""
    tools: bool | None = None
    """Whether tools and the fast path may be used; None: unless there is a schema."""
    persona: str = ""
    """What the model is told in place of the system prompt, for this turn."""


class Listen(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="listen"):
    """Start a spoken turn; binary messages with 16 kHz 16-bit little-endian mono PCM follow, then ``EndAudio``."""

    turn_id: str
    session_id: str = ""
    new: bool = False
    channel: str = "voice"
    speak: bool = False
    model: str = ""
    schema: dict[str, Any] | None = None
    adapter: str = ""
    tools: bool | None = None
    persona: str = ""


class EndAudio(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="end_audio"):
    """The speech of the ``Listen`` on this connection is over."""


class Cancel(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="cancel"):
    """Cancel the live turn of a conversation; nothing happens if there is none."""

    session_id: str
    turn_id: str = ""
    """Cancel only if this is the live turn."""


class Subscribe(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="subscribe"):
    """Also send the events of this conversation; empty: of all."""

    session_id: str = ""


class Attend(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="attend"):
    """Somebody listens along on this connection: when the last such one has gone, however it went, listening ends,
    unless the configuration says to listen always."""


Command = Say | Listen | EndAudio | Cancel | Subscribe | Attend
"""What a client may send as a text message on the WebSocket."""


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """The body of every HTTP answer that is not 2xx."""

    error: ErrorInfo


class SessionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation in a list."""

    id: str
    title: str
    channel: str
    created_at: float
    """Unix time in seconds."""
    updated_at: float
    messages: int


class StoredToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A tool call as it happened."""

    id: str
    tool: str
    arguments: dict[str, Any]
    result: str
    ok: bool
    seconds: float
    origin: ToolOrigin = "model"
    round: int = 0
    """Which of the model's replies in the turn asked for it, counted from 0."""
    place: int = 0
    """Its place among the calls of that reply."""
    text_before: int = 0
    """Characters of the turn's answer that were written before it."""


class StoredMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One message as it is stored."""

    id: int
    turn_id: str
    role: Literal["user", "assistant"]
    text: str
    at: float
    source: TurnSource = "text"
    state: Literal["complete", "cancelled", "failed", "interrupted", "running"] = "complete"
    """How the turn of this message ended; ``interrupted``: the daemon died during it."""
    tool_calls: tuple[StoredToolCall, ...] = ()
    error: ErrorInfo | None = None


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation with its messages, oldest first."""

    session: SessionInfo
    messages: tuple[StoredMessage, ...]


class SearchHit(msgspec.Struct, frozen=True, kw_only=True):
    """A message that matches."""

    session_id: str
    title: str
    message_id: int
    role: str
    at: float
    snippet: str
    """The text around the match, the match between ``[`` and ``]``."""


class EngineInfo(msgspec.Struct, frozen=True, kw_only=True):
    """An engine that some plugin offers."""

    kind: Literal["stt", "llm", "tts"]
    name: str
    plugin: str
    lane: str
    selected: bool
    unavailable: str = ""
    """Why it cannot run here; empty if it can."""


class LaneInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A lane as it is now."""

    name: str
    state: Literal["down", "starting", "up", "restarting", "quarantined"]
    pid: int = 0
    engines: tuple[str, ...] = ()
    """Keys of what is loaded, for example ``llm:mlx:starter``."""
    jobs: int = 0
    restarts: int = 0
    rss: int = 0
    """Resident bytes, as the lane last reported; 0 for a thread lane."""


class PluginInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A plugin as it was found."""

    name: str
    version: str
    distribution: str
    state: Literal["loaded", "failed", "disabled"]
    reason: str = ""
    """Why it failed or is disabled."""
    provides: tuple[str, ...] = ()
    """For example ``tool:set_timer``, ``llm:mlx``."""
    seconds: float = 0.0
    """What loading it cost."""


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A model that is known or on the disk."""

    name: str
    """How it is named in the configuration."""
    present: bool
    folder: str = ""
    bytes: int = 0
    """On the disk; for an absent model, to be downloaded (0: unknown)."""
    licence: str = ""
    note: str = ""
    """For example the parameters and where it comes from."""
    loaded: bool = False
    pinned: bool = False
    """The configuration keeps it loaded once it is."""
    memory: int = 0
    """Bytes that it holds on its device, as last known; 0: not loaded, or it cannot tell."""


class LoadedModel(msgspec.Struct, frozen=True, kw_only=True):
    """An engine that is loaded."""

    key: str
    """For example ``llm:mlx:starter``."""
    model: str
    """As the configuration names it; empty for an engine that needs none."""
    kind: Literal["stt", "llm", "tts"]
    lane: str
    pinned: bool = False
    users: int = 0
    """How many are using it now."""
    idle_seconds: float = 0.0
    """Since the last one left."""
    memory: MemoryUse = MemoryUse()
    """As last known."""


class VoiceInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The listening loop at a glance."""

    state: VoiceState
    microphone: Literal["open", "muted", "closed", "lost"]
    device: str
    """The microphone, as the system names it."""
    output_device: str
    """The loudspeaker; empty: there is none."""
    wake_words: tuple[str, ...]
    duplex: Literal["full", "half"]
    """``half``: nothing is heard while the assistant speaks."""
    attenuation_db: float | None
    """By how much the assistant's own sound is kept out; None: not measured yet."""
    recording: bool
    """What is said to it is kept as files."""
    overflows: int
    """How often the machine was too slow to take the sound."""
    listened_seconds: float
    enabled: bool = False
    """The configuration says that it listens as long as the daemon runs."""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon at a glance."""

    version: str
    pid: int
    started_at: float
    rss: int
    """Resident bytes of the daemon's own process."""
    cpu_percent: float
    """Of one core, since the last look."""
    socket: str
    llm: str
    """``engine:model`` that answers, or the reason why none can."""
    stt: str
    tts: str
    lanes: tuple[LaneInfo, ...]
    engines: tuple[EngineInfo, ...]
    plugins_loaded: int
    plugins_failed: int
    live_turns: int
    sessions: int
    home_config: str
    """The configuration file in use; empty: none, all defaults."""
    models: tuple[LoadedModel, ...] = ()
    """What is loaded, and the memory it holds."""
    voice: VoiceInfo | None = None
    """None: it does not listen."""
    api: str = ""
    """The base URL of the OpenAI-compatible API over TCP; empty if there is none."""


def error_info(error: AssistantError) -> ErrorInfo:
    """An error as it travels."""
    return ErrorInfo(code=error.code, message=error.message, hint=error.hint, permanent=error.permanent)
