"""What this machine has and lacks: one check a line, each with the exact thing to do about it.

``examine`` asks the machine only through a ``Machine``. Run as a module, this file prints a ``Survey`` of the plugins:
they are foreign code, so the examination looks at them in a process of their own.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from .blas import LIBRARIES
from .errors import AssistantError
from .paths import Paths
from .wire import EngineInfo, PluginInfo, Status

State = Literal["ok", "warn", "fail"]

OLDEST_PYTHON = (3, 11)
MODEL_BYTES = 400_000_000
"""Free space that fetching and converting the starter model needs for a while."""
ROOM_BYTES = 50_000_000
"""Free space below which conversations may soon not be stored."""
PROCESS_SECONDS = 60.0
"""How long a process may take that is started to see whether it can."""


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One finding."""

    name: str
    state: State
    message: str
    hint: str = ""
    """What to do about it."""


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """The plugins, and the engines that they offer."""

    plugins: tuple[PluginInfo, ...] = ()
    engines: tuple[EngineInfo, ...] = ()


@dataclass(frozen=True)
class Packages:
    """What a piece of software is called by each package manager; empty: not there."""

    apt: str = ""
    dnf: str = ""
    brew: str = ""

    def install(self, machine: Machine) -> str:
        """The command that installs it here, or one for each manager where none is found."""
        commands = {
            "apt-get": f"sudo apt install {self.apt}" if self.apt else "",
            "dnf": f"sudo dnf install {self.dnf}" if self.dnf else "",
            "brew": f"brew install {self.brew}" if self.brew else "",
        }
        names = ("brew",) if machine.system == "darwin" else ("apt-get", "dnf", "brew")
        for name in names:
            if commands[name] and machine.find_program(name):
                return commands[name]
        return " or ".join(commands[name] for name in names if commands[name])


OPENBLAS = Packages(apt="libopenblas0-pthread", dnf="openblas-threads")
PORTAUDIO = Packages(apt="libportaudio2", dnf="portaudio", brew="portaudio")
ESPEAK = Packages(apt="espeak-ng", dnf="espeak-ng", brew="espeak-ng")


def find_module(name: str) -> bool:
    """Whether a module could be imported, without importing it."""
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def find_library(name: str) -> bool:
    """Whether the dynamic loader finds a shared library: a file name, or the bare name of one."""
    import ctypes.util

    known = name if ".so" in name or name.endswith(".dylib") else ctypes.util.find_library(name)
    if not known:
        return False
    try:
        ctypes.CDLL(known)
    except OSError:
        return False
    return True


