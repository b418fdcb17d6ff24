"""The engine interfaces that model plugins implement.

An engine is plain blocking Python: light and picklable until ``load()``, which imports the heavy library. The host
sends it to its lane, where ``load()``, every call and ``close()`` run on one and the same thread. Nothing here is
async and nothing here is thread-safe: the lane is the lock.

Audio between the host and an engine is 16-bit little-endian mono PCM in ``bytes``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec

from .errors import EngineFailed

Role = Literal["system", "user", "assistant", "tool"]

STT_SAMPLE_RATE = 16_000
"""Samples per second of the audio that a ``Transcription`` is fed."""


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call that the model asks for."""

    id: str
    name: str
    arguments: dict[str, Any]
    error: str = ""
    """Why the call cannot be run as it was written; the host answers it with this, so that the model can mend it."""
    text: str = ""
    """With ``error``: the call as the model wrote it."""


class ToolSchema(msgspec.Struct, frozen=True, kw_only=True):
    """What the model is told of a tool."""

    name: str
    description: str
    parameters: dict[str, Any]
    """JSON schema of the arguments object."""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message of the conversation that the model reads."""

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    """For ``role="tool"``: the call that this answers."""


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a language model needs for one answer."""

    messages: tuple[Message, ...]
    tools: tuple[ToolSchema, ...] = ()
    max_tokens: int = 512
    temperature: float = 0.0
    """0 is greedy."""
    top_p: float = 1.0
    top_k: int = 0
    """Choose among so many of the likeliest tokens; 0 for all."""
    min_p: float = 0.0
    """Leave out tokens less likely than this share of the likeliest one's probability; 0 for none."""
    repetition_penalty: float = 1.0
    """Makes tokens of the recent text less likely; 1 is off."""
    seed: int | None = None
    stop: tuple[str, ...] = ()
    tool_choice: str = "auto"
    """``auto``, ``none``, ``required`` (one call at least), or the name of the tool that must be called."""
    schema: dict[str, Any] | None = None
    """A JSON schema that the answer must satisfy; the engine writes nothing else, or refuses."""
    reasoning_budget: int | None = None
    """Most tokens of reasoning before the answer begins; 0 for none, None for no limit."""
    adapter: str = ""
    """The folder of a LoRA adapter to answer with; empty for the model as it is."""
    urgent: bool = False
    """Somebody waits for it to be spoken: it begins at once, however many answers are being written."""


