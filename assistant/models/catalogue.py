"""Chat models that are known to run, from small to large, and which of them a machine should take."""

from __future__ import annotations

import msgspec

from .fit import Fit, Room, best_fit, gigabytes, reserve_for
from .machine import working_set
from .shape import ModelShape

GIB = 1 << 30

MACS = (8, 16, 24, 32, 36, 48, 64, 96, 128, 192, 256, 512)
"""GiB of memory that Macs with Apple silicon are sold with."""

WANTED_CONTEXT = 8192
"""Tokens that should fit beside a recommended model: a long conversation with tools."""

BITS = {4: 4.5, 8: 8.5}
"""Bits a weight takes in MLX's format: a scale and a bias of 16 bits each for every 64 weights."""


class CatalogueEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A model as its config.json describes it."""

    name: str
    parameters: float
    """In units of 10⁹."""
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    context: int
    licence: str
    bits: int = 4
    weights: int = 0
    """Bytes of the files, where they are not ``parameters`` times the bits."""
    active: float = 0.0
    """Of a mixture of experts: what one token uses, in units of 10⁹."""
    sliding_layers: int = 0
    """Of ``layers``: those that see the last ``window`` tokens only."""
    window: int = 0
    note: str = ""

    @property
    def size(self) -> int:
        """Bytes of the weights."""
        return self.weights or round(self.parameters * 1e9 * BITS[self.bits] / 8)

    def shape(self) -> ModelShape:
        """For the arithmetic of what fits."""
        share = self.active / self.parameters if self.active else 1.0
        return ModelShape(
            weights=self.size, parameters=round(self.parameters * 1e9), layers=self.layers - self.sliding_layers,
            heads=self.heads, kv_heads=self.kv_heads, head_dim=self.head_dim, context=self.context,
            sliding_layers=self.sliding_layers, window=self.window, active=round(self.size * share),
        )  # fmt: skip


class Recommendation(msgspec.Struct, frozen=True, kw_only=True):
    """What a machine should take."""

    memory: int
    """Bytes of the machine."""
    limit: int
    """Bytes that it gives to models."""
    name: str
    """Empty if nothing fits."""
    parameters: float = 0.0
    """In units of 10⁹."""
    weights: int = 0
    context: int = 0
    """Most tokens that fit beside it."""
    licence: str = ""
    note: str = ""
    tokens_per_second: float = 0.0
    """The bound that the bandwidth sets while the context is short; 0: no bandwidth was given."""


_LLAMA = "Llama Community"
_HF = "hf:mlx-community/"

CATALOGUE: tuple[CatalogueEntry, ...] = (
    CatalogueEntry(
        name="starter", parameters=0.135, layers=30, heads=9, kv_heads=3, head_dim=64, context=8192,
        licence="Apache-2.0", weights=98_351_102, note="SmolLM2, always to be had; for trying things out",
    ),
    CatalogueEntry(
        name=f"{_HF}Qwen3-0.6B-4bit", parameters=0.596, layers=28, heads=16, kv_heads=8, head_dim=128, context=40_960,
        licence="Apache-2.0", note="a draft model for larger Qwen3",
    ),
    CatalogueEntry(
        name=f"{_HF}Llama-3.2-1B-Instruct-4bit", parameters=1.236, layers=16, heads=32, kv_heads=8, head_dim=64,
        context=131_072, licence=_LLAMA, note="a draft model for larger Llama 3",
    ),
    CatalogueEntry(
        name=f"{_HF}Qwen3-1.7B-4bit", parameters=1.721, layers=28, heads=16, kv_heads=8, head_dim=128, context=40_960,
        licence="Apache-2.0", note="reasons",
    ),
    CatalogueEntry(
        name=f"{_HF}Llama-3.2-3B-Instruct-4bit", parameters=3.213, layers=28, heads=24, kv_heads=8, head_dim=128,
        context=131_072, licence=_LLAMA,
    ),
    CatalogueEntry(
        name=f"{_HF}Qwen3-4B-Instruct-2507-4bit", parameters=4.022, layers=36, heads=32, kv_heads=8, head_dim=128,
        context=262_144, licence="Apache-2.0", note="good tool calls for its size",
    ),
    CatalogueEntry(
        name=f"{_HF}Meta-Llama-3.1-8B-Instruct-4bit", parameters=8.030, layers=32, heads=32, kv_heads=8, head_dim=128,
        context=131_072, licence=_LLAMA,
    ),
    CatalogueEntry(
        name=f"{_HF}Qwen3-8B-4bit", parameters=8.191, layers=36, heads=32, kv_heads=8, head_dim=128, context=40_960,
        licence="Apache-2.0", note="reasons",
    ),
    CatalogueEntry(
        name=f"{_HF}Qwen3-14B-4bit", parameters=14.768, layers=40, heads=40, kv_heads=8, head_dim=128, context=40_960,
        licence="Apache-2.0", note="reasons",
    ),
    CatalogueEntry(
        name=f"{_HF}Mistral-Small-24B-Instruct-2501-4bit", parameters=23.572, layers=40, heads=32, kv_heads=8,
        head_dim=128, context=32_768, licence="Apache-2.0",
    ),
    CatalogueEntry(
        name=f"{_HF}Qwen3-32B-4bit", parameters=32.762, layers=64, heads=64, kv_heads=8, head_dim=128, context=40_960,
        licence="Apache-2.0", note="reasons; slow beside the mixtures of experts",
    ),
    CatalogueEntry(
        name=f"{_HF}Llama-3.3-70B-Instruct-4bit", parameters=70.554, layers=80, heads=64, kv_heads=8, head_dim=128,
        context=131_072, licence=_LLAMA, note="slow: every token reads all of it",
    ),
    CatalogueEntry(
        name=f"{_HF}gpt-oss-20b-MXFP4-Q8", parameters=20.91, active=3.6, layers=24, heads=64, kv_heads=8, head_dim=64,
        context=131_072, sliding_layers=12, window=128, licence="Apache-2.0", weights=12_100_000_000,
        note="mixture of experts, reasons",
    ),
    CatalogueEntry(
        name=f"{_HF}Qwen3-30B-A3B-Instruct-2507-4bit", parameters=30.532, active=3.3, layers=48, heads=32, kv_heads=4,
        head_dim=128, context=262_144, licence="Apache-2.0", note="mixture of experts: fast for what it knows",
    ),
    CatalogueEntry(
        name=f"{_HF}Qwen3-30B-A3B-Instruct-2507-8bit", parameters=30.532, active=3.3, bits=8, layers=48, heads=32,
        kv_heads=4, head_dim=128, context=262_144, licence="Apache-2.0", note="the same in 8 bits",
    ),
    CatalogueEntry(
        name=f"{_HF}gpt-oss-120b-MXFP4-Q8", parameters=116.83, active=5.1, layers=36, heads=64, kv_heads=8, head_dim=64,
        context=131_072, sliding_layers=18, window=128, licence="Apache-2.0", weights=63_400_000_000,
        note="mixture of experts, reasons",
    ),
    CatalogueEntry(
        name=f"{_HF}Qwen3-235B-A22B-Instruct-2507-4bit", parameters=235.094, active=22.0, layers=94, heads=64,
        kv_heads=4, head_dim=128, context=262_144, licence="Apache-2.0", note="mixture of experts",
    ),
    CatalogueEntry(
        name=f"{_HF}Qwen3-235B-A22B-Instruct-2507-8bit", parameters=235.094, active=22.0, bits=8, layers=94, heads=64,
        kv_heads=4, head_dim=128, context=262_144, licence="Apache-2.0", note="the same in 8 bits",
    ),
)  # fmt: skip
"""In the order of preference, the best last: an assistant must answer at once, so mixtures of experts, which read a
tenth of their weights a token, stand after dense models of their size. Shapes are those of the models' config.json;
sizes are computed from the parameters (gpt-oss: experts of 4.25 bits, the rest of 8.5)."""


def find(name: str) -> CatalogueEntry | None:
    """The model of that name, if it is here."""
    return next((entry for entry in CATALOGUE if entry.name == name), None)


def nearest(room: Room, *, below: int) -> CatalogueEntry | None:
    """The largest model with fewer bytes of weights than ``below`` that fits with 4096 tokens at least."""
    smaller = (entry for entry in CATALOGUE if entry.size < below and _fit(entry, room, 0) is not None)
    return max(smaller, key=lambda entry: entry.size, default=None)


def recommend(memory: int, limit: int, *, gb_per_second: float = 0.0, kv_bits: int = 0) -> Recommendation:
    """The best model that fits with 8192 tokens, or 4096 where nothing does.

    Args:
        memory: bytes of the machine.
        limit: bytes that it gives to models.
        gb_per_second: its memory bandwidth, if it is known.
    """
    room = Room(limit=limit, reserve=reserve_for(memory))
    for wanted in (WANTED_CONTEXT, 0):
        for entry in reversed(CATALOGUE):
            if (fits := _fit(entry, room, wanted, kv_bits)) is not None:
                return _recommendation(entry, fits, memory, gb_per_second)
    return Recommendation(memory=memory, limit=limit, name="", note=f"nothing fits into {gigabytes(room.free)} GB")


def table(gb_per_second: float = 0.0) -> list[Recommendation]:
    """A recommendation for every size of Mac, with the working set that is assumed for it."""
    return [recommend(size * GIB, working_set(size * GIB), gb_per_second=gb_per_second) for size in MACS]


def _recommendation(entry: CatalogueEntry, fits: Fit, memory: int, gb_per_second: float) -> Recommendation:
    return Recommendation(
        memory=memory, limit=fits.limit, name=entry.name, parameters=entry.parameters, weights=entry.size,
        context=fits.context, licence=entry.licence, note=entry.note,
        tokens_per_second=gb_per_second * 1e9 / entry.shape().read_per_token,
    )


def _fit(entry: CatalogueEntry, room: Room, wanted: int, kv_bits: int = 0) -> Fit | None:
    found = best_fit([entry.shape()], room, kv_bits=kv_bits)
    return found if found is not None and found.context >= min(wanted, entry.context) else None
