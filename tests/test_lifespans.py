"""Background work of real plugins: starting, dying, ending, and what it leaves alone."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from third_party import Site, eventually, info, installed

pytestmark = pytest.mark.anyio


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """An empty folder of installed plugins."""
    with installed(tmp_path, monkeypatch) as folder:
        yield folder


LIFESPAN = """
from contextlib import asynccontextmanager
import anyio
log = []
@hookimpl
@asynccontextmanager
async def lifespan(context):
    {enter}
    log.append("in")
    try:
        {inside}
    finally:
        log.append("out")
        {leave}
"""


def _lifespan(enter: str = "pass", inside: str = "yield", leave: str = "pass") -> str:
    return LIFESPAN.format(enter=enter, inside=inside, leave=leave)


async def test_lifespans_nest_in_the_order_of_names(site: Site) -> None:
    order: list[str] = []
    sys.modules["third_party_order"] = module = type(sys)("third_party_order")
    module.order = order  # type: ignore[attr-defined]
    site.modules.append("third_party_order")
    for name in ("b", "a"):
        site.install(name, _lifespan(
            f"from third_party_order import order; order.append('{name} in')", "yield", f"order.append('{name} out')",
        ))
    async with site.host().lifespans():
        order.append("running")
    assert order == ["a in", "b in", "running", "b out", "a out"]


@pytest.mark.parametrize(("source", "reason"), [
    (_lifespan("raise ValueError('no')"), "lifespan raised ValueError: no"),
    (_lifespan("raise SystemExit(1)"), "lifespan raised SystemExit: 1"),
    (_lifespan("await anyio.sleep_forever()"), "lifespan did not start within 0.05 s"),
    (_lifespan(inside="return; yield"), "lifespan raised RuntimeError: generator didn't yield"),
    ("@hookimpl\ndef lifespan(context):\n    return 3", "lifespan returned int, expected an async context manager"),
    ("@hookimpl\ndef lifespan(context):\n    return 1 / 0", "lifespan raised ZeroDivisionError"),
])
async def test_a_lifespan_that_does_not_start(site: Site, source: str, reason: str) -> None:
    before = site.install("a_before", _lifespan())
    site.install("kaputt", source)
    after = site.install("z_after", _lifespan())
    host = site.host(lifespan_seconds=0.05)
    async with host.lifespans():
        assert sys.modules[before].log == ["in"]
        assert sys.modules[after].log == ["in"]
        assert info(host, "kaputt").reason.startswith(reason)
    assert sys.modules[before].log == ["in", "out"]


async def test_background_work_that_dies_fails_its_plugin_only(site: Site) -> None:
    site.install("kaputt", """
    from contextlib import asynccontextmanager
    import anyio
    async def work():
        raise OSError("lost")
    @hookimpl
    @asynccontextmanager
    async def lifespan(context):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(work)
            yield
    """)
    good = site.install("good", _lifespan())
    host = site.host()
    async with host.lifespans():
        await anyio.to_thread.run_sync(eventually, lambda: info(host, "kaputt").state == "failed")
        assert sys.modules[good].log == ["in"]
    assert info(host, "kaputt").reason == "lifespan ended with OSError: lost"


@pytest.mark.parametrize(("leave", "said"), [
    ("raise ValueError('late')", "lifespan raised when it ended: ValueError: late"),
    ("await anyio.sleep_forever()", "lifespan did not end within 0.05 s"),
])
async def test_errors_at_the_end_are_logged(
    site: Site, caplog: pytest.LogCaptureFixture, leave: str, said: str,
) -> None:
    site.install("kaputt", _lifespan(leave=leave))
    good = site.install("good", _lifespan())
    host = site.host(lifespan_seconds=0.05)
    async with host.lifespans():
        pass
    assert sys.modules[good].log == ["in", "out"]
    assert any(record.name == "assistant.plugins.kaputt" and said in record.message for record in caplog.records)


async def test_failing_a_plugin_ends_its_background_work(site: Site) -> None:
    module = site.install("busy", _lifespan())
    host = site.host()
    async with host.lifespans():
        await anyio.to_thread.run_sync(host.fail, "busy", "enough")
        await anyio.to_thread.run_sync(eventually, lambda: sys.modules[module].log == ["in", "out"])
    assert info(host, "busy").reason == "enough"


async def test_an_error_of_the_daemon_passes_through_unwrapped(site: Site) -> None:
    module = site.install("good", _lifespan())
    with pytest.raises(LookupError, match="mine"):
        async with site.host().lifespans():
            raise LookupError("mine")
    assert sys.modules[module].log == ["in", "out"]


async def test_cancelling_the_daemon_ends_the_lifespans(site: Site) -> None:
    module = site.install("good", _lifespan())
    with anyio.CancelScope() as scope:
        async with site.host().lifespans():
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert sys.modules[module].log == ["in", "out"]
