"""Models for tests: the real starter, kept between runs, and small ones whose answers are written by the test."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from assistant.models import Models

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Ends with a newline, which is the token that a scripted model continues with its script."""

TOOL_TEMPLATE = (
    "{% if tools %}<|im_start|>tools\n{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}"
    "<tool_call></tool_call><|im_end|>{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}"
    "{% for tool_call in message.tool_calls or [] %}<tool_call>{{ tool_call.function.name }} "
    "{{ tool_call.function.arguments | tojson }}</tool_call>{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}{# tool_call.name #}"
)

SPECIAL = ("<|im_start|>", "<|im_end|>")


def tests_models() -> Path:
    """Where fetched models are kept between runs: ``ASSISTANT_TEST_MODELS``, else below the user's cache folder."""
    return Path(os.environ.get("ASSISTANT_TEST_MODELS") or Path.home() / ".cache" / "assistant-tests" / "models")


def fetched(name: str) -> Path:
    """The folder of a real model, fetched on the first run."""

    async def resolve() -> Path:
        return await Models(tests_models(), lambda event: None).resolve(name)

    return anyio.run(resolve)


@pytest.fixture(scope="session")
def starter_model() -> Path:
    """The folder of the real starter model."""
    return fetched("starter")


@pytest.fixture(scope="session")
def silero_model() -> Path:
    """The folder of Silero's voice activity model."""
    return fetched("silero-vad")


@pytest.fixture(scope="session")
def smart_turn_model() -> Path:
    """The folder of the Smart Turn model."""
    return fetched("smart-turn")


@pytest.fixture(scope="session")
def moonshine_model() -> Path:
    """The folder of the recogniser's model."""
    return fetched("moonshine-tiny")


@pytest.fixture
def ask_index(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Point pip at one index and nothing else."""

    def ask(url: str) -> None:
        for variable in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"):
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
        monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
        monkeypatch.setenv("PIP_RETRIES", "0")
        monkeypatch.setenv("PIP_INDEX_URL", f"{url}/simple")

    return ask


def scripted_model(
    folder: Path,
    script: Sequence[str | bytes],
    *,
    template: str = CHAT_TEMPLATE,
    context: int = 2048,
    bits: int = 0,
    special: Sequence[str] = (),
) -> Path:
    """A real Llama checkpoint that answers every prompt with ``script``, one piece a token, then ends.

    Attention and feed-forward are zero; the embedding is the identity and the head maps each token to its successor.
    Every piece must be unique, and none a newline. ``bits`` packs the layers' (zero) weights, as ``mlx_lm.convert``
    does; ``special`` adds tokens such as ``<think>`` to the vocabulary.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pieces = [piece.encode() if isinstance(piece, str) else piece for piece in script]
    vocabulary = _vocabulary(pieces, [*SPECIAL, *special])
    chain = [vocabulary[_byte_level(b"\n")], *(vocabulary[_byte_level(piece)] for piece in pieces)]
    ends = vocabulary["<|im_end|>"]
    _write_tokenizer(folder, vocabulary, template, [*SPECIAL, *special])
    size = 64 * -(-len(vocabulary) // 64)
    config: dict[str, Any] = {
        "model_type": "llama", "hidden_size": size, "num_hidden_layers": 2, "intermediate_size": 64,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "rms_norm_eps": 1e-5, "vocab_size": size,
        "max_position_embeddings": context, "tie_word_embeddings": False, "eos_token_id": ends,
    }
    if bits:
        config["quantization"] = {"group_size": 64, "bits": bits}
    (folder / "config.json").write_text(json.dumps(config))
    _write_weights(folder, config, [*zip(chain, [*chain[1:], ends], strict=True)], bits)
    return folder


def _write_weights(folder: Path, config: dict[str, Any], successors: list[tuple[int, int]], bits: int) -> None:
    import mlx.core as mx

    size, heads, kv, dim = config["hidden_size"], 4, 2, 64
    head = mx.zeros((size, size))
    for token, successor in successors:
        head[successor, token] = 10.0
    weights = {
        "model.embed_tokens.weight": mx.eye(size), "lm_head.weight": head, "model.norm.weight": mx.ones((size,)),
    }
    shapes = {
        "self_attn.q_proj": (heads * dim, size), "self_attn.k_proj": (kv * dim, size),
        "self_attn.v_proj": (kv * dim, size), "self_attn.o_proj": (size, heads * dim),
        "mlp.gate_proj": (64, size), "mlp.up_proj": (64, size), "mlp.down_proj": (size, 64),
    }
    for layer in range(config["num_hidden_layers"]):
        for norm in ("input_layernorm", "post_attention_layernorm"):
            weights[f"model.layers.{layer}.{norm}.weight"] = mx.ones((size,))
        for name, shape in shapes.items():
            key = f"model.layers.{layer}.{name}"
            weights[f"{key}.weight"] = mx.zeros(shape)
            if bits:
                packed = mx.quantize(weights[f"{key}.weight"], group_size=64, bits=bits)
                weights |= dict(zip((f"{key}.weight", f"{key}.scales", f"{key}.biases"), packed, strict=True))
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})


def _byte_level(text: bytes) -> str:
    # GPT-2's bytes_to_unicode: printable bytes stand for themselves, the others for U+0100 and up.
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return "".join(chr(byte if byte in printable else 256 + others.index(byte)) for byte in text)


def _vocabulary(pieces: Sequence[bytes], special: Sequence[str]) -> dict[str, int]:
    tokens = [_byte_level(bytes([byte])) for byte in range(256)]
    tokens += [_byte_level(piece) for piece in pieces]
    tokens += special
    unique = list(dict.fromkeys(tokens))
    assert len(set(pieces)) == len(pieces), "a piece occurs twice: its successor would be ambiguous"
    return {token: index for index, token in enumerate(unique)}


def _write_tokenizer(folder: Path, vocabulary: dict[str, int], template: str, special: Sequence[str]) -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|im_start|>", "eos_token": "<|im_end|>",
        "clean_up_tokenization_spaces": False, "chat_template": template,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
