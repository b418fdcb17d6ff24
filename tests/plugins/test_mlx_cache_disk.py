"""Kept prompts on the disk: restarts, budgets, damaged and foreign files, processes that share a folder."""

from __future__ import annotations

import logging
import os
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from assistant_mlx.cache.disk import ABANDONED, fingerprint
from assistant_mlx.cache.prefix import DISK_GAIN, PrefixCache
from cachekit import (
    FIRST,
    KINDS,
    OTHER,
    PLENTY,
    SECOND,
    SYSTEM,
    disk,
    files,
    found_in,
    same,
    subject,
    uncompiled,
    words,
)
from model_fixtures import scripted_model


@pytest.fixture(scope="module", autouse=True)
def _mlx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with uncompiled(tmp_path_factory.mktemp("model")):
        yield


@pytest.mark.parametrize("kind", KINDS)
def test_after_a_restart_the_disk_goes_on(kind: str, tmp_path: Path) -> None:
    model, kept = subject(kind), PrefixCache(PLENTY, disk(tmp_path))
    kept.put("", FIRST, model.read(FIRST))
    kept.snapshot("", SYSTEM[:10], model.read(SYSTEM[:10]))
    assert kept.save() == 2
    assert kept.save() == 0, "what is on the disk is not written again"
    later = PrefixCache(PLENTY, disk(tmp_path))
    found = found_in(later, SECOND)
    assert found.covered == len(FIRST)
    assert same(model.answer(SECOND, found), model.answer(SECOND))


@pytest.mark.parametrize("kind", ["plain", "rotating", "sliding", "mixed"])
def test_what_comes_from_the_disk_can_join_a_batch(kind: str, tmp_path: Path) -> None:
    import mlx.core as mx
    from mlx_lm.generate import BatchGenerator, generation_stream

    model, kept = subject(kind), PrefixCache(PLENTY, disk(tmp_path))
    kept.put("", FIRST, model.read(FIRST))
    kept.save()
    with mx.stream(generation_stream):
        found = found_in(PrefixCache(PLENTY, disk(tmp_path)), SECOND)
    batch = BatchGenerator(model.model, max_tokens=6, prefill_step_size=16)
    uids = batch.insert([SECOND[found.covered :], FIRST[:9]], caches=[found.caches, model.new()])
    told: dict[int, list[int]] = {uid: [] for uid in uids}
    while any(len(tokens) < 6 for tokens in told.values()):
        for step in batch.next_generated():
            told[step.uid].append(step.token)
    batch.close()
    assert told[uids[0]] == model.answer(SECOND, count=6).tokens


def test_a_conversation_that_grew_replaces_its_file(tmp_path: Path) -> None:
    model, kept = subject("mixed"), PrefixCache(PLENTY, disk(tmp_path))
    kept.snapshot("", SYSTEM, model.read(SYSTEM))
    kept.put("", FIRST, model.read(FIRST))
    kept.save()
    found = found_in(kept, SECOND)
    kept.put("", SECOND, model.read(SECOND[found.covered :], found.caches))
    assert kept.save() == 1
    assert len(files(tmp_path)) == 2
    later = PrefixCache(PLENTY, disk(tmp_path))
    assert found_in(later, [*SECOND, 1]).covered == len(SECOND)
    assert later.find("", FIRST[:30]) is None, "20 tokens less than the disk is read for"
    assert found_in(PrefixCache(PLENTY, disk(tmp_path)), [*SECOND, 1]).covered == len(SECOND), "it is still there"


def test_a_snapshot_from_the_disk_stays_in_memory(tmp_path: Path) -> None:
    model, kept = subject("recurrent"), PrefixCache(PLENTY, disk(tmp_path))
    kept.snapshot("", FIRST, model.read(FIRST))
    kept.save()
    later = PrefixCache(PLENTY, disk(tmp_path))
    assert later.nbytes == 0
    for prompt in (SECOND, [*FIRST, 1, 2]):
        found = found_in(later, prompt)
        assert found.covered == len(FIRST)
        assert same(model.answer(prompt, found), model.answer(prompt))
        for path in files(tmp_path):
            path.unlink()
    assert later.save() == 1, "its file had vanished"