def run_process(command: Sequence[str]) -> tuple[int, str]:
    """The exit status and the output of a command; the error output if it failed. A signal gives its number negated."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=PROCESS_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return -1, f"no answer within {PROCESS_SECONDS:.0f} s"
    return done.returncode, (done.stderr if done.returncode else done.stdout).decode(errors="replace").strip()


@dataclass(frozen=True)
class Machine:
    """What the checks ask of the machine."""

    system: str = sys.platform
    python: tuple[int, ...] = sys.version_info[:3]
    find_module: Callable[[str], bool] = find_module
    find_library: Callable[[str], bool] = find_library
    find_program: Callable[[str], str | None] = shutil.which
    run: Callable[[Sequence[str]], tuple[int, str]] = run_process
    free_bytes: Callable[[Path], int] = field(default=lambda folder: shutil.disk_usage(folder).free)


@dataclass(frozen=True)
class Daemon:
    """What is known of the daemon."""

    status: Status | None = None
    """None: it is down, or ``trouble`` says what is wrong with it."""
    plugins: tuple[PluginInfo, ...] = ()
    trouble: AssistantError | None = None


def examine(paths: Paths, machine: Machine, daemon: Daemon, problems: Sequence[str]) -> Iterator[Check]:
    """Every check in the order of importance, each as it is done.

    Args:
        problems: what is wrong with the configuration, a sentence each.
    """
    yield _python(machine)
    yield _mlx(machine)
    if machine.system == "linux":
        yield _openblas(machine)
    yield _configuration(paths, problems)
    yield from _folders(paths)
    yield from _starter(paths, machine)
    yield _socket(paths)
    yield _running(daemon)
    if not problems:
        survey = _survey(machine, daemon)
        yield from _plugins(survey)
        yield from _engines(survey) if isinstance(survey, Survey) else ()
    yield _portaudio(machine)
    yield _voice(machine)
    if not problems:
        yield from _listening(paths, machine, daemon)


def _python(machine: Machine) -> Check:
    version = ".".join(map(str, machine.python))
    if machine.python[:2] >= OLDEST_PYTHON:
        return Check(name="python", state="ok", message=version)
    return Check(name="python", state="fail", message=f"{version} is too old", hint="install Python 3.11 or newer")


def _mlx(machine: Machine) -> Check:
    package = "'mlx[cpu]' mlx-lm" if machine.system == "linux" else "mlx mlx-lm"
    hint = f"{sys.executable} -m pip install {package}"
    missing = [name for name in ("mlx", "mlx_lm") if not machine.find_module(name)]
    if missing:
        return Check(name="mlx", state="fail", message=f"{', '.join(missing)} not installed", hint=hint)
    code = "import mlx.core as mx; print(mx.__version__, 'on the', str(mx.default_device().type).rpartition('.')[2])"
    status, output = machine.run([sys.executable, "-P", "-c", code])
    if status:
        last = output.splitlines()[-1] if output else f"exit status {status}"
        return Check(name="mlx", state="fail", message=f"it cannot be imported: {last}", hint=hint)
    return Check(name="mlx", state="ok", message=output)


def _openblas(machine: Machine) -> Check:
    if found := next(filter(machine.find_library, LIBRARIES), ""):
        return Check(name="openblas", state="ok", message=found)
    message = "OpenBLAS is missing: long prompts are read about ten times slower"
    return Check(name="openblas", state="warn", message=message, hint=OPENBLAS.install(machine))


def _portaudio(machine: Machine) -> Check:
    bundled = machine.system == "darwin" and machine.find_module("_sounddevice_data")
    if not machine.find_module("sounddevice"):
        hint = f"{sys.executable} -m pip install sounddevice"
        return Check(name="portaudio", state="warn", message="sounddevice is not installed: no sound", hint=hint)
    if bundled or machine.find_library("portaudio"):
        return Check(name="portaudio", state="ok", message="PortAudio is installed")
    message = "PortAudio is missing: no microphone and no loudspeaker; audio files work"
    return Check(name="portaudio", state="warn", message=message, hint=PORTAUDIO.install(machine))


def _voice(machine: Machine) -> Check:
    if machine.system == "darwin" and machine.find_program("say"):
        return Check(name="voice", state="ok", message="macOS say")
    if machine.find_module("espeakng_loader"):
        return Check(name="voice", state="ok", message="espeak-ng from the package espeakng-loader")
    if machine.find_program("espeak-ng"):
        return Check(name="voice", state="ok", message="espeak-ng of the system")
    message = "espeak-ng is missing: answers cannot be spoken"
    return Check(name="voice", state="warn", message=message, hint=ESPEAK.install(machine))


def _listening(paths: Paths, machine: Machine, daemon: Daemon) -> Iterator[Check]:
    from . import config
    from .voice import checkup

    try:
        settings = config.load(paths)
    except AssistantError:
        return
    yield from checkup.examine(paths, settings.voice, machine, daemon)


def _configuration(paths: Paths, problems: Sequence[str]) -> Check:
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        hint = "assistant config check"
        return Check(name="config", state="fail", message=f"{problems[0]}{more}", hint=hint)
    where = str(paths.config_file) if paths.config_file.is_file() else "no file, all defaults"
    return Check(name="config", state="ok", message=where)


def _folders(paths: Paths) -> Iterator[Check]:
    closed = [
        folder
        for folder in (paths.config, paths.data, paths.state, paths.cache, paths.runtime)
        if not _writable(folder)
    ]
    for folder in closed:
        hint = f"sudo chown -R {os.getuid()} {_existing(folder)}, or set ASSISTANT_HOME to a folder of yours"
        yield Check(name="folders", state="fail", message=f"{folder} cannot be written", hint=hint)
    if not closed:
        yield Check(name="folders", state="ok", message=f"{paths.data} can be written")


def _writable(folder: Path) -> bool:
    existing = _existing(folder)
    if existing != folder:
        return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _existing(folder: Path) -> Path:
    """The folder, or the innermost one above it that is there."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def _starter(paths: Paths, machine: Machine) -> Iterator[Check]:
    from .models import Models

    model = Models(paths.models, lambda event: None).info("starter")
    free = machine.free_bytes(_existing(paths.data))
    needed = ROOM_BYTES if model.present else MODEL_BYTES
    megabytes = f"{free / 1e6:,.0f} MB free"
    if free < needed:
        hint = f"free {(needed - free) / 1e6:,.0f} MB in {_existing(paths.data)}, or set ASSISTANT_HOME"
        yield Check(name="disk", state="fail", message=f"{megabytes}; {needed / 1e6:.0f} MB are needed", hint=hint)
    else:
        yield Check(name="disk", state="ok", message=megabytes)
    if model.present:
        yield Check(name="starter", state="ok", message=f"the starter model is in {model.folder}")
    else:
        message = "the starter model is not here yet: the first question fetches it"
        yield Check(name="starter", state="warn", message=message, hint="assistant models pull starter")


