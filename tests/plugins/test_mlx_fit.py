"""The engine ``mlx`` and memory: what does not fit is refused before it is loaded, a long context is cut."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from assistant_mlx import Settings, fit
from assistant_mlx.engine import MlxLanguageModel
from model_fixtures import scripted_model

from assistant import ChatRequest, Message, ModelError, ModelTooLarge, Room, model_shape

PACKED = Settings(dequantize="never", prompt_cache_mb=0)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model of 8192 tokens, each of which takes 1 KiB."""
    return scripted_model(tmp_path / "model", ["so", " be", " it"], context=8192)


def weights(folder: Path) -> int:
    """Bytes of a model's weights."""
    return model_shape(folder).weights


def test_a_model_that_fits_keeps_its_context(model: Path) -> None:
    found = fit.check(model, PACKED, device=Room(limit=1 << 30))
    assert (found.context, found.asked, found.limit) == (8192, 8192, 1 << 30)
    assert found.need.kv == 8192 * 2 * 2 * 2 * 64 * 2
    assert found.spare == (1 << 30) - found.need.total


def test_a_context_that_is_too_long_is_cut_and_said_so(model: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = fit.check(model, PACKED, device=Room(limit=1 << 30)).need.total
    room = Room(limit=whole + 5_000_000, used=4_000_000, reserve=5_000_000)
    with caplog.at_level(logging.WARNING):
        found = fit.check(model, PACKED, device=room)
    assert 4096 <= found.context < 8192
    assert f"the context is cut from 8192 to {found.context} tokens" in caplog.text
    assert found.need.total <= room.free


def test_a_model_that_does_not_fit_is_refused_with_the_numbers(model: Path) -> None:
    room = Room(limit=weights(model) + 2_000_000, used=1_000_000)
    with pytest.raises(ModelTooLarge, match=r"context of 4096 tokens .* of which 0\.00 are in use"):
        fit.check(model, PACKED, device=room)


def test_a_configured_context_is_kept_or_refused(model: Path) -> None:
    need = fit.check(model, Settings(dequantize="never", context=2000, prompt_cache_mb=0), device=Room(limit=1 << 30))
    assert need.context == 2000
    tight = Room(limit=need.need.total)
    assert fit.check(model, Settings(dequantize="never", context=2000), device=tight).context == 2000
    with pytest.raises(ModelTooLarge, match="context of 8000 tokens"):
        fit.check(model, Settings(dequantize="never", context=8000), device=tight)
    longer = Settings(dequantize="never", context=3000, kv_bits=4, prefill_step=128, prompt_cache_mb=0)
    assert fit.check(model, longer, device=tight).context == 3000, "a quantized context takes less"


def test_kept_prompts_have_room_of_their_own_until_the_context_needs_it(model: Path) -> None:
    roomy = Room(limit=1 << 30)
    free = roomy.free - weights(model)
    settings = Settings(dequantize="never")
    assert fit.check(model, settings, device=roomy).prompt_cache == free // 4
    assert fit.check(model, Settings(dequantize="never", prompt_cache_mb=7), device=roomy).prompt_cache == 7 << 20
    least = fit.check(model, Settings(dequantize="never", context=4096), device=roomy).need.total
    narrow = fit.check(model, settings, device=Room(limit=least + 4096))
    assert (narrow.context, narrow.prompt_cache) == (4096, narrow.spare)


def test_unpacked_weights_count_four_bytes_each(tmp_path: Path) -> None:
    folder = scripted_model(tmp_path / "packed", ["a", "b"], bits=4)
    roomy = Room(limit=1 << 30)
    packed = fit.check(folder, PACKED, device=roomy).need
    unpacked = fit.check(folder, Settings(dequantize="always"), device=roomy).need
    assert unpacked.weights == 4 * model_shape(folder).parameters > packed.weights
    assert unpacked.kv == 2 * packed.kv, "the context is of 32-bit floats then"


def test_a_draft_model_counts_and_ranks_share(model: Path, tmp_path: Path) -> None:
    roomy = Room(limit=1 << 30)
    draft = scripted_model(tmp_path / "draft", ["so"])
    alone, both = (fit.check(model, PACKED, each, device=roomy).need for each in (None, draft))
    assert both.weights == alone.weights + weights(draft)
    assert fit.check(model, PACKED, ranks=2, device=roomy).need.weights == -(-alone.weights // 2)


def test_a_folder_without_a_model_is_told_apart_from_a_large_one(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json") as caught:
        fit.check(tmp_path, Settings())
    assert not isinstance(caught.value, ModelTooLarge)


def test_the_real_device_has_room_for_a_small_model(model: Path) -> None:
    found = fit.check(model, Settings())
    assert found.context == 8192
    assert 0 < found.room.used < found.limit
    assert found.room.reserve > 0


def test_the_engine_refuses_before_it_loads_and_keeps_to_the_context_that_fits(model: Path) -> None:
    engine = MlxLanguageModel(Settings(reserve_mb=1 << 30))
    with pytest.raises(ModelTooLarge, match="reserve"):
        engine.load(model)
    engine = MlxLanguageModel(Settings(context=100))
    engine.load(model)
    try:
        assert engine.context == 100
        request = ChatRequest(messages=(Message(role="user", content="x"),))
        assert "".join(delta.text for delta in engine.generate(request)) == "so be it"
    finally:
        engine.close()
