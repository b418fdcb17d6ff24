"""What was said to the assistant, kept as files when the user wants to find a fault."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path

from anyio import to_thread

from assistant.errors import AudioError

from .audio_files import write_wav
from .frames import RATE

log = logging.getLogger(__name__)


class Recorder:
    """Writes one WAV file an utterance, with mode 0600, in a folder with mode 0700."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def keep(self, pcm: bytes) -> None:
        """Write one utterance, named by the time; what goes wrong is logged."""
        await to_thread.run_sync(self._write, pcm)

    def _write(self, pcm: bytes) -> None:
        path = self._folder / f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%S.%f}Z.wav"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
            write_wav(path, pcm, RATE)
            path.chmod(0o600)
        except (OSError, AudioError) as error:
            log.warning("the recording %s could not be written: %s", path, error)