def test_a_long_file_is_not_read_for_a_few_tokens(tmp_path: Path) -> None:
    model, kept = subject("plain"), PrefixCache(PLENTY, disk(tmp_path))
    long = words(DISK_GAIN * 8 + 8)
    kept.put("", long, model.read(long))
    kept.save()
    later = PrefixCache(PLENTY, disk(tmp_path))
    assert later.find("", [*long[:DISK_GAIN], 96, 96]) is None
    found = found_in(later, [*long[: DISK_GAIN + 2], 96, 96])
    assert found.covered == DISK_GAIN + 2
    later.put("", long[:100], model.read(long[:100]))
    assert found_in(later, [*long[:120], 96]).covered == 100, "20 tokens more are not worth it"


def test_the_disk_keeps_what_was_used_last(tmp_path: Path) -> None:
    model = subject("plain")
    prompts = [words(40, seed=seed) for seed in (1, 2, 3, 4)]
    kept = PrefixCache(PLENTY, disk(tmp_path))
    kept.put("", prompts[0], model.read(prompts[0]))
    kept.save()
    one = files(tmp_path)[0].stat().st_size
    budget = 3 * one + 4096
    kept = PrefixCache(PLENTY, disk(tmp_path, budget))
    for prompt in prompts[1:3]:
        kept.put("", prompt, model.read(prompt))
    assert kept.save() == 2
    assert kept.find("", prompts[0]) is not None
    kept.put("", prompts[3], model.read(prompts[3]))
    assert kept.save() == 1
    assert sum(path.stat().st_size for path in files(tmp_path)) <= budget
    later = PrefixCache(PLENTY, disk(tmp_path))
    assert [later.find("", prompt) is not None for prompt in prompts] == [True, False, True, True]


def test_a_small_disk_takes_the_newest(tmp_path: Path) -> None:
    model = subject("plain")
    prompts = [words(40, seed=seed) for seed in (1, 2, 3)]
    kept = PrefixCache(PLENTY, disk(tmp_path, 2 * (40 * 520 + 4096)))
    for prompt in prompts:
        kept.put("", prompt, model.read(prompt))
    assert kept.save() == 2
    assert kept.save() == 0
    later = PrefixCache(PLENTY, disk(tmp_path))
    assert [later.find("", prompt) is not None for prompt in prompts] == [False, True, True]
    assert PrefixCache(PLENTY, disk(tmp_path, 100)).save() == 0


def _flip(place: Callable[[bytes], int]) -> Callable[[bytes], bytes]:
    def flipped(raw: bytes) -> bytes:
        at = place(raw)
        return raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]

    return flipped


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda raw: b"",
    "cut in the header": lambda raw: raw[:100],
    "cut in the data": lambda raw: raw[:-100],
    "longer": lambda raw: raw + b"more",
    "not ours": lambda raw: os.urandom(len(raw)),
    "bit in the length": _flip(lambda raw: 0),
    "high bit of the length": _flip(lambda raw: 7),
    "bit in a shape": _flip(lambda raw: raw.index(b'"shape":[') + 9),
    "bit in a type": _flip(lambda raw: raw.index(b'"F32"') + 2),
    "bit in the tokens": _flip(lambda raw: raw.index(b"tokens") + 20),
    "bit in the data": _flip(lambda raw: len(raw) - 1),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("when", ["before the start", "after the start"])
