"""Every event: frozen structs in one tagged union, used by the bus, the wire, the store, the UI and the tests.

An event is a fact in the past tense. On the wire it is a JSON object whose ``type`` names the struct.
This module imports nothing of ours.
"""

from __future__ import annotations

import time
from typing import Any, Literal

import msgspec

TurnSource = Literal["text", "voice", "api"]
"""How a turn began."""

VoiceState = Literal["off", "muted", "idle", "listening", "thinking", "speaking", "ringing"]
"""What the listening loop does: ``idle`` waits for a wake word, ``listening`` takes words for the assistant."""

TurnReason = Literal["complete", "cancelled", "failed"]
"""How a turn ended."""

ToolOrigin = Literal["intent", "model"]
"""Who chose a tool: the fast path, without a model, or the model."""


class ErrorInfo(msgspec.Struct, frozen=True, kw_only=True):
    """An error as it travels: see ``assistant.errors``."""

    code: str
    message: str
    hint: str = ""
    permanent: bool = True


class Base(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    """What every event carries."""

    at: float = msgspec.field(default_factory=time.time)
    """Unix time in seconds."""
    session_id: str = ""
    """The conversation, or empty for the daemon as a whole."""
    turn_id: str = ""
    """The turn, or empty outside one."""


class TurnStarted(Base, frozen=True, tag="turn_started"):
    """A turn began; a live turn of the same session was cancelled first."""

    source: TurnSource


class PartialTranscript(Base, frozen=True, tag="partial_transcript"):
    """What has been understood of the speech so far; the next one replaces it."""

    text: str


class FinalTranscript(Base, frozen=True, tag="final_transcript"):
    """What the user said or typed, as it is stored."""

    text: str


class PromptProgressed(Base, frozen=True, tag="prompt_progressed"):
    """The model has read ``done`` of ``total`` prompt tokens."""

    done: int
    total: int


class TextDelta(Base, frozen=True, tag="text_delta"):
    """A piece of the answer."""

    text: str


class ReasoningDelta(Base, frozen=True, tag="reasoning_delta"):
    """A piece of the model's reasoning, which is no part of the answer."""

    text: str


class ListeningStarted(Base, frozen=True, tag="listening_started"):
    """The microphone was opened, at the start, after a mute or after trouble."""

    device: str
    """As the system names it."""
    sample_rate: int
    """The device's own, in samples per second."""


class ListeningStopped(Base, frozen=True, tag="listening_stopped"):
    """The microphone was closed: nothing is heard until ``ListeningStarted``."""

    reason: Literal["muted", "lost", "stopped", "finished"]
    """``lost``: the device is in trouble, see ``AudioTroubled``; ``finished``: the end of a file."""


class AudioTroubled(Base, frozen=True, tag="audio_troubled"):
    """Something is wrong with an audio device; the loop tries again by itself."""

    trouble: Literal["gone", "stalled", "silent", "overflow", "echo"]
    """``silent``: exact zeros, which on macOS means that the permission is missing."""
    message: str
    hint: str = ""


class VoiceStateChanged(Base, frozen=True, tag="voice_state_changed"):
    """What the listening loop does now."""

    state: VoiceState
    clock: float = 0.0
    """Seconds of audio since the loop began."""


class WakeWordHeard(Base, frozen=True, tag="wake_word_heard"):
    """A wake word was heard; or nearly, when ``accepted`` is false, and then nothing follows."""

    name: str
    score: float
    accepted: bool
    clock: float


class SpeechStarted(Base, frozen=True, tag="speech_started"):
    """Somebody began to speak to the assistant."""

    clock: float


class SpeechEnded(Base, frozen=True, tag="speech_ended"):
    """The words are over; the answer begins."""

    clock: float
    """When it was decided."""
    waited: float
    """Seconds from the last speech to the decision."""
    reason: Literal["silence", "complete", "intent", "limit", "released"]
    """``complete``: the turn model says so; ``intent``: the words are a whole command; ``released``: push to talk."""


class SpeechDropped(Base, frozen=True, tag="speech_dropped"):
    """What was heard is no turn: nobody spoke, no words in it, or an "uh-huh"."""

    clock: float
    reason: Literal["nobody", "no_words", "backchannel", "not_woken"]
    text: str = ""


class SpeechPlayed(Base, frozen=True, tag="speech_played"):
    """So much of the answer has really been played by now."""

    text: str
    """The words so far, from the beginning of the answer."""
    clock: float


class SpeechPaused(Base, frozen=True, tag="speech_paused"):
    """The answer stopped because somebody speaks over it; it is resumed or cut off."""

    clock: float


class SpeechResumed(Base, frozen=True, tag="speech_resumed"):
    """It was nothing: the answer goes on at the word at which it stopped."""

    clock: float


class VoiceFailed(Base, frozen=True, tag="voice_failed"):
    """What was said could not be understood or answered, before there was a turn that could fail."""

    error: ErrorInfo


class EchoMeasured(Base, frozen=True, tag="echo_measured"):
    """How well the assistant's own sound is kept out of the microphone."""

    attenuation_db: float
    duplex: Literal["full", "half"]
    """``half``: it is not good enough, so nothing is heard while the assistant speaks."""


class RingingStarted(Base, frozen=True, tag="ringing_started"):
    """A timer or an alarm rings."""

    name: str
    clock: float = 0.0


class RingingStopped(Base, frozen=True, tag="ringing_stopped"):
    """It rings no more."""

    name: str
    reason: Literal["stopped", "limit"]
    clock: float = 0.0


class ToolCallStarted(Base, frozen=True, tag="tool_call_started"):
    """A tool is running."""

    call_id: str
    tool: str
    arguments: dict[str, Any]
    origin: ToolOrigin


class ToolCallFinished(Base, frozen=True, tag="tool_call_finished"):
    """A tool ended; ``result`` is what the model and the user see, also when it failed."""

    call_id: str
    tool: str
    ok: bool
    result: str
    seconds: float


class SpeechSynthesized(Base, frozen=True, tag="speech_synthesized"):
    """A chunk of the spoken answer: 16-bit little-endian mono PCM (base64 on the wire)."""

    pcm: bytes
    sample_rate: int
    """Samples per second."""


class TurnFinished(Base, frozen=True, tag="turn_finished"):
    """A turn ended, whichever way; always the last event of its turn."""

    reason: TurnReason
    text: str = ""
    """The whole answer, as it is stored."""
    error: ErrorInfo | None = None
    timings: dict[str, float] = {}
    """Seconds from the start of the turn (or, voice, the end of speech) to each stage: ``transcript``, ``intent``,
    ``first_token``, ``first_audio``, ``total``."""
    prompt_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    """Of ``prompt_tokens``: those that the engine still knew from an earlier prompt."""


class TimerSet(Base, frozen=True, tag="timer_set"):
    """A timer was started."""

    timer_id: str
    name: str
    fires_at: float
    """Unix time in seconds."""


class TimerFired(Base, frozen=True, tag="timer_fired"):
    """A timer ran out; ``late_seconds`` is more than nothing when the daemon was down at that moment."""

    timer_id: str
    name: str
    late_seconds: float = 0.0


class TimerCancelled(Base, frozen=True, tag="timer_cancelled"):
    """A timer was cancelled before it fired."""

    timer_id: str
    name: str


class EngineLoaded(Base, frozen=True, tag="engine_loaded"):
    """An engine is ready on its lane."""

    engine: str
    lane: str
    seconds: float


class EngineUnloaded(Base, frozen=True, tag="engine_unloaded"):
    """An engine left its lane and its memory was returned."""

    engine: str
    lane: str


class LaneStarted(Base, frozen=True, tag="lane_started"):
    """A lane's process is up."""

    lane: str
    pid: int


class LaneCrashed(Base, frozen=True, tag="lane_crashed"):
    """A lane's process died or hung; its jobs failed and it restarts after ``restart_seconds``."""

    lane: str
    cause: str
    restart_seconds: float


class LaneQuarantined(Base, frozen=True, tag="lane_quarantined"):
    """A lane died too often and stays down."""

    lane: str
    cause: str


class ModelProgressed(Base, frozen=True, tag="model_progressed"):
    """A model is being fetched or converted; ``total`` is 0 while it is unknown."""

    model: str
    phase: Literal["download", "verify", "convert", "ready"]
    done: int = 0
    """Bytes."""
    total: int = 0
    """Bytes."""


class FinetuneProgressed(Base, frozen=True, tag="finetune_progressed"):
    """An adapter was trained so far, or its validation loss is known; a loss is None where there is no new one."""

    adapter: str
    iteration: int
    iterations: int
    train_loss: float | None = None
    """Mean cross-entropy in nats per token since the last report."""
    valid_loss: float | None = None
    tokens_per_second: float = 0.0
    saved: bool = False
    """The training can be resumed from here."""


class FinetuneFinished(Base, frozen=True, tag="finetune_finished"):
    """The training of an adapter ended, whichever way."""

    adapter: str
    reason: TurnReason
    iteration: int
    iterations: int
    seconds: float
    error: ErrorInfo | None = None


class PluginFailed(Base, frozen=True, tag="plugin_failed"):
    """A plugin was isolated; everything else runs on."""

    plugin: str
    reason: str


class PluginEvent(Base, frozen=True, tag="plugin_event"):
    """Anything a plugin wants to say that has no event of its own."""

    plugin: str
    name: str
    data: dict[str, Any] = {}


class CommandFailed(Base, frozen=True, tag="command_failed"):
    """A command on this connection was refused; sent to its sender only."""

    error: ErrorInfo


class SubscriberLagged(Base, frozen=True, tag="subscriber_lagged"):
    """This subscriber was too slow: ``missed`` events were dropped and the subscription ended."""

    missed: int


class DaemonStopping(Base, frozen=True, tag="daemon_stopping"):
    """The daemon is going down in good order."""


Event = (
    TurnStarted
    | PartialTranscript
    | FinalTranscript
    | PromptProgressed
    | TextDelta
    | ReasoningDelta
    | ToolCallStarted
    | ToolCallFinished
    | ListeningStarted
    | ListeningStopped
    | AudioTroubled
    | VoiceStateChanged
    | WakeWordHeard
    | SpeechStarted
    | SpeechEnded
    | SpeechDropped
    | SpeechPlayed
    | SpeechPaused
    | SpeechResumed
    | VoiceFailed
    | EchoMeasured
    | RingingStarted
    | RingingStopped
    | SpeechSynthesized
    | TurnFinished
    | TimerSet
    | TimerFired
    | TimerCancelled
    | EngineLoaded
    | EngineUnloaded
    | LaneStarted
    | LaneCrashed
    | LaneQuarantined
    | ModelProgressed
    | FinetuneProgressed
    | FinetuneFinished
    | PluginFailed
    | PluginEvent
    | CommandFailed
    | SubscriberLagged
    | DaemonStopping
)
"""The tagged union of everything observable."""

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


def encode(event: Event) -> bytes:
    """One event as one line of JSON, without the newline."""
    return _encoder.encode(event)


def decode(line: bytes | str) -> Event:
    """The event in a line of JSON.

    Raises:
        msgspec.ValidationError: it is not one of the union.
    """
    return _decoder.decode(line)


def within(event: Event, session_id: str, turn_id: str) -> Event:
    """The same event, said of a turn of a conversation."""
    return msgspec.structs.replace(event, session_id=session_id, turn_id=turn_id)
