"""Naming, fetching, listing and removing models."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import anyio
import loopback
import pytest
from model_fixtures import scripted_model

from assistant.errors import ModelDownloadFailed, ModelError, ModelNotFound, ModelTooLarge
from assistant.events import Event, ModelProgressed
from assistant.models import Models
from assistant.models.manifest import MANIFEST

pytestmark = pytest.mark.anyio

FILES = {
    "config.json": b'{"model_type": "llama"}', "model.safetensors": b"w" * 5000, "tokenizer.json": b"{}",
    "modeling.py": b"raise SystemExit", "onnx/model.onnx": b"o" * 100,
}


def quiet(event: Event) -> None:
    """Nobody listens."""


@pytest.fixture(autouse=True)
def hub_of_our_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reaches the real hub."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


async def test_a_folder_is_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = scripted_model(tmp_path / "mine", ["ok"])
    models = Models(tmp_path / "models", quiet)
    assert await models.resolve(str(folder)) == folder
    monkeypatch.setenv("HOME", str(tmp_path))
    assert await models.resolve("~/mine") == folder
    info = models.info(str(folder))
    assert (info.present, info.folder) == (True, str(folder))
    assert info.bytes > 1000
    with pytest.raises(ModelError, match="was not fetched by the assistant"):
        await models.remove(str(folder))
    assert (folder / "config.json").exists()


async def test_a_folder_without_a_model_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"config\.json is missing"):
        await Models(tmp_path / "models", quiet).resolve(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("startr", "did you mean 'starter'"), ("silero", "did you mean 'silero-vad'"),
        ("mlx-community/Llama-3", "hf:mlx-community/Llama-3"),
        ("hf:nothing", "hf:organisation/name"), ("hf:../../etc", "hf:organisation/name"), ("/no/such/folder", "path"),
        ("", "starter"), ("hf:a/..", "hf:organisation/name"), ("hf:a/b/c", "hf:organisation/name"),
    ],
)
async def test_an_unknown_name_comes_with_the_nearest(tmp_path: Path, name: str, hint: str) -> None:
    models = Models(tmp_path, quiet)
    with pytest.raises(ModelNotFound) as caught:
        await models.resolve(name)
    assert hint in caught.value.hint
    with pytest.raises(ModelNotFound):
        models.info(name)


async def test_a_models_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("not a folder")
    with pytest.raises(ModelDownloadFailed, match=r"models folder .* cannot be written"):
        await Models(tmp_path / "models", quiet).resolve("starter")


async def test_a_hub_that_cannot_be_reached(tmp_path: Path) -> None:
    models = tmp_path / "models"
    with pytest.raises(ModelDownloadFailed, match="hub cannot be reached for hf:org/tiny") as caught:
        await Models(models, quiet).resolve("hf:org/tiny")
    assert "starter" in caught.value.hint
    assert not caught.value.permanent
    assert [path.name for path in models.iterdir()] == [".lock-hf--org--tiny"]


async def test_a_model_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[ModelProgressed] = []

    def publish(event: Event) -> None:
        assert isinstance(event, ModelProgressed)
        events.append(event)

    models = Models(tmp_path / "models", publish)
    site = loopback.hub("org/tiny", FILES)
    with loopback.serving(site) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        folder = await models.resolve("hf:org/tiny")
        served = len(site.hits)
        assert await models.resolve("hf:org/tiny") == folder
        assert len(site.hits) == served
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["assistant.json", "config.json", "model.safetensors", "tokenizer.json"]
    assert [event.phase for event in events][-2:] == ["verify", "ready"]
    assert events[0].total == sum(len(FILES[name]) for name in ("config.json", "model.safetensors", "tokenizer.json"))
    starter, silero, smart_turn, moonshine, tiny = models.known()
    assert (starter.name, starter.present) == ("starter", False)
    assert starter.bytes > 90_000_000
    assert (silero.name, silero.present, silero.licence, silero.bytes) == ("silero-vad", False, "MIT", 11_317_527)
    assert (moonshine.name, moonshine.present, moonshine.licence) == ("moonshine-tiny", False, "MIT")
    assert (smart_turn.name, smart_turn.licence) == ("smart-turn", "BSD-2-Clause")
    assert "turn is complete" in smart_turn.note
    assert (tiny.name, tiny.present, tiny.folder) == ("hf:org/tiny", True, str(folder))
    assert loopback.COMMIT in tiny.note
    await models.remove("hf:org/tiny")
    assert not folder.exists()
    assert [info.name for info in models.known()] == ["starter", "silero-vad", "smart-turn", "moonshine-tiny"]
    with pytest.raises(ModelNotFound, match="not on the disk"):
        await models.remove("hf:org/tiny")


async def test_a_repository_that_does_not_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with loopback.serving(loopback.hub("org/tiny", FILES)) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        with pytest.raises(ModelNotFound, match="has no model 'org/other'"):
            await Models(tmp_path / "models", quiet).resolve("hf:org/other")


async def test_a_repository_without_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with loopback.serving(loopback.hub("org/tiny", {"config.json": b"{}", "pytorch_model.bin": b"x"})) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        with pytest.raises(ModelNotFound, match=r"weights \(\*\.safetensors\) missing"):
            await Models(tmp_path / "models", quiet).resolve("hf:org/tiny")


async def test_a_model_too_large_for_this_machine_is_not_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = loopback.hub("org/huge", FILES)
    for path in ("/api/models/org/huge", "/api/models/org/huge/revision/main"):
        kind, body = site.bodies[path]
        site.bodies[path] = (kind, body.replace(b'"size": 5000', b'"size": 900000000000000'))
    models = Models(tmp_path / "models", quiet)
    with loopback.serving(site) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        with pytest.raises(ModelTooLarge, match=r"org/huge needs 900000\.0 GB for its weights alone") as refused:
            await models.resolve("hf:org/huge")
        assert "pull --force" in refused.value.hint
        assert not any("/resolve/" in hit for hit in site.hits)
        with pytest.raises(ModelDownloadFailed, match="the disk is too full"):
            await models.resolve("hf:org/huge", force=True)


async def test_a_file_that_arrives_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = {**FILES, "model.safetensors": b"x" * 5000}
    with loopback.serving(loopback.hub("org/tiny", damaged, listed=FILES)) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        with pytest.raises(ModelDownloadFailed, match=r"model\.safetensors arrived damaged"):
            await Models(tmp_path / "models", quiet).resolve("hf:org/tiny")
    assert not list((tmp_path / "models").glob("*hf--org--tiny*/"))


@pytest.mark.parametrize("damage", ["missing", "truncated", "other format", "no manifest"])
async def test_a_damaged_folder_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    models = Models(tmp_path / "models", quiet)
    with loopback.serving(loopback.hub("org/tiny", FILES)) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        folder = await models.resolve("hf:org/tiny")
        weights, manifest = folder / "model.safetensors", folder / MANIFEST
        if damage == "missing":
            weights.unlink()
        elif damage == "truncated":
            weights.write_bytes(b"w")
        elif damage == "other format":
            manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 0}))
        else:
            manifest.unlink()
        assert not models.info("hf:org/tiny").present
        assert await models.resolve("hf:org/tiny") == folder
    assert weights.read_bytes() == FILES["model.safetensors"]
    assert models.info("hf:org/tiny").present
    assert [path.name for path in (tmp_path / "models").iterdir() if path.name[:2] != ".l"] == [folder.name]


async def test_callers_of_one_name_share_one_fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = loopback.hub("org/tiny", FILES)
    folders: list[Path] = []

    async def resolve(models: Models) -> None:
        folders.append(await models.resolve("hf:org/tiny"))

    with loopback.serving(site) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        one, other = Models(tmp_path / "models", quiet), Models(tmp_path / "models", quiet)
        async with anyio.create_task_group() as tasks:
            for models in (one, one, other):
                tasks.start_soon(resolve, models)
    assert len(set(folders)) == 1
    assert len(folders) == 3
    assert len([hit for hit in site.hits if hit.startswith("GET") and hit.endswith("model.safetensors")]) == 1


def test_a_start_sweeps_what_the_dead_left_but_not_what_the_living_hold(tmp_path: Path) -> None:
    for name in (".partial-hf--org--dead-abc1", ".partial-hf--org--alive-abc2", ".removed-starter-abc3", "starter"):
        (tmp_path / name / "model").mkdir(parents=True)
    script = (
        "import fcntl, sys; file = open(sys.argv[1], 'wb'); fcntl.flock(file, fcntl.LOCK_EX)\n"
        "print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / ".lock-hf--org--alive")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        Models(tmp_path, quiet)
        left = {path.name for path in tmp_path.iterdir() if not path.name.startswith(".lock-")}
        assert left == {".partial-hf--org--alive-abc2", "starter"}
        holder.kill()
    Models(tmp_path, quiet)
    assert {path.name for path in tmp_path.iterdir() if path.name.startswith(".p")} == set()


def test_importing_it_is_light() -> None:
    script = (
        "import sys, assistant.models\n"
        "print(sorted({'mlx', 'mlx.core', 'huggingface_hub', 'numpy', 'httpx', 'anyio'} & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", script], text=True) == "[]\n"