def _socket(paths: Paths) -> Check:
    folder = paths.socket.parent
    if folder.exists() and folder.stat().st_uid != os.getuid():
        hint = "set ASSISTANT_HOME to a folder of yours"
        return Check(name="socket", state="fail", message=f"{folder} belongs to somebody else", hint=hint)
    moved = "" if folder == paths.runtime else f" ({paths.runtime} is too long for a socket)"
    return Check(name="socket", state="ok", message=f"{paths.socket}{moved}")


def _running(daemon: Daemon) -> Check:
    from . import __version__

    if daemon.trouble is not None:
        return Check(name="daemon", state="fail", message=daemon.trouble.message, hint=daemon.trouble.hint)
    if daemon.status is None:
        return Check(name="daemon", state="ok", message="not running; the first question starts it")
    status = daemon.status
    if status.version != __version__:
        message = f"version {status.version} is running, {__version__} is installed"
        return Check(name="daemon", state="warn", message=message, hint="assistant down && assistant up")
    return Check(name="daemon", state="ok", message=f"running as process {status.pid}")


def _survey(machine: Machine, daemon: Daemon) -> Survey | str:
    if daemon.status is not None:
        return Survey(plugins=daemon.plugins, engines=daemon.status.engines)
    status, output = machine.run([sys.executable, "-P", "-m", "assistant.doctor"])
    try:
        return msgspec.json.decode(output, type=Survey) if not status else f"exit status {status}: {_last(output)}"
    except msgspec.MsgspecError as error:
        return f"{error}: {_last(output)}"


def _plugins(survey: Survey | str) -> Iterator[Check]:
    if isinstance(survey, str):
        message = f"loading the plugins ends or stalls the process: {survey}"
        yield Check(name="plugins", state="fail", message=message, hint="uninstall or disable the plugin added last")
        return
    failed = [plugin for plugin in survey.plugins if plugin.state == "failed"]
    for plugin in failed:
        hint = f'assistant plugins list; to switch it off: [plugins] disabled = ["{plugin.name}"]'
        yield Check(name="plugins", state="warn", message=f"{plugin.name} failed: {plugin.reason}", hint=hint)
    if not failed:
        loaded = sum(plugin.state == "loaded" for plugin in survey.plugins)
        yield Check(name="plugins", state="ok", message=f"{loaded} loaded")


def _engines(survey: Survey) -> Iterator[Check]:
    titles: dict[str, str] = {"llm": "language model", "stt": "speech to text", "tts": "text to speech"}
    for kind, title in titles.items():
        offered = [engine for engine in survey.engines if engine.kind == kind]
        chosen = next((engine for engine in offered if engine.selected), None)
        if chosen is None:
            reasons = "; ".join(f"{engine.name}: {engine.unavailable}" for engine in offered if engine.unavailable)
            state: State = "fail" if kind == "llm" else "warn"
            message = f"none can run ({reasons or 'no plugin offers it'})"
            hint = f"assistant plugins list; assistant config show ([{kind}] engine)"
            yield Check(name=title, state=state, message=message, hint=hint)
        else:
            yield Check(name=title, state="ok", message=chosen.name)


def _last(output: str) -> str:
    return output.splitlines()[-1] if output else "no output"


def survey() -> Survey:
    """The plugins of this installation and their engines, loaded in this very process.

    Raises:
        ConfigError: the configuration is wrong.
    """
    from typing import cast

    from . import config, paths
    from .lanes import Lanes
    from .models import Models
    from .plugins import PluginHost
    from .pool import EnginePool

    folders = paths.find()
    settings = config.load(folders)
    host = PluginHost(settings, folders, lambda event: None)
    host.load()
    models = Models(folders.models, lambda event: None)
    pool = EnginePool(settings, host, cast("Lanes", None), models)
    found = Survey(plugins=tuple(host.plugins), engines=pool.infos())
    host.close()
    return found


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(survey()) + b"\n")
