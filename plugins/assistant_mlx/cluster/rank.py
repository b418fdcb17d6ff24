"""One rank of a cluster: ``python -m assistant_mlx.cluster.rank``, started by the lane and by nobody else.

The main thread works, one thread reads the commands. The process ends by itself when the lane is gone.
"""

from __future__ import annotations

import faulthandler
import importlib
import importlib.metadata
import logging
import os
import re
import signal
import sys
import tempfile
import threading
import zlib
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from assistant import AssistantError, Delta, EngineFailed, LanguageModel, ModelError, load_openblas

from .messages import (
    MARK,
    Begin,
    Cancel,
    Command,
    Fatal,
    FromRank,
    Hello,
    Join,
    Joined,
    News,
    Ready,
    Round,
    Setup,
    SpeechLive,
    Stop,
    Usage,
    frame,
    read_command,
)

log = logging.getLogger(__name__)

INIT_SECONDS = 60
"""MLX waits for a neighbour's connection without end, and holds the interpreter's lock; the rank is ended then."""

DIGEST_BITS = 20
"""The sum over ranks must fit in 32 bits."""

Tell = Callable[[FromRank], None]


class Inbox:
    """The commands, as a thread reads them."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._changed = threading.Condition()
        self._commands: deque[Command] = deque()
        self._join: Join | None = None
        self.received = 0
        """How many commands have come."""

    def setup(self) -> Setup:
        """The first message; to be called before ``start``."""
        first = read_command(self._file)
        if not isinstance(first, Setup):
            os._exit(0)
        return first

    def start(self) -> None:
        """Read the rest on a thread of its own; the end of the stream is the end of the process."""
        threading.Thread(target=self._read, name="commands", daemon=True).start()

    def join(self) -> Join:
        """What follows the setup, once it is there."""
        with self._changed:
            self._changed.wait_for(lambda: self._join is not None)
            assert self._join is not None
            return self._join

    def wait(self) -> None:
        """Return once there is a command that has not been taken."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._commands))

    def until(self, count: int) -> list[Command]:
        """The commands not yet taken up to the one of that number, once they are there."""
        with self._changed:
            self._changed.wait_for(lambda: self.received >= count)
            return [self._commands.popleft() for _ in range(count - (self.received - len(self._commands)))]

    def _read(self) -> None:
        try:
            while message := read_command(self._file):
                with self._changed:
                    if isinstance(message, Join):
                        self._join = message
                    elif not isinstance(message, Setup):
                        self._commands.append(message)
                        self.received += 1
                    self._changed.notify_all()
        finally:
            os._exit(0)


class Serving:
    """Answers requests in rounds, in step with the other ranks.

    Before each round the first rank says up to which command it has read; all take these up. In a round every live
    answer makes one step. A rank without a live answer waits for a command, which is sent to all.
    """

    def __init__(self, engine: LanguageModel, inbox: Inbox, group: Any, tell: Tell) -> None:
        self._engine = engine
        self._inbox = inbox
        self._group = group
        self._tell: Tell = tell if group.rank() == 0 else lambda message: None
        self._live: dict[int, Iterator[Delta]] = {}

    def run(self) -> None:
        """Return when it is told to stop.

        Raises:
            EngineFailed: the ranks have come to different results.
            RuntimeError: another rank is gone.
        """
        news: list[News] = []
        while True:
            if not (self._live or news):
                self._tell(Usage(self._engine.memory()))
                self._inbox.wait()
            count = self._agree(news)
            if news:
                self._tell(Round(news))
            for command in self._inbox.until(count):
                if isinstance(command, Stop):
                    return
                self._take_up(command)
            news = [self._step(number) for number in [*self._live]]

    def _agree(self, news: list[News]) -> int:
        """Compare with the other ranks what the last round brought; the number of commands for the next one."""
        import mlx.core as mx

        first = self._inbox.received if self._group.rank() == 0 else 0
        digest = _digest(news)
        told: Any = mx.distributed.all_sum(mx.array([first, digest], mx.int32), group=self._group).tolist()
        if told[1] != digest * self._group.size():
            raise EngineFailed(
                "the ranks of the cluster came to different results",
                hint="ask again; if it comes back, use machines of one kind, or no cluster",
            )
        count: int = told[0]
        return count

    def _take_up(self, command: Command) -> None:
        match command:
            case Begin(id=number, request=request):
                self._live[number] = self._engine.generate(request)
            case Cancel(id=number):
                stream = self._live.pop(number, None)
                if isinstance(stream, Generator):
                    stream.close()
            case SpeechLive(live=live):
                self._engine.speech_live(live)
            case _:
                pass

    def _step(self, number: int) -> News:
        try:
            return News(number, next(self._live[number]))
        except StopIteration:
            news = News(number, ended=True)
        except AssistantError as error:
            news = News(number, None, True, error.code, error.message, error.hint)
        del self._live[number]
        return news