def test_a_damaged_file_is_logged_once_and_removed(
    damage: str, when: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model, kept = subject("plain"), PrefixCache(PLENTY, disk(tmp_path))
    kept.put("", FIRST, model.read(FIRST))
    kept.save()
    (victim,) = files(tmp_path)
    neighbour = words(50, seed=9)
    kept.put("", neighbour, model.read(neighbour))
    kept.save()
    later = PrefixCache(PLENTY, disk(tmp_path)) if when == "after the start" else None
    victim.write_bytes(DAMAGE[damage](victim.read_bytes()))
    later = later or PrefixCache(PLENTY, disk(tmp_path))
    assert later.find("", SECOND) is None
    assert later.find("", SECOND) is None
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [victim.name in record.getMessage() for record in warnings] == [True]
    assert not victim.exists()
    assert same(model.answer(neighbour, found_in(later, neighbour)), model.answer(neighbour))


def test_files_that_are_not_kept_prompts_are_removed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import mlx.core as mx

    mx.save_safetensors(str(tmp_path / "weights.safetensors"), {"a": mx.ones((2,))})
    name = f"{'0' * 32}-00000000-00000000.safetensors"
    mx.save_safetensors(str(tmp_path / name), {"a": mx.ones((2,))})
    (tmp_path / "notes.txt").write_text("mine")
    young, old = (tmp_path / f"{letter * 32}.writing.safetensors" for letter in "ab")
    for path in (young, old):
        path.write_bytes(b"half")
    then = time.time() - ABANDONED - 60
    os.utime(old, (then, then))
    assert disk(tmp_path).entries("") == []
    assert {path.name for path in files(tmp_path)} == {"notes.txt", young.name}
    assert "weights.safetensors is ignored and removed: it is not a kept prompt" in caplog.text
    assert name in caplog.text


def test_files_of_another_version_are_removed_and_those_of_another_model_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = subject("plain")
    for mark in ("ours-1", "theirs-1"):
        kept = PrefixCache(PLENTY, disk(tmp_path, mark=mark))
        kept.put("", FIRST, model.read(FIRST))
        assert kept.save() == 1
    updated = PrefixCache(PLENTY, disk(tmp_path, mark="ours-2"))
    assert updated.find("", SECOND) is None
    assert "1 kept prompts of another version of the model were removed" in caplog.text
    assert len(files(tmp_path)) == 1
    assert found_in(PrefixCache(PLENTY, disk(tmp_path, mark="theirs-1")), SECOND).covered == len(FIRST)


def test_the_fingerprint_tells_models_and_their_versions_apart(tmp_path: Path) -> None:
    folders = [scripted_model(tmp_path / name, ["yes"]) for name in "ab"]
    marks = [fingerprint(folder, "float32") for folder in folders]
    assert marks[0] == fingerprint(folders[0], "float32")
    assert marks[0].split("-")[0] != marks[1].split("-")[0]
    versions = {marks[0], fingerprint(folders[0], "float16")}
    os.utime(folders[0] / "model.safetensors", (1, 1))
    versions.add(fingerprint(folders[0], "float32"))
    (folders[0] / "config.json").write_text("{}")
    versions.add(fingerprint(folders[0], "float32"))
    assert len(versions) == 4
    assert len({version.split("-")[0] for version in versions}) == 1


def test_two_processes_share_a_folder(tmp_path: Path) -> None:
    model = subject("plain")
    one, two = (PrefixCache(PLENTY, disk(tmp_path)) for _ in range(2))
    mine, yours = words(40, seed=1), words(40, seed=2)
    one.put("", mine, model.read(mine))
    two.put("", yours, model.read(yours))
    two.put("", mine, model.read(mine))
    assert (one.save(), two.save()) == (1, 2)
    three = PrefixCache(PLENTY, disk(tmp_path))
    grown = mine + words(20, seed=3)
    one.put("", grown, model.read(grown))
    assert one.save() == 1
    assert found_in(three, grown).covered == len(mine), "the other process's file of the same prompt"
    for path in files(tmp_path):
        path.unlink()
    assert three.find("", yours) is None
    assert three.find("", grown) is None
    assert same(model.answer(grown, found_in(one, grown)), model.answer(grown))
    assert one.save() == 1


def test_a_full_disk_is_told_once_and_everything_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model, kept = subject("plain"), PrefixCache(PLENTY, disk(tmp_path))
    for prompt in (FIRST, OTHER):
        kept.put("", prompt, model.read(prompt))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
    try:
        assert kept.save() == 0
        assert kept.save() == 0
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "cannot be kept" in warnings[0].getMessage()
    assert files(tmp_path) == []
    assert kept.save() == 2
    assert found_in(kept, SECOND).covered == len(FIRST)


def test_a_folder_that_cannot_be_made_is_told_and_does_no_harm(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "prompts").write_text("a file")
    model, kept = subject("plain"), PrefixCache(PLENTY, disk(tmp_path / "prompts"))
    kept.put("", FIRST, model.read(FIRST))
    assert kept.save() == 0
    assert found_in(kept, SECOND).covered == len(FIRST)
    assert "prompts cannot be kept in" in caplog.text


def test_only_the_owner_can_read_the_files(tmp_path: Path) -> None:
    kept = PrefixCache(PLENTY, disk(tmp_path / "prompts"))
    kept.put("", FIRST, subject("plain").read(FIRST))
    kept.save()
    assert (tmp_path / "prompts").stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o777 for path in files(tmp_path / "prompts")] == [0o600]
