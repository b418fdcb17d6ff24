"""What travels and is stored about training: examples, the request, and an adapter as it is."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from assistant.events import ErrorInfo

AdapterState = Literal["running", "complete", "cancelled", "failed", "interrupted"]
"""How the last training of an adapter went; ``interrupted``: the daemon went down during it."""

AdapterName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class ChatMessage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message to learn from."""

    role: Literal["system", "user", "assistant"]
    content: str
    weight: Literal[0, 1] = 1
    """0: an answer that is read but not learnt (as in OpenAI's format for fine-tuning)."""


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation to learn from: its assistant messages."""

    messages: tuple[ChatMessage, ...]


class Hyperparameters(msgspec.Struct, frozen=True, kw_only=True):
    """How an adapter is trained; see ``engines.FinetuneJob``."""

    iterations: Annotated[int, Meta(ge=1, le=1_000_000)] = 200
    batch_size: Annotated[int, Meta(ge=1, le=1024)] = 1
    learning_rate: Annotated[float, Meta(gt=0, le=1)] = 1e-4
    layers: Annotated[int, Meta(ge=-1, le=10_000)] = 8
    rank: Annotated[int, Meta(ge=1, le=1024)] = 8
    max_tokens: Annotated[int, Meta(ge=16, le=1_000_000)] = 1024
    seed: Annotated[int, Meta(ge=0, le=2**32 - 1)] = 0


class FinetuneRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Train an adapter, or go on training it."""

    name: AdapterName
    model: str = ""
    """Empty: the configured one."""
    examples: tuple[Example, ...] = ()
    from_sessions: bool = False
    """Also learn from the conversations in the store."""
    sessions: tuple[str, ...] = ()
    """Of these only; empty: of all."""
    iterations: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    layers: int | None = None
    rank: int | None = None
    max_tokens: int | None = None
    seed: int | None = None
    resume: bool = False
    """Go on with the adapter's own data and settings; only ``iterations`` and ``learning_rate`` may be new."""


class AdapterInfo(msgspec.Struct, frozen=True, kw_only=True):
    """An adapter, and how its training stands."""

    name: str
    model: str
    """What it was trained on, as the configuration names it."""
    engine: str
    state: AdapterState
    settings: Hyperparameters
    iteration: int = 0
    train_loss: float | None = None
    """The last one, in nats per token."""
    valid_loss: float | None = None
    first_loss: float | None = None
    """The first training loss, to compare."""
    train_examples: int = 0
    valid_examples: int = 0
    error: ErrorInfo | None = None
    updated_at: float = 0.0
    """Unix time in seconds."""
    folder: str = ""
    bytes: int = 0
    """On the disk, with the data set and what is needed to resume."""
    usable: bool = False
    """It was saved once at least."""
