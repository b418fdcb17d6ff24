"""The prompt cache of the engine ``mlx``: answers from kept prompts are those given from cold, whatever the caches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from assistant_mlx import loading
from assistant_mlx.cache.prefix import Found, PrefixCache
from assistant_mlx.cache.state import lean, settle, size, trimmable
from cachekit import (
    FIRST,
    KINDS,
    OTHER,
    PLENTY,
    SECOND,
    SYSTEM,
    TRIMMABLE,
    UNTRIMMABLE,
    Subject,
    disk,
    found_in,
    same,
    subject,
    uncompiled,
    words,
)


@pytest.fixture(scope="module", autouse=True)
def _mlx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with uncompiled(tmp_path_factory.mktemp("model")):
        yield


@pytest.mark.parametrize("kind", KINDS)
def test_the_answers_depend_on_every_part_of_the_context(kind: str) -> None:
    """What the tests below compare would show a wrong cache."""
    model = subject(kind)
    changed = [*SECOND[:50], 96, *SECOND[51:]]
    assert not same(model.answer(SECOND), model.answer(changed))


@pytest.mark.parametrize("kind", KINDS)
def test_the_next_turn_goes_on_from_the_last_one(kind: str) -> None:
    model, kept = subject(kind), PrefixCache(PLENTY, None)
    kept.put("", FIRST, model.read(FIRST))
    assert kept.nbytes > 0
    found = found_in(kept, SECOND)
    assert found.covered == len(FIRST)
    assert same(model.answer(SECOND, found), model.answer(SECOND))
    assert kept.nbytes == 0, "it was moved, not copied"


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_written_is_part_of_what_is_kept(kind: str) -> None:
    model, kept = subject(kind), PrefixCache(PLENTY, None)
    caches = model.new()
    said = model.answer(FIRST, Found(caches, 0), count=9).tokens
    kept.put("", FIRST + said, caches)
    then = [*FIRST, *said, *words(10, seed=5)]
    found = found_in(kept, then)
    assert found.covered == len(FIRST) + len(said)
    assert same(model.answer(then, found), model.answer(then))


@pytest.mark.parametrize("kind", TRIMMABLE)
def test_the_same_prompt_again_leaves_one_token_to_read(kind: str) -> None:
    model, kept = subject(kind), PrefixCache(PLENTY, None)
    kept.put("", SECOND, model.read(SECOND))
    for prompt in (SECOND, FIRST):
        found = found_in(kept, prompt)
        assert found.covered == len(prompt) - 1
        assert same(model.answer(prompt, found), model.answer(prompt))


@pytest.mark.parametrize("kind", UNTRIMMABLE)
def test_the_same_prompt_again_goes_on_from_an_older_snapshot(kind: str) -> None:
    model, kept = subject(kind), PrefixCache(PLENTY, None)
    caches = model.read(SYSTEM)
    kept.snapshot("", SYSTEM, caches)
    kept.put("", SECOND, model.read(SECOND[20:], caches))
    for _ in range(2):
        found = found_in(kept, SECOND)
        assert found.covered == len(SYSTEM)
        assert same(model.answer(SECOND, found), model.answer(SECOND))


@pytest.mark.parametrize("kind", TRIMMABLE)
def test_a_prompt_that_departs_in_the_middle_is_trimmed(kind: str) -> None:
    model, kept = subject(kind), PrefixCache(PLENTY, None)
    kept.put("", SECOND, model.read(SECOND))
    found = found_in(kept, OTHER)
    assert found.covered == 30
    assert same(model.answer(OTHER, found), model.answer(OTHER))
    assert found_in(kept, [*SECOND, 1]).covered == len(SECOND), "the longer one is still there"


@pytest.mark.parametrize("kind", UNTRIMMABLE)
def test_a_prompt_that_departs_in_the_middle_needs_a_snapshot(kind: str) -> None:
    model, kept = subject(kind), PrefixCache(PLENTY, None)
    kept.put("", SECOND, model.read(SECOND))
    assert kept.find("", OTHER) is None
    kept.snapshot("", SYSTEM, model.read(SYSTEM))
    kept.snapshot("", OTHER[:25], model.read(OTHER[:25]))
    found = found_in(kept, OTHER)
    assert found.covered == 25
    assert same(model.answer(OTHER, found), model.answer(OTHER))


@pytest.mark.parametrize("kind", KINDS)
def test_a_snapshot_outlives_all_that_is_made_of_it(kind: str) -> None:
    model, kept = subject(kind), PrefixCache(PLENTY, None)
    caches = model.read(SYSTEM)
    kept.snapshot("", SYSTEM, caches)
    assert same(model.answer(SECOND, Found(caches, len(SYSTEM))), model.answer(SECOND)), "its source goes on"
    for prompt in (OTHER, SECOND, OTHER):
        found = found_in(kept, prompt)
        assert found.covered == len(SYSTEM)
        assert same(model.answer(prompt, found), model.answer(prompt))


@pytest.mark.parametrize("kind", KINDS)
def test_conversations_take_turns_without_losing_their_places(kind: str) -> None:
    model, kept = subject(kind), PrefixCache(PLENTY, None)
    chats = [words(24, seed=seed) for seed in (1, 2, 3)]
    for chat in chats:
        kept.put("", chat, model.read(chat))
    for turn in (1, 2):
        for chat in chats:
            before = len(chat)
            chat.extend(words(12, seed=turn + 5))
            found = found_in(kept, chat)
            assert found.covered == before
            assert same(model.answer(chat, Found(lean(found.caches), before)), model.answer(chat))
            kept.put("", chat, model.read(chat[before:], found.caches))


def test_caches_of_adapters_and_formats_are_kept_apart(tmp_path: Path) -> None:
    model, kept = subject("plain"), PrefixCache(PLENTY, disk(tmp_path))
    kept.put("adapter a", SECOND, model.read(SECOND))
    assert kept.find("adapter b", SECOND) is None
    kept.save()
    later = PrefixCache(PLENTY, disk(tmp_path))
    assert later.find("adapter b", SECOND) is None
    assert found_in(later, SECOND, "adapter a").covered == len(SECOND) - 1


def test_nothing_is_found_for_prompts_that_share_nothing_or_are_too_short() -> None:
    model, kept = subject("plain"), PrefixCache(PLENTY, None)
    kept.put("", SECOND, model.read(SECOND))
    assert kept.find("", [95, *SECOND]) is None
    assert kept.find("", SECOND[:1]) is None
    assert kept.find("", []) is None
    assert found_in(kept, [SECOND[0], 95, 95]).covered == 1, "one token is worth having"


def test_only_what_is_in_use_is_kept_and_counted() -> None:
    model, kept = subject("plain"), PrefixCache(PLENTY, None)
    row = 2 * 2 * 32 * 4  # Two layers, keys and values, 32 dimensions of four bytes, one head.
    caches = model.read(FIRST)
    assert size(caches) == 256 * row, "mlx-lm allocates ahead"
    kept.put("", FIRST, caches)
    assert kept.nbytes == len(FIRST) * (row + 4)
    assert caches == []


def test_a_longer_window_than_the_model_looks_at_is_cut() -> None:
    model = subject("sliding")
    caches = model.read(SECOND)
    assert [part.keys.shape[2] for part in lean(caches)] == [16, 60]
    assert caches[0].keys.shape[2] > 16


def test_a_copy_of_a_window_with_a_kept_beginning_goes_on_as_its_source() -> None:
    from mlx_lm.models.cache import RotatingKVCache

    model = subject("plain")
    for written in (0, 7):
        caches = [RotatingKVCache(max_size=24, keep=4) for _ in range(2)]
        model.read(SECOND, caches)
        for token in words(written, seed=3):
            model.read([token], caches)
        twins = lean(caches)
        settle(twins)
        assert [part.keys.shape[2] for part in twins] == [24, 24]
        then = words(5, seed=4)
        assert same(model.answer(then, Found(twins, 0)), model.answer(then, Found(caches, 0)))


def test_a_snapshot_of_a_full_window_is_not_written_to() -> None:
    """mlx-lm then writes each token into the arrays that it has."""
    model, kept = subject("rotating"), PrefixCache(PLENTY, None)
    caches = model.read(SECOND[:-1])
    model.read(SECOND[-1:], caches)
    kept.snapshot("", SECOND, caches)
    for token in words(6, seed=3):
        model.read([token], caches)
    then = [*SECOND, *words(5, seed=4)]
    for _ in range(2):
        assert same(model.answer(then, found_in(kept, then)), model.answer(then))


def test_a_row_of_a_batch_does_not_hold_the_batch() -> None:
    import mlx.core as mx
    from mlx_lm.models.cache import ArraysCache

    kept = PrefixCache(PLENTY, None)
    mx.clear_cache()
    before = mx.get_active_memory()
    batch = ArraysCache(1)
    batch[0] = mx.random.normal((64, 1 << 14))
    mx.eval(batch.state)
    row = batch.extract(3)
    kept.put("", FIRST, [row])
    del batch, row
    assert mx.get_active_memory() - before < 4 << 16
    assert kept.nbytes == (4 << 14) + 4 * len(FIRST)


def test_no_graph_is_kept_alive() -> None:
    import mlx.core as mx
    from mlx_lm.models.cache import KVCache

    kept = PrefixCache(PLENTY, None)
    mx.clear_cache()
    before = mx.get_active_memory()
    source = mx.random.normal((1, 1, 1 << 12, 64))
    part = KVCache()
    part.update_and_fetch(source[..., :8, :] * 2, source[..., 8:16, :] * 2)
    kept.put("", words(8), [part])
    del source, part
    mx.clear_cache()
    assert mx.get_active_memory() - before < 1 << 16


def test_caches_that_cannot_be_cut_back_are_known() -> None:
    import mlx.core as mx
    from mlx_lm.models.cache import CacheList, ChunkedKVCache, KVCache, RotatingKVCache

    def filled(part: Any) -> Any:
        part.update_and_fetch(mx.ones((1, 1, 20, 8)), mx.ones((1, 1, 20, 8)))
        return part

    assert trimmable([filled(KVCache()), filled(RotatingKVCache(64)), filled(ChunkedKVCache(16))])
    chunked = filled(ChunkedKVCache(16))
    chunked.maybe_trim_front()
    for stubborn in (chunked, filled(RotatingKVCache(16)), CacheList(filled(KVCache()), filled(RotatingKVCache(16)))):
        assert not trimmable([filled(KVCache()), stubborn])
    (pair,) = lean([CacheList(filled(KVCache()), filled(KVCache()))], drop=5)
    settle([pair])
    assert [(part.offset, part.keys.shape) for part in pair.caches] == [(15, (1, 1, 15, 8))] * 2


def test_the_least_recently_used_goes_first() -> None:
    model = subject("plain")
    prompts = [words(20, seed=seed) for seed in (1, 2, 3)]
    one = size(lean(model.read(prompts[0]))) + 80
    kept = PrefixCache(3 * one + 10, None)
    for prompt in prompts:
        kept.put("", prompt, model.read(prompt))
    assert kept.nbytes == 3 * one
    assert kept.find("", prompts[0]) is not None  # A copy, for its last token must be read: it stays, now the newest.
    newest = words(20, seed=4)
    kept.snapshot("", newest, model.read(newest))
    assert kept.nbytes == 3 * one
    assert [kept.find("", prompt) is not None for prompt in [*prompts, newest]] == [True, False, True, True]


def test_what_is_larger_than_the_budget_is_not_kept_and_drives_nothing_out() -> None:
    model = subject("plain")
    kept = PrefixCache(size(lean(model.read(FIRST))) + 4 * len(FIRST), None)
    kept.put("", FIRST, model.read(FIRST))
    kept.put("", OTHER, model.read(OTHER))
    kept.snapshot("", SECOND, model.read(SECOND))
    assert found_in(kept, SECOND).covered == len(FIRST)


def test_without_a_budget_nothing_is_kept() -> None:
    kept = PrefixCache(0, None)
    kept.put("", FIRST, subject("plain").read(FIRST))
    kept.snapshot("", FIRST, subject("plain").read(FIRST))
    assert kept.nbytes == 0
    assert kept.find("", SECOND) is None


def test_what_a_longer_prompt_can_stand_for_is_dropped() -> None:
    model, kept = subject("plain"), PrefixCache(PLENTY, None)
    kept.put("", FIRST, model.read(FIRST))
    kept.put("", SECOND, model.read(SECOND))
    alone = kept.nbytes
    assert alone == len(SECOND) * (2 * 2 * 32 * 4 + 4)
    kept.put("", FIRST, model.read(FIRST))
    assert kept.nbytes == alone, "the shorter one is not taken in again"
    kept.snapshot("", SYSTEM, model.read(SYSTEM))
    kept.put("", [*SECOND, 1], model.read([*SECOND, 1]))
    assert found_in(kept, [*SECOND, 1, 2]).covered == len(SECOND) + 1
    assert found_in(kept, [*SYSTEM, 96]).covered == len(SYSTEM), "a snapshot stays"
    kept.clear()
    assert kept.nbytes == 0


def test_caches_of_another_length_are_refused(caplog: pytest.LogCaptureFixture) -> None:
    kept = PrefixCache(PLENTY, None)
    kept.put("", SECOND, subject("plain").read(FIRST))
    assert kept.nbytes == 0
    assert "a prompt of 60 tokens is not kept: its caches hold 40" in caplog.text


@pytest.fixture(scope="module")
def starter(starter_model: Path) -> tuple[Subject, Any]:
    """The real starter model and its tokenizer."""
    import mlx.core as mx
    from mlx_lm.models.cache import make_prompt_cache

    loaded = loading.load(starter_model, "auto")
    mx.enable_compile()
    return Subject(loaded.model, lambda: list(make_prompt_cache(loaded.model))), loaded.tokenizer


@pytest.mark.model
@pytest.mark.parametrize("bits", [0, 8])
def test_a_conversation_with_the_starter_is_the_same_as_from_cold(
    starter: tuple[Subject, Any], bits: int, tmp_path: Path
) -> None:
    """A first turn, a second from memory, the same again with a token left, another one in its place from the disk."""
    plain, tokenizer = starter
    model = Subject(plain.model, lambda: [part.to_quantized(64, bits) for part in plain.new()]) if bits else plain
    kept = PrefixCache(PLENTY, disk(tmp_path))
    messages = [
        {"role": "system", "content": "You answer in one short sentence."},
        {"role": "user", "content": "What is the capital of France?"},
        {"role": "assistant", "content": "The capital of France is Paris."},
    ]

    def asked(question: str) -> list[int]:
        chat = [*messages, {"role": "user", "content": question}]
        return list(tokenizer.apply_chat_template(chat, add_generation_prompt=True))

    first = list(tokenizer.apply_chat_template(messages[:2]))
    second, other = asked("And of Italy?"), asked("Who is it?")
    kept.put("", first, model.read(first))
    cold = model.answer(second, count=6).tokens
    found = found_in(kept, second)
    assert found.covered == len(first)
    assert model.answer(second, found, count=6).tokens == cold
    kept.put("", second + cold, found.caches)
    again = found_in(kept, second)
    assert again.covered == len(second) - 1
    assert model.answer(second, again, count=6).tokens == cold
    assert kept.save() == 1
    restored = found_in(PrefixCache(PLENTY, disk(tmp_path)), other)
    assert len(first) < restored.covered < len(second)
    assert model.answer(other, restored, count=6).tokens == model.answer(other, count=6).tokens
