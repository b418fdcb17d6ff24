"""Running tools: whatever they do, an outcome comes back."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

import anyio
import msgspec
import pytest

from assistant import Tool, ToolCall, ToolError
from assistant.toolbox import MAX_RESULT, ToolOutcome, call_tool

pytestmark = pytest.mark.anyio

LIMIT = 30.0


async def outcome_of(
    run: Callable[..., Any], arguments: Any = None, limit: float = LIMIT, timeout: float = 10.0
) -> ToolOutcome:
    tool = Tool.of(run, timeout=timeout)
    return await call_tool(tool, ToolCall(id="1", name=tool.name, arguments=arguments or {}), limit)


async def greet(name: str, times: Annotated[int, msgspec.Meta(ge=1, le=3)] = 1) -> str:
    """Greet somebody."""
    return " ".join([f"Hello {name}!"] * times)


async def test_an_async_tool_runs_on_the_loop() -> None:
    loop = asyncio.get_running_loop()

    async def where() -> str:
        """Tell where it runs."""
        return f"{asyncio.get_running_loop() is loop} {threading.current_thread() is threading.main_thread()}"

    outcome = await outcome_of(where)
    assert (outcome.ok, outcome.result) == (True, "True True")
    assert outcome.seconds >= 0


async def test_a_blocking_tool_runs_in_a_thread() -> None:
    def where() -> str:
        """Tell where it runs."""
        return str(threading.current_thread() is threading.main_thread())

    outcome = await outcome_of(where)
    assert (outcome.ok, outcome.result) == (True, "False")


async def test_arguments_arrive_by_name_with_defaults() -> None:
    assert (await outcome_of(greet, {"name": "Ada"})).result == "Hello Ada!"
    assert (await outcome_of(greet, {"name": "Ada", "times": 2})).result == "Hello Ada! Hello Ada!"


async def test_nested_arguments_arrive_as_their_types() -> None:
    outcome = await outcome_of(paint, {"spots": [{"x": 1, "y": 2}], "colour": "red"})
    assert outcome.result == "red at 3"


class Spot(msgspec.Struct):
    x: int
    y: int


def paint(spots: list[Spot], colour: Literal["red", "blue"]) -> str:
    """Paint spots."""
    return f"{colour} at {sum(spot.x + spot.y for spot in spots)}"


@pytest.mark.parametrize(
    ("run", "arguments", "named", "said"),
    [
        (greet, {}, "'name'", "needs the argument"),
        (greet, {"name": 5}, "'name'", "expected str, got int"),
        (greet, {"name": "Ada", "times": "2"}, "'times'", "expected int, got str"),
        (greet, {"name": "Ada", "times": 4}, "'times'", "<= 3"),
        (greet, {"name": "Ada", "time": 2}, "'time'", "Did you mean 'times'?"),
        (greet, {"name": None}, "'name'", "got null"),
        (paint, {"spots": [{"x": 1}], "colour": "red"}, "'y'", "needs the argument"),
        (paint, {"spots": [{"x": 1, "y": "a"}], "colour": "red"}, "spots[0].y", "got str"),
        (paint, {"spots": [], "colour": "green"}, "'colour'", "green"),
        (greet, ["Ada"], "arguments", "got array"),
        (greet, {1: 2}, "arguments", "wrong"),
    ],
)
async def test_wrong_arguments_are_explained(run: Callable[..., Any], arguments: Any, named: str, said: str) -> None:
    outcome = await outcome_of(run, arguments)
    assert not outcome.ok
    assert named in outcome.result
    assert said in outcome.result
    assert "\n" not in outcome.result
    assert outcome.result.endswith((".", "?"))


async def test_a_refusal_is_told_with_its_hint() -> None:
    def refuse() -> str:
        """Refuse."""
        raise ToolError("There is no such room.", hint="Try the kitchen.")

    outcome = await outcome_of(refuse)
    assert (outcome.ok, outcome.result) == (False, "There is no such room. Try the kitchen.")


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even that")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("bad\nnews"), "ValueError: bad news"),
        (KeyError("x"), "KeyError: 'x'"),
        (TimeoutError(), "TimeoutError"),
        (StopIteration("over"), "StopIteration"),
        (RecursionError("deep"), "RecursionError: deep"),
        (SystemExit(3), "SystemExit: 3"),
        (ExceptionGroup("several", [ExceptionGroup("more", [OSError("disk")])]), "OSError: disk"),
        (Unspeakable(), "Unspeakable"),
        (asyncio.CancelledError(), "cancelled"),
    ],
)
@pytest.mark.parametrize("colour", ["async", "blocking"])
async def test_any_exception_becomes_an_outcome(error: BaseException, said: str, colour: str) -> None:
    def fail() -> str:
        """Fail."""
        raise error

    async def fail_async() -> str:
        """Fail."""
        raise error

    outcome = await outcome_of(fail if colour == "blocking" else fail_async)
    assert not outcome.ok
    assert said in outcome.result
    assert outcome.result.startswith("The tool 'fail")


@pytest.mark.parametrize("value", [None, 5, b"bytes", ["a"], {"a": 1}])
async def test_a_result_must_be_text(value: object) -> None:
    def nonsense() -> Any:
        """Return nonsense."""
        return value

    outcome = await outcome_of(nonsense)
    assert not outcome.ok
    assert type(value).__name__ in outcome.result


async def test_an_awaitable_of_a_plain_function_is_awaited() -> None:
    def later() -> Awaitable[str]:
        """Answer later."""
        return greet("Ada")

    assert (await outcome_of(later)).result == "Hello Ada!"


async def test_a_callable_object_can_be_async() -> None:
    class Greeter:
        """Greets."""

        async def __call__(self) -> str:
            """Greet."""
            return f"Hello from {threading.current_thread() is threading.main_thread()}"

    outcome = await call_tool(
        Tool(name="greeter", description="", parameters={}, run=Greeter(), arguments=msgspec.defstruct("None_", [])),
        ToolCall(id="1", name="greeter", arguments={}),
        LIMIT,
    )
    assert outcome.result == "Hello from True"


async def test_long_results_are_cut_with_a_note() -> None:
    def long() -> str:
        """Say a lot."""
        return "x" * (MAX_RESULT + 1)

    outcome = await outcome_of(long)
    assert outcome.ok
    assert len(outcome.result) == MAX_RESULT
    assert outcome.result.endswith(f"[cut: {MAX_RESULT + 1} characters in all]")


async def test_results_of_the_full_length_are_kept() -> None:
    def long() -> str:
        """Say a lot."""
        return "x" * MAX_RESULT

    assert (await outcome_of(long)).result == "x" * MAX_RESULT


async def test_long_errors_are_cut_too() -> None:
    def fail() -> str:
        """Fail at length."""
        raise ValueError("y" * 10 * MAX_RESULT)

    assert len((await outcome_of(fail)).result) == MAX_RESULT


async def test_a_result_can_always_be_encoded() -> None:
    def broken() -> str:
        """Return half a character."""
        return "a\ud800b"

    outcome = await outcome_of(broken)
    assert outcome.ok
    assert msgspec.json.decode(msgspec.json.encode(outcome), type=ToolOutcome).result == "a?b"


@pytest.mark.parametrize(("timeout", "limit", "said"), [(0.05, LIMIT, "0.05"), (10.0, 0.05, "0.05")])
async def test_the_earlier_deadline_ends_an_async_tool(timeout: float, limit: float, said: str) -> None:
    cancelled = []

    async def hang() -> str:
        """Hang."""
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.append(True)
        return "never"

    with anyio.fail_after(5):
        outcome = await outcome_of(hang, limit=limit, timeout=timeout)
    assert not outcome.ok
    assert f"longer than {said} seconds" in outcome.result
    assert cancelled == [True]


async def test_a_hanging_blocking_tool_is_given_up() -> None:
    release = threading.Event()

    def hang() -> str:
        """Hang."""
        release.wait(30)
        return "too late"

    try:
        with anyio.fail_after(5):
            outcome = await outcome_of(hang, timeout=0.05)
    finally:
        release.set()
    assert not outcome.ok
    assert "longer than" in outcome.result


async def test_hanging_tools_do_not_take_the_threads_of_others() -> None:
    release = threading.Event()

    def hang() -> str:
        """Hang."""
        release.wait(30)
        return "too late"

    try:
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                for _ in range(40):
                    tasks.start_soon(lambda: outcome_of(hang, timeout=0.05))
            assert await anyio.to_thread.run_sync(lambda: "free") == "free"
    finally:
        release.set()


@pytest.mark.parametrize("colour", ["async", "blocking"])
async def test_cancellation_propagates(colour: str) -> None:
    release, started = threading.Event(), threading.Event()
    outcomes = []

    async def hang_async() -> str:
        """Hang."""
        started.set()
        await anyio.sleep_forever()
        return "never"

    def hang() -> str:
        """Hang."""
        started.set()
        release.wait(30)
        return "never"

    try:
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:

                async def call() -> None:
                    outcomes.append(await outcome_of(hang if colour == "blocking" else hang_async))

                tasks.start_soon(call)
                assert await anyio.to_thread.run_sync(started.wait, 5)
                tasks.cancel_scope.cancel()
        assert tasks.cancel_scope.cancelled_caught
    finally:
        release.set()
    assert outcomes == []


async def test_native_cancellation_propagates() -> None:
    started = anyio.Event()

    async def hang() -> str:
        """Hang."""
        started.set()
        await anyio.sleep_forever()
        return "never"

    task = asyncio.get_running_loop().create_task(outcome_of(hang))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_calls_run_side_by_side() -> None:
    meeting = threading.Barrier(3)

    def meet() -> str:
        """Wait for the others."""
        meeting.wait(10)
        return "met"

    outcomes = []

    async def call() -> None:
        outcomes.append((await outcome_of(meet)).result)

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(call)
    assert outcomes == ["met"] * 3


async def test_deep_recursion_in_a_tool_is_survived() -> None:
    def dive(depth: int = 0) -> str:
        """Dive."""
        return dive(depth + 1)

    limit = sys.getrecursionlimit()
    outcome = await outcome_of(dive)
    assert not outcome.ok
    assert "RecursionError" in outcome.result
    assert sys.getrecursionlimit() == limit
