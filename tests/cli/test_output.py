"""Standard output that several tasks write to."""

import os
import sys

import anyio
import pytest

from assistant.cli.output import Output


def test_writers_that_wait_for_the_same_reader_all_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    while True:
        try:
            os.write(writing, b"." * 4096)
        except BlockingIOError:
            break
    os.set_blocking(writing, True)
    monkeypatch.setattr(sys, "stdout", os.fdopen(writing, "w"))

    async def write_both() -> None:
        output = Output()
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(output.write, "first\n")
                tasks.start_soon(output.write, "second\n")
                await anyio.wait_all_tasks_blocked()
                while b"second" not in await anyio.to_thread.run_sync(os.read, reading, 1 << 16):
                    pass

    try:
        anyio.run(write_both)
    finally:
        sys.stdout.close()
        os.close(reading)
