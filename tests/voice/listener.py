"""A program that listens as the daemon does, for tests to run with a sound server of their own.

    python listener.py FOLDER [INPUT_DEVICE [OUTPUT_DEVICE]]

Events are printed as JSON lines; commands are read as lines: ``mute``, ``unmute``, ``rouse``, ``play FILE`` (16-bit
mono at the rate that was printed), ``tear``, ``figures``, ``end``. What was heard and played goes to ``near`` and
``far`` in FOLDER.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO

from assistant.config import VoiceSettings
from assistant.events import Event, encode
from assistant.voice.devices import RealtimeAudio


class Tape:
    """Plays what it is given."""

    def __init__(self) -> None:
        self._pcm = bytearray()
        self.torn = False
        """It fails from now on."""

    def queue(self, pcm: bytes) -> None:
        """Play this after what is queued."""
        self._pcm += pcm

    def waiting(self) -> bool:
        """There is something to play."""
        return bool(self._pcm)

    def pull(self, count: int) -> bytes:
        """What a loudspeaker asks for."""
        if self.torn:
            raise ValueError("the tape is torn")
        pcm = bytes(self._pcm[: 2 * count])
        del self._pcm[: 2 * count]
        return pcm.ljust(2 * count, b"\0")


def say(**what: Any) -> None:
    """One line for the test."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def show(event: Event) -> None:
    """An event for the test."""
    say(**json.loads(encode(event)))


async def main(folder: Path, input_device: str = "", output_device: str = "") -> None:
    """Listen until told to end."""
    tape = Tape()

    def playback(rate: int) -> Any:
        say(rate=rate)
        return tape.pull

    settings = VoiceSettings(input_device=input_device, output_device=output_device)
    audio = RealtimeAudio(settings, lambda near, far: (near, far), show, playback, tape.waiting)
    loop = asyncio.get_running_loop()
    with (folder / "near").open("wb", 0) as near, (folder / "far").open("wb", 0) as far:
        running = loop.create_task(audio.run(lambda pair: write(pair, near, far)))
        threading.Thread(target=obey, args=(audio, tape, loop, running), daemon=True).start()
        try:
            await running
        except asyncio.CancelledError:
            say(ended=True, microphone=audio.microphone)


def write(pair: tuple[bytes, bytes], near: BinaryIO, far: BinaryIO) -> None:
    """One frame each."""
    near.write(pair[0])
    far.write(pair[1])


def obey(audio: RealtimeAudio[Any], tape: Tape, loop: asyncio.AbstractEventLoop, running: asyncio.Task[None]) -> None:
    """Do what the test writes."""
    for line in sys.stdin:
        match line.split():
            case ["mute"]:
                audio.mute()
            case ["unmute"]:
                audio.unmute()
            case ["rouse"]:
                audio.rouse()
            case ["play", path]:
                tape.queue(Path(path).read_bytes())
            case ["tear"]:
                tape.torn = True
                audio.rouse()
            case ["figures"]:
                say(
                    microphone=audio.microphone, device=audio.device, loudspeaker=audio.loudspeaker,
                    overflows=audio.overflows, underflows=audio.underflows, lag=audio.lag_p95, dropped=audio.dropped,
                    pairing=audio.pairing, cpu=time.process_time(),
                )
            case ["end"]:
                loop.call_soon_threadsafe(running.cancel)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:]))
