"""Whisper's features and network in torch, its weights by the names that mlx-whisper gives them.

The padding of the 30 s that Whisper always looks at is all alike but for its positions, so only some of it takes part,
with the weight of the rest: a command costs a tenth of what it would.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from mlx_whisper.audio import mel_filters
from whisper_speech import RATE, Wave

WIDTH, HEADS, LAYERS = 64, 2, 2
CONTEXT, TEXT_CONTEXT, MELS = 1500, 64, 80
PADDING = 40
"""So many positions of the padding stand for all of it."""

Tensor = Any


def log_mel(sound: Wave) -> Tensor:
    """mlx-whisper's features, [frames, 80], of a sound alone; it fills up what follows with zeros."""
    padded = F.pad(torch.from_numpy(sound)[None], (200, 0), mode="reflect")[0]
    padded = F.pad(padded, (0, RATE))
    power = torch.stft(padded, 400, 160, window=torch.hann_window(400), center=False, return_complex=True).abs() ** 2
    filters = torch.from_numpy(np.array(mel_filters(MELS)))
    log = (filters @ power).clamp(min=1e-10).log10()
    log = torch.maximum(log, log.max() - 8.0)
    return ((log + 4.0) / 4.0).T[: len(sound) // 160]


def parameters(vocabulary: int) -> dict[str, Tensor]:
    """Random weights by mlx-whisper's names; convolutions are [out, kernel, in] there too."""
    found: dict[str, Tensor] = {}

    def linear(name: str, out: int, into: int, bias: bool = True) -> None:
        found[f"{name}.weight"] = torch.randn(out, into) / math.sqrt(into)
        if bias:
            found[f"{name}.bias"] = torch.zeros(out)

    def norm(name: str) -> None:
        found[f"{name}.weight"], found[f"{name}.bias"] = torch.ones(WIDTH), torch.zeros(WIDTH)

    def attention(name: str) -> None:
        for part in ("query", "key", "value", "out"):
            linear(f"{name}.{part}", WIDTH, WIDTH, part != "key")
        norm(f"{name}_ln")

    for number, into in ((1, MELS), (2, WIDTH)):
        found[f"encoder.conv{number}.weight"] = torch.randn(WIDTH, 3, into) / math.sqrt(3 * into)
        found[f"encoder.conv{number}.bias"] = torch.zeros(WIDTH)
    for side, kinds in (("encoder", ("attn",)), ("decoder", ("attn", "cross_attn"))):
        for layer in range(LAYERS):
            block = f"{side}.blocks.{layer}"
            for kind in kinds:
                attention(f"{block}.{kind}")
            linear(f"{block}.mlp1", 4 * WIDTH, WIDTH)
            linear(f"{block}.mlp2", WIDTH, 4 * WIDTH)
            norm(f"{block}.mlp_ln")
    norm("encoder.ln_post")
    norm("decoder.ln")
    found["decoder.token_embedding.weight"] = torch.randn(vocabulary, WIDTH) * 0.3
    found["decoder.positional_embedding"] = torch.randn(TEXT_CONTEXT, WIDTH) * 0.1
    linear("ctc", vocabulary + 1, WIDTH)
    return found


class Network:
    """Whisper as functions of its weights."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        self.weights = weights
        inverse = torch.exp(-math.log(10000) / (WIDTH // 2 - 1) * torch.arange(WIDTH // 2))
        scaled = torch.arange(CONTEXT)[:, None] * inverse[None]
        self.positions = torch.cat([scaled.sin(), scaled.cos()], 1)
        self.spoken = torch.ones(WIDTH)
        self.spoken[-1] = 0.0

    def encode(self, mel: Tensor, phase: int) -> tuple[Tensor, Tensor]:
        """Features of [batch, frames, 80] and of some padding after them, and how much each position counts, as log."""
        count = mel.shape[1] // 2
        x = F.pad(mel, (0, 0, 0, 4)).transpose(1, 2)
        for number in (1, 2):
            weight, bias = self.weights[f"encoder.conv{number}.weight"], self.weights[f"encoder.conv{number}.bias"]
            x = F.gelu(F.conv1d(x, weight.transpose(1, 2), bias, stride=number, padding=1))
        x = x.transpose(1, 2)
        step = (CONTEXT - count) // PADDING
        chosen = torch.arange(PADDING) * step + count + phase % step
        x = torch.cat([x[:, :count], x[:, count : count + 1].expand(-1, PADDING, -1)], 1)
        x = x + self.positions[torch.cat([torch.arange(count), chosen])]
        counts = torch.zeros(count + PADDING)
        counts[count:] = math.log((CONTEXT - count) / PADDING)
        for layer in range(LAYERS):
            x = self._block(f"encoder.blocks.{layer}", x, counts)
        return self._norm("encoder.ln_post", x), counts

    def decode(self, tokens: Tensor, features: Tensor, counts: Tensor) -> Tensor:
        """Scores of the next token at every place."""
        size = tokens.shape[1]
        embedding = self.weights["decoder.token_embedding.weight"] * self.spoken
        x = embedding[tokens] + self.weights["decoder.positional_embedding"][:size]
        causal = torch.full((size, size), -math.inf).triu(1)
        for layer in range(LAYERS):
            x = self._block(f"decoder.blocks.{layer}", x, causal, features, counts)
        return (self._norm("decoder.ln", x) * self.spoken) @ embedding.T

    def words_on_the_way(self, features: Tensor) -> Tensor:
        """Log-probabilities of tokens at each position, which only the training uses."""
        return self._linear("ctc", features).log_softmax(-1)

    def _block(self, name: str, x: Tensor, mask: Tensor, features: Tensor = None, counts: Tensor = None) -> Tensor:
        y = self._norm(f"{name}.attn_ln", x)
        x = x + self._attend(f"{name}.attn", y, y, mask)
        if features is not None:
            x = x + self._attend(f"{name}.cross_attn", self._norm(f"{name}.cross_attn_ln", x), features, counts)
        return x + self._linear(f"{name}.mlp2", F.gelu(self._linear(f"{name}.mlp1", self._norm(f"{name}.mlp_ln", x))))

    def _attend(self, name: str, x: Tensor, source: Tensor, mask: Tensor) -> Tensor:
        def heads(part: str, of: Tensor) -> Tensor:
            return self._linear(f"{name}.{part}", of).unflatten(-1, (HEADS, -1)).transpose(1, 2)

        found = F.scaled_dot_product_attention(
            heads("query", x), heads("key", source), heads("value", source), mask.expand(x.shape[1], source.shape[1])
        )
        return self._linear(f"{name}.out", found.transpose(1, 2).flatten(2))

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"))

    def _norm(self, name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, (WIDTH,), self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])
