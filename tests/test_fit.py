"""The arithmetic of what fits: shapes, contexts, refusals, the catalogue, and this machine's memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from model_fixtures import scripted_model

from assistant.errors import ModelError, ModelTooLarge
from assistant.models import catalogue, machine
from assistant.models.fit import (
    KV_STEP,
    Room,
    best_fit,
    largest_context,
    memory_need,
    reserve_for,
)
from assistant.models.machine import MachineMemory
from assistant.models.refusal import check_download, fit_models
from assistant.models.shape import ModelShape, model_shape, shape_of

GB = 10**9
LLAMA_8B: dict[str, Any] = {
    "model_type": "llama", "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
    "hidden_size": 4096, "max_position_embeddings": 131_072, "torch_dtype": "bfloat16",
    "quantization": {"group_size": 64, "bits": 4},
}
GPT_OSS: dict[str, Any] = {
    "model_type": "gpt_oss", "num_hidden_layers": 24, "num_attention_heads": 64, "num_key_value_heads": 8,
    "head_dim": 64, "hidden_size": 2880, "intermediate_size": 2880, "num_local_experts": 32, "num_experts_per_tok": 4,
    "sliding_window": 128, "layer_types": ["sliding_attention", "full_attention"] * 12,
    "max_position_embeddings": 131_072,
}


def llama() -> ModelShape:
    """Llama 3.1 8B in 4 bits."""
    return shape_of(LLAMA_8B, 4_517_000_000)


def test_a_token_of_llama_3_1_8b_takes_128_kib() -> None:
    shape = llama()
    assert shape.kv_bytes_per_token() == 128 * 1024
    assert shape.kv_bytes_per_token(8) == 128 * 1024 * (1 + 4 / 64) / 2
    assert shape.kv_bytes_per_token(4) == 128 * 1024 * (0.5 + 4 / 64) / 2
    assert (shape.head_dim, shape.context, shape.notes) == (128, 131_072, ())
    assert shape.parameters == pytest.approx(8.03e9, rel=0.001)
    assert memory_need(shape, 8192).kv == 1 << 30


def test_a_need_is_the_sum_of_its_parts_and_grows_with_the_context() -> None:
    shape = llama()
    need = memory_need(shape, 8192, prefill_step=512)
    assert need.prefill == 32 * 2 * 512 * 8192
    assert need.total == need.weights + need.kv + need.prefill
    totals = [memory_need(shape, tokens).total for tokens in (1, 256, 257, 4096, 131_072)]
    assert totals == sorted(totals)
    assert memory_need(shape, 257).kv == memory_need(shape, 512).kv, "the cache grows by 256 tokens"
    assert memory_need(shape, 4096, kv_bits=4).kv < memory_need(shape, 4096, kv_bits=8).kv < memory_need(shape, 4096).kv


def test_sliding_layers_keep_their_window_only() -> None:
    shape = shape_of(GPT_OSS, 12_100_000_000, 20_910_000_000)
    assert (shape.layers, shape.sliding_layers, shape.window) == (12, 12, 128)
    assert shape.kv_bytes_per_token() == 12 * 2 * 8 * 64 * 2
    long, longer = memory_need(shape, 32_768), memory_need(shape, 65_536)
    assert longer.kv - long.kv == 32_768 * shape.kv_bytes_per_token()


def test_a_mixture_of_experts_reads_a_share_of_its_weights() -> None:
    shape = shape_of(GPT_OSS, 12_100_000_000, 20_910_000_000)
    assert shape.read_per_token / shape.weights == pytest.approx(3.6 / 20.91, abs=0.04)
    assert llama().read_per_token == llama().weights


@pytest.mark.parametrize(("changes", "full", "sliding", "words"), [
    ({"sliding_window": 4096}, 32, 0, "not which layers"),
    ({"sliding_window": 4096, "use_sliding_window": False}, 32, 0, ""),
    ({"sliding_window": 4096, "sliding_window_pattern": 4}, 8, 24, ""),
    ({"model_type": "gemma3_text", "sliding_window": 1024}, 5, 27, ""),
    ({"full_attention_interval": 4}, 8, 0, "state of 24 layers"),
    ({"layer_types": ["linear_attention"] * 24 + ["full_attention"] * 8, "linear_num_value_heads": 32,
      "linear_value_head_dim": 128, "linear_key_head_dim": 128}, 8, 0, ""),
    ({"layer_types": ["conv"] * 20 + ["full_attention"] * 12}, 12, 0, "state of 20 layers"),
    ({"hybrid_override_pattern": "MM*-" * 8}, 8, 0, "state of 16 layers"),
    ({"mamba_expand": 2}, 32, 0, "hybrid"),
])
def test_what_config_json_tells_of_the_layers(changes: dict[str, Any], full: int, sliding: int, words: str) -> None:
    shape = shape_of({**LLAMA_8B, **changes}, GB)
    assert (shape.layers, shape.sliding_layers) == (full, sliding)
    assert (words in " ".join(shape.notes)) if words else not shape.notes
    assert (shape.state > 0) == (full + sliding < 32)


def test_a_nested_config_and_latent_attention_and_a_config_that_says_nothing() -> None:
    nested = shape_of({"model_type": "vlm", "text_config": LLAMA_8B, "vision_config": {"num_hidden_layers": 99}}, GB)
    assert nested.kv_bytes_per_token() == 128 * 1024
    deepseek = {**LLAMA_8B, "model_type": "deepseek_v3", "kv_lora_rank": 512, "qk_rope_head_dim": 64}
    assert shape_of(deepseek, GB).kv_bytes_per_token() == 32 * 576 * 2
    expanded = {**deepseek, "model_type": "deepseek_v2", "qk_nope_head_dim": 128, "v_head_dim": 128}
    assert shape_of(expanded, GB).kv_bytes_per_token() == 32 * 32 * (128 + 64 + 128) * 2
    silent = shape_of({"model_type": "new"}, GB)
    assert silent.kv_bytes_per_token() == 512 * 1024
    assert "512 KiB" in " ".join(silent.notes)
    assert silent.context == 4096


@pytest.mark.parametrize("bits", [0, 4])
def test_the_shape_of_a_folder(tmp_path: Path, bits: int) -> None:
    import mlx.core as mx

    folder = scripted_model(tmp_path / "m", ["a", "b"], context=512, bits=bits)
    shape = model_shape(folder)
    assert (shape.layers, shape.heads, shape.kv_heads, shape.head_dim, shape.context) == (2, 4, 2, 64, 512)
    assert shape.weights == (folder / "model.safetensors").stat().st_size
    whole = model_shape(scripted_model(tmp_path / "whole", ["a", "b"], context=512))
    arrays: Any = mx.load(str(tmp_path / "whole" / "model.safetensors"))
    assert shape.parameters == whole.parameters == sum(array.size for array in arrays.values())
    assert shape.unpacked().weights == 4 * shape.parameters
    assert shape.unpacked().dtype_bytes == 4


def test_a_folder_without_a_legible_config(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        model_shape(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ModelError, match="no JSON object"):
        model_shape(tmp_path)


def test_damaged_weights_are_counted_by_their_size(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_8B))
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 4500)
    assert model_shape(tmp_path).parameters == 8000


def test_the_largest_context_is_the_last_that_fits() -> None:
    shape = llama()

    def need(tokens: int) -> Any:
        return memory_need(shape, tokens)

    room = 8 * GB
    found = largest_context(need, room, shape.context)
    assert found % KV_STEP == 0
    assert need(found).total <= room < need(found + KV_STEP).total
    assert largest_context(need, 400 * GB, shape.context) == shape.context
    assert largest_context(need, 1 * GB, shape.context) == 0
    assert largest_context(need, need(1000).total, 1000) == 1000


def test_a_context_is_cut_but_a_configured_one_is_not() -> None:
    room = Room(limit=8 * GB, used=GB, reserve=GB // 2)
    cut = fit_models([llama()], room, name="m")
    assert 4096 <= cut.context < cut.asked == 131_072
    assert cut.need.total <= room.free == 6.5 * GB
    assert cut.spare == room.free - cut.need.total
    assert fit_models([llama()], room, name="m", context=6000).context == 6000
    assert fit_models([llama()], room, name="m", context=cut.context + KV_STEP, kv_bits=8).context > cut.context
    with pytest.raises(ModelTooLarge) as refused:
        fit_models([llama()], room, name="m", context=65_536)
    assert f"context = {cut.context}" in refused.value.hint


def test_a_refusal_has_the_numbers_and_the_nearest_model_that_fits() -> None:
    seventy = next(entry for entry in catalogue.CATALOGUE if "70B" in entry.name)
    room = Room(limit=22_900_000_000, used=4_500_000_000, reserve=2 * GB)
    with pytest.raises(ModelTooLarge) as refused:
        fit_models([seventy.shape()], room, name="seventy")
    need = memory_need(seventy.shape(), 4096)
    assert refused.value.message == (
        f"the model seventy needs {(need.total + 2 * GB) / 1e9:.1f} GB: weights 39.7, context of 4096 tokens 1.3, "
        "work space 0.27, reserve 2.0; this machine gives 22.9 GB, of which 4.5 are in use"
    )
    assert "hf:mlx-community/Mistral-Small-24B-Instruct-2501-4bit fits" in refused.value.hint
    with pytest.raises(ModelTooLarge, match=r"needs 127\.3 GB") as hopeless:
        fit_models([seventy.shape()], Room(limit=GB // 100, reserve=86 * GB), name="seventy")
    assert "close other programs" in hopeless.value.hint


def test_a_draft_model_and_a_share_of_a_cluster_count() -> None:
    room = Room(limit=7 * GB)
    alone = fit_models([llama()], room, name="m")
    draft = fit_models([llama(), shape_of(LLAMA_8B | {"num_hidden_layers": 16}, GB // 2)], room, name="m")
    assert draft.context < alone.context
    assert draft.need.weights == alone.need.weights + GB // 2
    half = llama().shared_by(2)
    assert (half.weights, half.kv_bytes_per_token()) == (4_517_000_000 // 2, 64 * 1024)
    assert llama().shared_by(1) == llama()


def test_the_reserve_is_small_on_a_small_machine() -> None:
    assert reserve_for(8 << 30) == 1 << 30
    assert reserve_for(64 << 30) == 2 << 30


def test_a_download_is_refused_only_if_the_weights_alone_are_too_much() -> None:
    memory = MachineMemory(total=16 << 30, limit=10 * GB, used=9 * GB, source="a test")
    check_download("hf:a/b", 10 * GB, memory)
    with pytest.raises(ModelTooLarge, match=r"39\.7 GB for its weights alone; this machine gives 10\.0") as refused:
        check_download("hf:a/b", 39_700_000_000, memory)
    assert "fits; " in refused.value.hint
    assert "pull --force" in refused.value.hint


# The catalogue


def test_every_entry_is_one_of_its_kind_and_plausible() -> None:
    names = [entry.name for entry in catalogue.CATALOGUE]
    assert len(set(names)) == len(names)
    for entry in catalogue.CATALOGUE:
        assert 4 <= entry.size * 8 / (entry.parameters * 1e9) <= 9, entry.name
        assert entry.active <= entry.parameters
        assert entry.sliding_layers < entry.layers
        assert entry.licence
    llama_entry = catalogue.find("hf:mlx-community/Meta-Llama-3.1-8B-Instruct-4bit")
    assert llama_entry is not None
    assert llama_entry.shape().kv_bytes_per_token() == 128 * 1024
    assert llama_entry.size == pytest.approx(4.53e9, rel=0.01), "mlx-engine's README"
    assert catalogue.find("hf:nobody/nothing") is None


def test_the_starter_of_the_catalogue_is_the_one_that_is_fetched(starter_model: Path) -> None:
    entry = catalogue.find("starter")
    assert entry is not None
    real = model_shape(starter_model)
    listed = entry.shape()
    assert (listed.weights, listed.layers, listed.heads, listed.kv_heads, listed.head_dim, listed.context) == (
        real.weights, real.layers, real.heads, real.kv_heads, real.head_dim, real.context
    )
    assert listed.parameters == pytest.approx(real.parameters, rel=0.01)


def test_every_mac_gets_a_model_that_fits_it_and_a_larger_one_no_smaller_model() -> None:
    rows = catalogue.table(120)
    assert [row.memory >> 30 for row in rows] == list(catalogue.MACS)
    order = [entry.name for entry in catalogue.CATALOGUE]
    for row in rows:
        entry = catalogue.find(row.name)
        assert entry is not None
        room = Room(limit=row.limit, reserve=reserve_for(row.memory))
        assert memory_need(entry.shape(), row.context).total <= room.free
        assert row.context >= catalogue.WANTED_CONTEXT
        assert row.tokens_per_second == pytest.approx(120e9 / entry.shape().read_per_token)
    places = [order.index(row.name) for row in rows]
    assert places == sorted(places)
    assert rows[1].limit == (16 << 30) * 2 // 3
    assert rows[-1].limit == (512 << 30) * 3 // 4


def test_a_tiny_machine_gets_what_fits_or_the_truth() -> None:
    assert catalogue.recommend(2 << 30, 1 << 30).name == "starter"
    nothing = catalogue.recommend(1 << 28, 1 << 26)
    assert (nothing.name, nothing.context) == ("", 0)
    assert "nothing fits" in nothing.note
    assert catalogue.recommend(24 << 30, 16 << 30).tokens_per_second == 0


def test_the_nearest_model_is_smaller_and_fits() -> None:
    room = Room(limit=12 * GB)
    near = catalogue.nearest(room, below=40 * GB)
    assert near is not None
    assert near.name == "hf:mlx-community/Qwen3-14B-4bit"
    assert best_fit([near.shape()], room) is not None
    assert catalogue.nearest(room, below=1000) is None


# The machine


def test_this_machine_has_memory() -> None:
    memory = machine.machine_memory()
    assert 0 <= memory.used <= memory.total
    assert 0 < memory.limit <= memory.total
    assert memory.source


def test_the_tightest_control_group_counts(tmp_path: Path) -> None:
    group = tmp_path / "user.slice" / "daemon.service"
    group.mkdir(parents=True)
    for folder, limit, used in ((group, "max", 500), (group.parent, "4000", 3000), (tmp_path, "9000", 100)):
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{used}\n")
    (group.parent / "memory.stat").write_text("anon 1500\ninactive_file 1000\n")
    assert machine.control_group(tmp_path, ["/user.slice/daemon.service"]) == (4000, 2000)
    assert machine.control_group(tmp_path, ["/"]) == (9000, 100)
    assert machine.control_group(tmp_path / "none", ["/a"]) == (0, 0)