class MemoryUse(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine holds on its device, in bytes; 0 where it cannot be told."""

    active: int = 0
    peak: int = 0
    """The most since it was loaded."""
    prompt_cache: int = 0
    """Of ``active``: prompts kept for the next turn."""
    limit: int = 0
    """What the device lets one process use."""


class FinetuneJob(msgspec.Struct, frozen=True, kw_only=True):
    """What a language model learns, and how."""

    model: str
    """The folder of the model."""
    data: str
    """A folder with ``train.jsonl`` and perhaps ``valid.jsonl``: ``{"messages": [{"role", "content"}, …]}`` a line."""
    adapter: str
    """The folder that the adapter and what is needed to resume are written to."""
    iterations: int = 200
    batch_size: int = 1
    learning_rate: float = 1e-4
    layers: int = 8
    """How many of the last layers get an adapter; -1 for all."""
    rank: int = 8
    max_tokens: int = 1024
    """Longest example, in tokens; longer ones are cut."""
    seed: int = 0


class FinetuneStep(msgspec.Struct, frozen=True, kw_only=True):
    """A report from the training."""

    iteration: int
    iterations: int
    train_loss: float | None = None
    """Mean cross-entropy in nats per token since the last report."""
    valid_loss: float | None = None
    tokens_per_second: float = 0.0
    saved: bool = False
    """The adapter as it is now is on the disk, and the training can be resumed from here."""


class Delta(msgspec.Struct, frozen=True, kw_only=True):
    """What one bounded step of ``generate()`` brought; usually one field is set."""

    text: str = ""
    reasoning: str = ""
    tool_call: ToolCall | None = None
    prompt_done: int = 0
    """Prompt tokens read so far; set, with ``prompt_tokens``, on prefill steps and on the last delta."""
    prompt_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    """On the last delta: prompt tokens that were still known from an earlier prompt."""
    drafted_tokens: int = 0
    """On the last delta: tokens of the answer that a draft model had guessed."""
    finish_reason: Literal["", "stop", "length", "tool_calls"] = ""
    """Set on the last delta only."""


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of a transcript."""

    start: float
    """Seconds from the beginning of the audio."""
    end: float
    text: str


class Transcript(msgspec.Struct, frozen=True, kw_only=True):
    """What was said."""

    text: str
    language: str = ""
    segments: tuple[Segment, ...] = ()
    seconds: float = 0.0
    """Length of the audio."""


class WordMark(msgspec.Struct, frozen=True, kw_only=True):
    """Where a word begins in a piece of speech."""

    sample: int
    """From the beginning of the chunk that carries the mark."""
    character: int
    """From the beginning of the text that ``speak`` was given."""


class AudioChunk(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of speech: 16-bit little-endian mono PCM."""

    pcm: bytes
    sample_rate: int
    words: tuple[WordMark, ...] = ()
    """The words that begin in it, of an engine that knows; the host guesses those of others."""


class Engine(ABC):
    """What all engines share."""

    kind: ClassVar[Literal["stt", "llm", "tts"]]
    name: str
    """How the configuration chooses it, for example ``mlx``."""
    lane: str = "cpu"
    """The lane it wants: ``gpu``, ``ane`` or ``cpu`` (a process each), or ``thread:<name>`` for a cheap engine."""
    default_model: str = ""
    """Which model it uses when none is configured (``starter``, ``hf:org/name`` or a folder); empty: it needs none."""
    rank: int = 0
    """Among the engines that can run here, ``engine = "auto"`` takes the highest rank."""

    def available(self) -> str:
        """Why this engine cannot run on this machine, as one sentence naming the remedy; empty if it can.

        Called on the daemon's thread, so it must be cheap: look for a file or a module spec, import nothing heavy.
        """
        return ""

    def memory(self) -> MemoryUse:
        """What it holds now. Runs on the lane's thread."""
        return MemoryUse()

    def idle(self) -> None:  # noqa: B027
        """Tidy up (write caches to the disk): called on the lane's thread some seconds after the last work."""

    @abstractmethod
    def load(self, model: Path | None) -> None:
        """Import the heavy library and get ready. Runs on the lane's thread.

        Args:
            model: the folder of the model that was chosen, or None for an engine that needs none.
        """

    @abstractmethod
    def close(self) -> None:
        """Give everything back. Runs on the lane's thread; the engine is not used afterwards."""


class LanguageModel(Engine):
    """A model that reads a conversation and writes the next message."""

    kind = "llm"
    lane = "gpu"
    draft_model: Path | None = None
    """The folder of a smaller model of the same vocabulary that may guess tokens ahead; the host sets it before
    ``load()`` if one is configured."""

    def speech_live(self, live: bool) -> None:
        """A spoken turn has begun, or the last one has ended: in between the steps should be short, because speech
        waits for the step that is running. Runs on the lane's thread.
        """

    def finetune(self, job: FinetuneJob) -> Iterator[FinetuneStep]:
        """Train an adapter, one bounded piece a ``next()``; a job that was interrupted goes on where it was last saved.

        Needs no ``load()``: it loads a model of its own. Closing the iterator saves what was learnt.

        Raises:
            EngineFailed: this engine cannot train.
        """
        raise EngineFailed(f"the engine {self.name} cannot train models", hint="use an engine that can, such as mlx")

    @abstractmethod
    def generate(self, request: ChatRequest) -> Iterator[Delta]:
        """Answer, one bounded step a ``next()``: a prefill chunk (yielded as progress), or one token.

        The host interleaves several of these generators on one thread and closes one to cancel it. An engine that
        batches lets all its generators share one batch: ``next()`` on one whose queue is empty runs one shared step.

        Raises:
            ContextOverflow: the prompt does not fit; the host drops old messages and tries again.
        """


class LaneObject:
    """Something that stays in the lane; the host holds a handle to it and calls its methods through the lane."""


class Transcription(LaneObject, ABC):
    """One utterance being transcribed."""

    @abstractmethod
    def feed(self, pcm: bytes) -> str | None:
        """Take the next audio, 16 kHz; any length. Returns the partial transcript so far if it is worth showing."""

    def draft(self) -> Transcript | None:
        """What ``finish`` would give if the speech ended here; more audio may follow.

        Called when the speaker pauses, so that the answer can be prepared. None: an engine that cannot tell cheaply.
        """
        return None

    @abstractmethod
    def finish(self) -> Transcript:
        """The whole transcript. The object is not used afterwards."""


class SpeechToText(Engine):
    """A recogniser."""

    kind = "stt"

    @abstractmethod
    def open(self, language: str, phrases: tuple[str, ...]) -> Transcription:
        """Begin an utterance.

        Args:
            language: a BCP 47 tag such as ``en``; empty lets the engine decide.
            phrases: sentences that are likely (the intents' own); an engine may use them as a bias, or not at all.
        """


class TextToSpeech(Engine):
    """A voice."""

    kind = "tts"

    @abstractmethod
    def speak(self, text: str, voice: str) -> Iterator[AudioChunk]:
        """Say ``text``, one chunk of at most about 200 ms a ``next()``; closing the generator stops at once.

        Args:
            voice: a name that the engine knows; empty is its default.
        """
