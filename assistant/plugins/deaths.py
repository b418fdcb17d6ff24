"""Plugins that take the whole process along while they are loaded, remembered from one start to the next."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

DEATHS = 2
"""So many starts in a row may die in the same plugin; one may have been killed by somebody else."""


class LoadMarks:
    """One small file a plugin, there while it is being loaded; what is left over tells who killed the daemon.

    Args:
        folder: where the files are kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def file(self, plugin: str) -> Path:
        """The file of one plugin."""
        return self._folder / plugin

    def deaths(self, plugin: str, version: str) -> int:
        """How many starts in a row died while this version was being loaded."""
        try:
            died, _, of = self.file(plugin).read_text().partition(" ")
        except OSError:
            return 0
        return int(died) if of == version and died.isdigit() else 0

    def begin(self, plugin: str, version: str) -> None:
        """The plugin is about to be loaded; where nothing can be written, nothing is remembered."""
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            self.file(plugin).write_text(f"{self.deaths(plugin, version) + 1} {version}")

    def end(self, plugin: str) -> None:
        """Loading it came to an end, good or bad."""
        with suppress(OSError):
            self.file(plugin).unlink(missing_ok=True)
