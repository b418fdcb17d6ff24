"""``assistant doctor`` on machines that lack things."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from cli.conftest import Shell
from cli.fake_daemon import VOICE, FakeDaemon

from assistant.cli.doctor import report
from assistant.doctor import Check, Daemon, Machine, Survey, examine, find_library, find_module, run_process
from assistant.errors import DaemonError
from assistant.paths import Paths
from assistant.voice.checkup import Devices, Found, look, main
from assistant.voice.service import NEEDED
from assistant.wire import EngineInfo, PluginInfo

ENGINES = (
    EngineInfo(kind="llm", name="mlx", plugin="mlx", lane="gpu", selected=True),
    EngineInfo(kind="stt", name="moonshine", plugin="moonshine", lane="cpu", selected=True),
    EngineInfo(kind="tts", name="espeak", plugin="espeak", lane="cpu", selected=True),
)
SURVEY = Survey(plugins=(PluginInfo(name="mlx", version="1", distribution="a", state="loaded"),), engines=ENGINES)
DEVICES = Devices(microphone=Found(name="Desk microphone"), loudspeaker=Found(name="Loudspeaker"))
NO_DEVICES = Devices(
    microphone=Found(problem="there is no microphone", hint="connect one"),
    loudspeaker=Found(problem="there is no loudspeaker", hint="connect one"),
)
WAKE = [{"name": "hey_jarvis", "phrase": "hey jarvis", "selected": True, "reason": ""}]
SERVED = "for the sound server's devices"
MANAGERS = {"linux": "apt-get", "darwin": "brew"}


def machine(
    *,
    system: str = "linux",
    modules: Sequence[str] = ("mlx", "mlx_lm", "sounddevice", "espeakng_loader", *NEEDED),
    libraries: Sequence[str] = ("libopenblas.so.0", "portaudio"),
    programs: Sequence[str] = ("apt-get",),
    survey: tuple[int, str] = (0, msgspec.json.encode(SURVEY).decode()),
    mlx: tuple[int, str] = (0, "0.32.4 on the cpu"),
    free: int = 10**11,
    devices: tuple[int, str] = (0, msgspec.json.encode(DEVICES).decode()),
    wake: tuple[int, str] = (0, json.dumps(WAKE)),
) -> Machine:
    """A machine that has just these things."""
    runs = {"assistant.doctor": survey, "assistant.voice.checkup": devices, "wake": wake, "-c": mlx}
    return Machine(
        system=system,
        find_module=lambda name: name in modules,
        find_library=lambda name: name in libraries,
        find_program=lambda name: f"/usr/bin/{name}" if name in programs else None,
        run=lambda command: next(done for word, done in runs.items() if word in command),
        free_bytes=lambda folder: free,
    )


def checks(
    paths: Paths, machine: Machine, daemon: Daemon | None = None, problems: Sequence[str] = ()
) -> dict[str, Check]:
    """What is found, by name."""
    return {check.name: check for check in examine(paths, machine, daemon or Daemon(), problems)}


def test_a_machine_that_has_everything(paths: Paths) -> None:
    found = checks(paths, machine())
    warnings = {name for name, check in found.items() if check.state == "warn"}
    assert warnings == {"starter"}
    assert not any(check.state == "fail" for check in found.values())
    assert all(check.hint for check in found.values() if check.state != "ok")
    assert {"listening", "ear", "wake word", "microphone", "loudspeaker"} <= set(found)
    assert found["wake word"].message == "hey_jarvis"
    assert found["microphone"].message == "Desk microphone"
    assert "assistant models pull starter" in found["starter"].hint
    assert found["speech to text"].message == "moonshine"


@pytest.mark.parametrize(
    ("system", "manager", "name", "hint"),
    [
        ("linux", "apt-get", "openblas", "sudo apt install libopenblas0-pthread"),
        ("linux", "apt-get", "portaudio", "sudo apt install libportaudio2"),
        ("linux", "apt-get", "voice", "sudo apt install espeak-ng"),
        ("linux", "dnf", "openblas", "sudo dnf install openblas-threads"),
        ("linux", "dnf", "portaudio", "sudo dnf install portaudio"),
        ("linux", "dnf", "voice", "sudo dnf install espeak-ng"),
        ("darwin", "brew", "portaudio", "brew install portaudio"),
        ("darwin", "brew", "voice", "brew install espeak-ng"),
    ],
)
def test_missing_libraries_are_warnings_that_name_the_package(
    paths: Paths, system: str, manager: str, name: str, hint: str
) -> None:
    bare = machine(system=system, modules=("mlx", "mlx_lm", "sounddevice"), libraries=(), programs=(manager,))
    found = checks(paths, bare)
    assert (found[name].state, found[name].hint) == ("warn", hint)
    assert not any(check.state == "fail" for check in found.values()), "the typed assistant works all the same"


def test_without_a_known_package_manager_all_names_are_given(paths: Paths) -> None:
    hint = checks(paths, machine(libraries=(), programs=()))["portaudio"].hint
    assert hint == "sudo apt install libportaudio2 or sudo dnf install portaudio or brew install portaudio"


def test_a_mac_needs_neither_openblas_nor_portaudio_nor_espeak(paths: Paths) -> None:
    modules = ("mlx", "mlx_lm", "sounddevice", "_sounddevice_data")
    found = checks(paths, machine(system="darwin", modules=modules, libraries=(), programs=("say",)))
    assert "openblas" not in found
    assert (found["portaudio"].state, found["voice"].message) == ("ok", "macOS say")


def test_missing_and_broken_mlx_are_fails(paths: Paths) -> None:
    missing = checks(paths, machine(modules=("mlx",)))["mlx"]
    assert (missing.state, missing.message) == ("fail", "mlx_lm not installed")
    assert missing.hint.endswith("-m pip install 'mlx[cpu]' mlx-lm")
    broken = checks(paths, machine(mlx=(1, "Traceback\nImportError: libmlx.so")))["mlx"]
    assert (broken.state, broken.message) == ("fail", "it cannot be imported: ImportError: libmlx.so")


def test_old_python_is_a_fail(paths: Paths) -> None:
    assert checks(paths, replace(machine(), python=(3, 10, 4)))["python"].state == "fail"


def test_wrong_configuration_is_a_fail(paths: Paths) -> None:
    found = checks(paths, machine(), problems=["config.toml, line 3: [llm] modl: no", "another"])
    assert (found["config"].state, found["config"].hint) == ("fail", "assistant config check")
    assert found["config"].message == "config.toml, line 3: [llm] modl: no (and 1 more)"


def test_little_room_is_a_fail(paths: Paths) -> None:
    found = checks(paths, machine(free=100_000_000))["disk"]
    assert found.state == "fail"
    assert found.hint.startswith("free 300 MB")


def test_folder_in_the_way_is_a_fail(paths: Paths) -> None:
    paths.config.mkdir(parents=True)
    paths.data.write_text("a file where a folder should be")
    found = checks(paths, machine())["folders"]
    assert (found.state, str(paths.data) in found.message) == ("fail", True)


def test_failed_plugins_and_missing_engines_are_named(paths: Paths) -> None:
    failed = PluginInfo(name="odd", version="1", distribution="b", state="failed", reason="it raised")
    engines = (
        EngineInfo(kind="llm", name="mlx", plugin="mlx", lane="gpu", selected=False, unavailable="install mlx"),
        EngineInfo(kind="stt", name="whisper", plugin="w", lane="gpu", selected=True),
    )
    survey = msgspec.json.encode(Survey(plugins=(failed,), engines=engines)).decode()
    found = checks(paths, machine(survey=(0, survey)))
    assert (found["plugins"].state, found["plugins"].message) == ("warn", "odd failed: it raised")
    assert found["language model"].message == "none can run (mlx: install mlx)"
    assert found["language model"].state == "fail"
    assert found["speech to text"].state == "ok"
    assert found["text to speech"].state == "warn"


@pytest.mark.parametrize("survey", [(7, "boom"), (0, "hello"), (-1, "no answer within 60 s")])
def test_plugin_that_ends_the_process_is_found(paths: Paths, survey: tuple[int, str]) -> None:
    found = checks(paths, machine(survey=survey))["plugins"]
    assert found.state == "fail"
    assert survey[1] in found.message


def test_daemon_is_looked_at(paths: Paths, fake_daemon: FakeDaemon) -> None:
    status = fake_daemon.status()
    running = checks(paths, machine(), Daemon(status=status))
    assert running["daemon"].message == f"running as process {status.pid}"
    old = checks(paths, machine(), Daemon(status=msgspec.structs.replace(status, version="0.0.1")))["daemon"]
    assert (old.state, old.hint) == ("warn", "assistant down && assistant up")
    hung = checks(paths, machine(), Daemon(trouble=DaemonError("it hangs", hint="assistant logs")))["daemon"]
    assert (hung.state, hung.message) == ("fail", "it hangs")


def test_report_is_text_or_json_and_its_status_tells(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(machine(libraries=()), as_json=False) == 0
    shown = capsys.readouterr().out
    assert "warn  portaudio: PortAudio is missing" in shown
    assert "      → sudo apt install libportaudio2" in shown
    assert "The typed assistant works; 3 to know" in shown
    assert report(machine(modules=()), as_json=True) == 1
    found = json.loads(capsys.readouterr().out)
    assert {check["state"] for check in found} == {"ok", "warn", "fail"}


def test_this_machine_is_really_looked_at(shell: Shell, fake_daemon: FakeDaemon) -> None:
    fake_daemon.engines = ENGINES
    done = shell("doctor", "--json")
    found = {check["name"]: check for check in json.loads(done.out)}
    assert done.code == int(any(check["state"] == "fail" for check in found.values()))
    assert found["python"]["state"] == "ok"
    assert found["daemon"]["message"].startswith("running as process")
    assert found["language model"]["message"] == "mlx"


def test_missing_packages_for_listening_are_named(paths: Paths) -> None:
    found = checks(paths, machine(modules=("mlx", "mlx_lm", "sounddevice", "numpy", "soxr")))["listening"]
    assert (found.state, found.message) == ("warn", "onnxruntime, pywebrtc-audio not installed")
    assert found.hint.endswith("-m pip install onnxruntime pywebrtc-audio")


def test_models_of_the_ear_are_looked_for(paths: Paths, silero_model: Path, smart_turn_model: Path) -> None:
    absent = checks(paths, machine())["ear"]
    assert (absent.state, absent.hint) == ("ok", "assistant models pull silero-vad")
    paths.models.mkdir(parents=True)
    for model in (silero_model, smart_turn_model):
        (paths.models / model.name).symlink_to(model)
    assert checks(paths, machine())["ear"].message == f"silero-vad and smart-turn are in {paths.models}"


@pytest.mark.parametrize(
    ("wake", "words"),
    [
        ((0, json.dumps([{**WAKE[0], "reason": "its package is missing"}])), "hey_jarvis: its package is missing"),
        ((1, "boom\nerror: it is broken"), "they cannot be listed: error: it is broken"),
        ((0, "hello"), "they cannot be listed: hello"),
    ],
)
def test_wake_words_that_cannot_work_are_warnings(paths: Paths, wake: tuple[int, str], words: str) -> None:
    found = checks(paths, machine(wake=wake))["wake word"]
    assert (found.state, found.message, found.hint) == ("warn", words, "assistant wake list")


def test_no_wake_word_is_said_plainly(paths: Paths) -> None:
    found = checks(paths, machine(wake=(0, json.dumps([{**WAKE[0], "selected": False}]))))["wake word"]
    assert (found.state, found.message) == ("ok", "none is configured: it answers everything that it hears")


@pytest.mark.parametrize(
    ("system", "programs", "hint"),
    [
        ("linux", ("apt-get", "pactl"), f"connect one; {SERVED}: sudo apt install libasound2-plugins"),
        ("linux", ("dnf", "wpctl"), f"connect one; {SERVED}: sudo dnf install alsa-plugins-pulseaudio"),
        ("linux", ("apt-get",), "connect one"),
        ("darwin", ("brew", "say"), "connect one"),
    ],
)
def test_missing_devices_are_warnings(paths: Paths, system: str, programs: Sequence[str], hint: str) -> None:
    none = machine(system=system, programs=programs, devices=(0, msgspec.json.encode(NO_DEVICES).decode()))
    found = checks(paths, none)
    for name in ("microphone", "loudspeaker"):
        assert (found[name].state, found[name].message) == ("warn", f"there is no {name}")
        assert found[name].hint == hint


def test_a_mac_is_told_of_the_permission(paths: Paths) -> None:
    found = checks(paths, machine(system="darwin", programs=("say",)))["microphone"]
    assert (found.state, "Privacy & Security" in found.hint) == ("ok", True)


@pytest.mark.parametrize("devices", [(-1, "no answer within 60 s"), (0, "ALSA lib: nonsense")])
def test_portaudio_that_hangs_is_a_warning(paths: Paths, devices: tuple[int, str]) -> None:
    found = checks(paths, machine(devices=devices))["microphone"]
    assert (found.state, devices[1] in found.message) == ("warn", True)


def test_a_daemon_that_listens_is_believed(paths: Paths, fake_daemon: FakeDaemon) -> None:
    fake_daemon.voice = VOICE
    found = checks(paths, machine(devices=(1, "boom")), Daemon(status=fake_daemon.status()))
    assert (found["microphone"].message, found["loudspeaker"].message) == ("open: Desk microphone", "Loudspeaker")


def test_devices_are_looked_for_by_their_names(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    missing = look("no such device", "")
    assert missing.microphone.problem == 'no microphone has "no such device" in its name'
    assert "[voice] input_device" in missing.microphone.hint
    assert bool(missing.loudspeaker.name) != bool(missing.loudspeaker.problem)
    assert main(["no such device", ""]) == 0
    assert msgspec.json.decode(capfdbinary.readouterr().out.splitlines()[-1], type=Devices) == missing


def test_seams_tell_the_truth(tmp_path: Path) -> None:
    assert find_module("json")
    assert not find_module("no_such_module.at_all")
    assert not find_library("libnosuchthing.so.9")
    assert not find_library("nosuchthing")
    assert run_process(["sh", "-c", "echo out; echo err >&2; exit 3"]) == (3, "err")
    assert run_process(["sh", "-c", "echo out; echo err >&2"]) == (0, "out")
