"""What listening needs and this machine lacks, for ``assistant doctor``.

Run as a module with the configured names of a microphone and a loudspeaker, this file prints ``Devices``: PortAudio may
hang or write where it likes, so it is asked in a process of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from assistant.errors import AssistantError, AudioError

if TYPE_CHECKING:
    from assistant.config import VoiceSettings
    from assistant.doctor import Check, Daemon, Machine
    from assistant.paths import Paths

MODELS = ("silero-vad", "smart-turn")
"""What finds speech, and what judges pauses."""
SOUND_SERVERS = ("pactl", "wpctl")
"""Programs that come with PulseAudio and PipeWire."""
PERMISSION = "System Settings, Privacy & Security, Microphone: allow the terminal, or whatever starts the assistant"


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A device, or why there is none."""

    name: str = ""
    problem: str = ""
    hint: str = ""


class Devices(msgspec.Struct, frozen=True, kw_only=True):
    """What would be used."""

    microphone: Found
    loudspeaker: Found


class Offered(msgspec.Struct, frozen=True, kw_only=True):
    """A wake word, as ``assistant wake list --json`` has it."""

    name: str
    selected: bool
    reason: str


def examine(paths: Paths, settings: VoiceSettings, machine: Machine, daemon: Daemon) -> Iterator[Check]:
    """Every check, each as it is done; none of them keeps the typed assistant from working."""
    yield _packages(machine)
    yield _models(paths)
    yield _wake_words(machine)
    yield from _devices(settings, machine, daemon)


def _packages(machine: Machine) -> Check:
    from assistant.doctor import Check

    from .service import NEEDED

    missing = [package for module, package in NEEDED.items() if not machine.find_module(module)]
    if not missing:
        return Check(name="listening", state="ok", message="echo canceller and speech detector are installed")
    hint = f"{sys.executable} -m pip install {' '.join(missing)}"
    return Check(name="listening", state="warn", message=f"{', '.join(missing)} not installed", hint=hint)


def _models(paths: Paths) -> Check:
    from assistant.doctor import Check
    from assistant.models import Models

    models = Models(paths.models, lambda event: None)
    absent = [name for name in MODELS if not models.info(name).present]
    if not absent:
        return Check(name="ear", state="ok", message=f"{' and '.join(MODELS)} are in {paths.models}")
    message = f"{' and '.join(absent)} not here yet: fetched when it first listens"
    return Check(name="ear", state="ok", message=message, hint=f"assistant models pull {absent[0]}")


def _wake_words(machine: Machine) -> Check:
    from assistant.doctor import Check

    status, output = machine.run([sys.executable, "-P", "-m", "assistant", "wake", "list", "--json"])
    try:
        offered = msgspec.json.decode(output, type=list[Offered]) if not status else []
    except msgspec.DecodeError:
        status, offered = 1, []
    if status:
        last = output.splitlines()[-1] if output else f"exit status {status}"
        message = f"they cannot be listed: {last}"
        return Check(name="wake word", state="warn", message=message, hint="assistant wake list")
    chosen = [one for one in offered if one.selected]
    broken = [f"{one.name}: {one.reason}" for one in chosen if one.reason]
    if broken:
        return Check(name="wake word", state="warn", message="; ".join(broken), hint="assistant wake list")
    message = ", ".join(one.name for one in chosen) or "none is configured: it answers everything that it hears"
    return Check(name="wake word", state="ok", message=message)


def _devices(settings: VoiceSettings, machine: Machine, daemon: Daemon) -> Iterator[Check]:
    from assistant.doctor import Check

    voice = daemon.status.voice if daemon.status is not None else None
    if voice is not None and voice.microphone in ("open", "muted"):
        yield Check(name="microphone", state="ok", message=f"{voice.microphone}: {voice.device}")
        yield Check(name="loudspeaker", state="ok", message=voice.output_device or "resting")
        return
    if not machine.find_module("sounddevice"):
        return
    names = [settings.input_device, settings.output_device]
    status, output = machine.run([sys.executable, "-P", "-m", "assistant.voice.checkup", *names])
    try:
        found = msgspec.json.decode(output, type=Devices) if not status else None
    except msgspec.DecodeError:
        found = None
    if found is None:
        last = output.splitlines()[-1] if output else f"exit status {status}"
        hint = "restart the sound server, or the machine"
        yield Check(name="microphone", state="warn", message=f"PortAudio cannot be asked: {last}", hint=hint)
        return
    for kind, each in (("microphone", found.microphone), ("loudspeaker", found.loudspeaker)):
        if each.name:
            hint = PERMISSION if (kind, machine.system) == ("microphone", "darwin") else ""
            yield Check(name=kind, state="ok", message=each.name, hint=hint)
        else:
            yield Check(name=kind, state="warn", message=each.problem, hint=_remedy(each, machine))


def _remedy(found: Found, machine: Machine) -> str:
    """PortAudio reaches PulseAudio and PipeWire through ALSA, which needs a plugin for that."""
    from assistant.doctor import Packages

    served = machine.system == "linux" and any(machine.find_program(name) for name in SOUND_SERVERS)
    if not served:
        return found.hint
    bridge = Packages(apt="libasound2-plugins", dnf="alsa-plugins-pulseaudio").install(machine)
    return f"{found.hint}; for the sound server's devices: {bridge}"


def look(microphone: str, loudspeaker: str) -> Devices:
    """What PortAudio finds, here and now.

    Args:
        microphone, loudspeaker: parts of their names; empty: the defaults.
    """
    from .devices.ports import Kind, find

    def found(kind: Kind, part: str) -> Found:
        try:
            return Found(name=find(kind, part).name)
        except AudioError as error:
            return Found(problem=error.message, hint=error.hint)

    return Devices(microphone=found("input", microphone), loudspeaker=found("output", loudspeaker))


def main(arguments: list[str]) -> int:
    """Print what is found; the exit status."""
    try:
        devices = look(*arguments)
    except AssistantError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    sys.stdout.buffer.write(msgspec.json.encode(devices) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
