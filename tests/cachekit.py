"""Small random models with every kind of mlx-lm's caches, for the tests of the prompt cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from assistant_mlx import loading
from assistant_mlx.cache.disk import CacheDisk
from assistant_mlx.cache.prefix import Found, PrefixCache
from model_fixtures import scripted_model

PLENTY = 1 << 30

KINDS = ("plain", "quantized", "rotating", "sliding", "recurrent", "mixed", "hybrid")
"""Caches of mlx-lm: KVCache, QuantizedKVCache, RotatingKVCache, that beside KVCache (Gemma 3), ArraysCache (Mamba),
ArraysCache beside KVCache (Qwen3-Next), both in a CacheList (Falcon-H1)."""

TRIMMABLE = ("plain", "quantized")

UNTRIMMABLE = tuple(kind for kind in KINDS if kind not in TRIMMABLE)


@contextmanager
def uncompiled(folder: Path) -> Iterator[None]:
    """MLX as the engine imports it, without its side effects; and without calling the C++ compiler for each model."""
    loading.load(scripted_model(folder, ["yes"]), "never")
    import mlx.core as mx

    mx.disable_compile()
    try:
        yield
    finally:
        mx.enable_compile()


class Written(NamedTuple):
    """A greedy answer."""

    tokens: list[int]
    first: Any
    """Log-probabilities of the first token."""


class Subject(NamedTuple):
    """A model and the kind of caches it is used with."""

    model: Any
    new: Callable[[], list[Any]]

    def read(self, tokens: Sequence[int], caches: list[Any] | None = None) -> list[Any]:
        """Caches that hold the tokens (after what they held before)."""
        import mlx.core as mx

        caches = self.new() if caches is None else caches
        for start in range(0, len(tokens), 32):
            self.model(mx.array([tokens[start : start + 32]]), cache=caches)
            mx.eval([part.state for part in caches])
        return caches

    def answer(self, tokens: Sequence[int], found: Found | None = None, count: int = 8) -> Written:
        """What the model writes after the tokens, of which some may be known."""
        import mlx.core as mx
        from mlx_lm.generate import generate_step

        caches, covered = found or (self.new(), 0)
        rest = mx.array(list(tokens[covered:]))
        steps = list(generate_step(rest, self.model, max_tokens=count, prompt_cache=caches, prefill_step_size=32))
        return Written([token for token, _ in steps], steps[0][1])


@cache
def subject(kind: str) -> Subject:
    """A small random model; large weights, so that every token of the context shows in the answer."""
    import mlx.core as mx
    from mlx.utils import tree_map
    from mlx_lm.models import falcon_h1, gemma3_text, llama, mamba, qwen3_next
    from mlx_lm.models.cache import RotatingKVCache, make_prompt_cache

    mx.random.seed(1)
    shape: dict[str, Any] = {
        "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 64, "vocab_size": 97, "head_dim": 32,
        "num_attention_heads": 2, "num_key_value_heads": 1,
    }
    scale = 3
    if kind in ("plain", "quantized", "rotating"):
        model = llama.Model(
            llama.ModelArgs(model_type="llama", rms_norm_eps=1e-5, tie_word_embeddings=False, **shape)
        )
    elif kind == "sliding":
        model = gemma3_text.Model(
            gemma3_text.ModelArgs(
                model_type="gemma3_text", sliding_window=16, sliding_window_pattern=2, query_pre_attn_scalar=32, **shape
            )
        )
    elif kind == "recurrent":
        model = mamba.Model(
            mamba.ModelArgs(
                model_type="mamba", vocab_size=97, hidden_size=32, intermediate_size=64, state_size=8,
                num_hidden_layers=2, conv_kernel=4, use_bias=False, use_conv_bias=True, time_step_rank=4,
                tie_word_embeddings=False,
            )
        )
    elif kind == "mixed":
        model = qwen3_next.Model(
            qwen3_next.ModelArgs(
                model_type="qwen3_next", linear_num_value_heads=2, linear_num_key_heads=1, linear_key_head_dim=32,
                linear_value_head_dim=32, linear_conv_kernel_dim=4, num_experts=2, num_experts_per_tok=1,
                decoder_sparse_step=1, shared_expert_intermediate_size=32, mlp_only_layers=[0, 1],
                moe_intermediate_size=32, rms_norm_eps=1e-5, rope_theta=1e4, partial_rotary_factor=0.5,
                max_position_embeddings=512, full_attention_interval=2, **shape,
            )
        )
    else:
        scale = 6
        model = falcon_h1.Model(
            falcon_h1.ModelArgs(
                mamba_d_ssm=64, mamba_d_state=16, mamba_n_heads=2, mamba_d_head=32, mamba_chunk_size=16, **shape
            )
        )
    model.update(tree_map(lambda weights: weights * scale if weights.ndim > 1 else weights, model.parameters()))
    mx.eval(model.parameters())

    def new() -> list[Any]:
        caches: list[Any] = make_prompt_cache(model)
        if kind == "rotating":
            return [RotatingKVCache(max_size=24) for _ in caches]
        return [part.to_quantized(group_size=32, bits=8) for part in caches] if kind == "quantized" else caches

    return Subject(model, new)


def words(count: int, seed: int = 0) -> list[int]:
    """Tokens of a prompt; another seed gives other ones from the first on."""
    return [(seed * 31 + index * index * 7 + index * 3) % 97 for index in range(count)]


def same(one: Written, other: Written) -> bool:
    """Whether two answers are the same up to rounding."""
    import mlx.core as mx

    return one.tokens == other.tokens and bool(mx.allclose(one.first, other.first, rtol=0, atol=2e-3))


def found_in(kept: PrefixCache, tokens: Sequence[int], key: str = "") -> Found:
    """What is known of a prompt, which must be something."""
    found = kept.find(key, tokens)
    assert found is not None
    return found


def disk(folder: Path, budget: int = PLENTY, mark: str = "model-version") -> CacheDisk:
    """The files in that folder."""
    return CacheDisk(folder, budget, mark)


def files(folder: Path) -> list[Path]:
    """All files of the folder."""
    return sorted(folder.iterdir())


SYSTEM, FIRST, SECOND, OTHER = words(20), words(40), words(60), [*words(30), *words(20, seed=2)]
"""The first 20 tokens are the same everywhere; the last one leaves the conversation after 30."""