def _digest(news: list[News]) -> int:
    known = [
        (entry.id, entry.ended, entry.code, delta.text, delta.reasoning, delta.prompt_done, delta.cached_tokens)
        for entry in news for delta in (entry.delta or Delta(),)
    ]
    return zlib.crc32(msgspec.msgpack.encode(known)) & ((1 << DIGEST_BITS) - 1)


def main() -> None:
    """Serve one lane until it says ``Stop`` or is gone."""
    faulthandler.enable()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    reports = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    reports.write(MARK)

    def tell(message: FromRank) -> None:
        try:
            reports.write(frame(message))
            reports.flush()
        except OSError:
            os._exit(0)

    inbox = Inbox(sys.stdin.buffer)
    setup = inbox.setup()
    inbox.start()
    code = 0
    try:
        _work(setup, inbox, tell)
    except AssistantError as error:
        tell(Fatal(error.code, error.message, error.hint))
        code = 1
    except Exception as error:
        log.exception("rank %d failed", setup.rank)
        tell(_fatal(error))
        code = 1
    # MLX's threads may wait for neighbours that are gone.
    sys.stderr.flush()
    os._exit(code)


def _work(setup: Setup, inbox: Inbox, tell: Tell) -> None:
    from assistant_mlx import Settings
    from assistant_mlx.engine import MlxLanguageModel

    from . import splitting

    folder = Path(setup.folder)
    with _environment(setup):
        mx = _import()
        tell(_hello(folder, mx, setup))
        settings = msgspec.convert(inbox.join().settings, Settings)
        signal.alarm(INIT_SECONDS)
        group = mx.distributed.init(strict=True, backend=setup.backend)
        signal.alarm(0)
    if (group.rank(), group.size()) != (setup.rank, setup.size):
        raise EngineFailed(f"MLX says that this is rank {group.rank()} of {group.size()}")
    tell(Joined())
    loaded = splitting.load(folder, settings.dequantize, group)
    engine = MlxLanguageModel(settings)
    engine.adopt(loaded, folder)
    tell(Ready(engine.context))
    stream = importlib.import_module("mlx_lm.generate").generation_stream
    with mx.stream(stream):  # All that the ranks tell each other must be in one order.
        Serving(engine, inbox, group, tell).run()


def _import() -> Any:
    load_openblas()
    try:
        importlib.metadata.version("mlx-lm")
        return importlib.import_module("mlx.core")
    except ImportError as error:  # PackageNotFoundError is one.
        raise EngineFailed(f"MLX cannot be imported: {error}", hint="install the assistant and mlx-lm there") from error


def _hello(folder: Path, mx: Any, setup: Setup) -> Hello:
    from assistant_mlx import Settings, fit

    from . import splitting

    if not (folder / "config.json").is_file():
        raise ModelError(f"there is no model in {folder}", hint="copy the model's folder to the same path there")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("assistant", "mlx", "mlx-lm"))
    device = "GPU" if mx.default_device().type == mx.gpu else "CPU"
    # Ranks of one machine take their room from each other.
    found = fit.check(folder, msgspec.convert(setup.settings, Settings), ranks=max(1, setup.size // setup.here))
    return Hello(versions, splitting.fingerprint(folder), device, found.context, found.prompt_cache // setup.here)


@contextmanager
def _environment(setup: Setup) -> Iterator[None]:
    """Set what MLX reads when it is imported and when the ranks find each other."""
    with tempfile.TemporaryDirectory(prefix="assistant-rank-") as folder:
        for name, content in setup.files.items():
            file = Path(folder) / name
            file.write_text(content)
            os.environ[name] = str(file)
        os.environ.update(setup.environment)
        os.environ["MLX_RANK"] = str(setup.rank)
        yield


def _fatal(error: Exception) -> Fatal:
    said = " ".join(f"{type(error).__name__}: {error}".split())
    gone = isinstance(error, RuntimeError) and re.search(r"\[(ring|jaccl)\]", str(error)) is not None
    return Fatal(EngineFailed.code, said, "ask again", gone)


if __name__ == "__main__":
    main()
