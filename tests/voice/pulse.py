"""A private PulseAudio with a virtual microphone and a virtual loudspeaker, for programs that are started with it.

PortAudio reads the ALSA configuration when it is initialised, so whatever shall hear this server runs in a process of
its own, with ``Pulse.env``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

RATE = 48_000
"""Samples per second of the virtual devices, which are mono."""
BLOCK = RATE // 100

_ALSA = """\
</usr/share/alsa/alsa.conf>
pcm.!default {{ type pulse }}
ctl.!default {{ type pulse }}
{devices}
"""
_NAMED = 'pcm.{name} {{ type pulse device "{device}" }}\n'
_F_SETPIPE_SZ = getattr(fcntl, "F_SETPIPE_SZ", 1031)


class VirtualMicrophone:
    """Feeds a FIFO in real time: what it is told to say, and between that faint noise or exact zeros."""

    def __init__(self) -> None:
        self.zeros = False
        self._pipe: int | None = None
        self._script = bytearray()
        self._noise = random.Random(1)
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="virtual-microphone", daemon=True)
        self._thread.start()

    def say(self, pcm: bytes) -> None:
        """Queue 16-bit mono sound at ``RATE``."""
        with self._lock:
            self._script += pcm

    @property
    def silent(self) -> bool:
        """Everything was said."""
        return not self._script

    def connect(self, fifo: Path) -> None:
        """Feed this from now on."""
        self.disconnect()
        pipe = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
        fcntl.fcntl(pipe, _F_SETPIPE_SZ, 4096)
        with self._lock:
            self._pipe = pipe

    def disconnect(self) -> None:
        """Feed nothing."""
        with self._lock:
            if self._pipe is not None:
                os.close(self._pipe)
            self._pipe = None

    def close(self) -> None:
        """End the thread."""
        self._stopping.set()
        self._thread.join()
        self.disconnect()

    def _block(self) -> bytes:
        if self._script:
            block = bytes(self._script[: 2 * BLOCK]).ljust(2 * BLOCK, b"\0")
            del self._script[: 2 * BLOCK]
            return block
        if self.zeros:
            return bytes(2 * BLOCK)
        return b"".join(self._noise.choice((b"\2\0", b"\xfe\xff")) for _ in range(BLOCK))

    def _work(self) -> None:
        due = time.monotonic()
        block = b""
        while not self._stopping.wait(max(0.0, due - time.monotonic())):
            with self._lock:
                block = block or self._block()
                if self._write(block):
                    block = b""
                    due = max(due + 0.01, time.monotonic() - 0.05)
                else:
                    due = time.monotonic() + 0.005

    def _write(self, block: bytes) -> bool:
        try:
            return self._pipe is not None and os.write(self._pipe, block) > 0
        except BlockingIOError:
            return False


class Pulse:
    """The server.

    Args:
        sinks: whether there is a loudspeaker.
        sources: whether there is a microphone from the start.
    """

    def __init__(self, *, sinks: bool = True, sources: bool = True) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pulse-"))
        self._fifo = self.folder / "microphone"
        named = [("desk", "microphone"), ("echo", "loudspeaker.monitor")]
        alsa = self.folder / "alsa.conf"
        alsa.write_text(_ALSA.format(devices="".join(_NAMED.format(name=name, device=at) for name, at in named)))
        self._server_env = {
            "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": str(self.folder),
            "XDG_RUNTIME_DIR": str(self.folder), "PULSE_RUNTIME_PATH": str(self.folder),
            "PULSE_SERVER": f"unix:{self.folder}/native",
        }
        self.env = os.environ | self._server_env | {"ALSA_CONFIG_PATH": str(alsa)}
        self._sinks = sinks
        self.microphone = VirtualMicrophone()
        self.start()
        if sources:
            self.plug()

    def start(self) -> None:
        """Start the server, with no microphone."""
        loads = [f"module-native-protocol-unix socket={self.folder}/native auth-anonymous=1"]
        if self._sinks:
            loads.append(f"module-null-sink sink_name=loudspeaker rate={RATE} channels=1")
        self._log = (self.folder / "log").open("ab")
        self.server = subprocess.Popen(
            ["pulseaudio", "--system=false", "-n", "--daemonize=no", "--use-pid-file=no", "--exit-idle-time=-1",
             "--disallow-exit=no", "--realtime=no", "--high-priority=no", "--resample-method=speex-float-5",
             *(f"--load={module}" for module in loads)],
            env=self._server_env, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
        )
        deadline = time.monotonic() + 30
        while self._pactl("info").returncode:
            assert self.server.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, "pulseaudio does not answer"
            time.sleep(0.05)

    def kill(self) -> None:
        """End the server as a crash does."""
        self.server.kill()
        self.server.wait()
        self._log.close()
        self.microphone.disconnect()
        self._fifo.unlink(missing_ok=True)

    def pactl(self, *arguments: str) -> str:
        """What ``pactl`` prints."""
        done = self._pactl(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def plug(self) -> None:
        """Connect the microphone."""
        self.pactl("load-module", "module-pipe-source", "source_name=microphone", f"file={self._fifo}",
                   f"rate={RATE}", "channels=1", "format=s16le")
        self.pactl("set-default-source", "microphone")
        self.microphone.connect(self._fifo)

    def unplug(self) -> None:
        """Disconnect the microphone."""
        self.pactl("unload-module", "module-pipe-source")
        self.microphone.disconnect()

    def listeners(self) -> list[str]:
        """The streams that read a microphone now."""
        return self.pactl("list", "short", "source-outputs").splitlines()

    @contextlib.contextmanager
    def recording(self) -> Iterator[bytearray]:
        """What the loudspeaker plays, as it grows: 16-bit mono at ``RATE``."""
        command = ["parec", "--device=loudspeaker.monitor", "--raw", "--format=s16le", f"--rate={RATE}",
                   "--channels=1", "--latency-msec=20"]
        heard = bytearray()
        with subprocess.Popen(command, env=self.env, stdout=subprocess.PIPE) as recorder:
            assert recorder.stdout is not None
            stream = recorder.stdout

            def collect() -> None:
                while data := os.read(stream.fileno(), 1 << 16):
                    heard.extend(data)

            reader = threading.Thread(target=collect)
            reader.start()
            try:
                yield heard
            finally:
                recorder.terminate()
                reader.join()

    def close(self) -> None:
        """End everything, and remove its files."""
        self.microphone.close()
        self.kill()
        shutil.rmtree(self.folder)

    def _pactl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["pactl", *arguments], env=self.env, capture_output=True, text=True, check=False, timeout=30
        )


@pytest.fixture
def pulse() -> Iterator[Pulse]:
    """A server with a microphone and a loudspeaker."""
    server = Pulse()
    yield server
    server.close()


@pytest.fixture
def deaf_pulse() -> Iterator[Pulse]:
    """A server without any device."""
    server = Pulse(sinks=False, sources=False)
    yield server
    server.close()
