"""One turn and its model: tools, schemas, what is asked of the engine."""

from __future__ import annotations

import sqlite3
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest
import turnkit
from turnkit import call, calling, daemon, endless, text

from assistant import events
from assistant.config import ToolSettings
from assistant.engines import Delta
from assistant.finetune.records import AdapterInfo, Hyperparameters
from assistant.finetune.shelf import WEIGHTS, home, write
from assistant.wire import Listen, Say

pytestmark = pytest.mark.anyio

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def kinds(found: list[events.Event]) -> list[str]:
    """The types of the events."""
    return [type(event).__name__ for event in found]


async def test_the_calls_of_one_reply_run_side_by_side(tmp_path: Path) -> None:
    async with daemon(tmp_path) as world:
        turnkit.script.replies = [calling("", call("meet", name="first"), call("meet", name="second")), text("Done")]
        assert (await world.ask("meet", await world.session())).text == "Done"
        told = [event for event in world.last if isinstance(event, events.ToolCallStarted | events.ToolCallFinished)]
        assert kinds([*told]) == ["ToolCallStarted"] * 2 + ["ToolCallFinished"] * 2
        ended = [event.result for event in told if isinstance(event, events.ToolCallFinished)]
        assert ended == ["second was here", "first was here"]


async def test_a_call_that_cannot_be_read_is_told_to_the_model_and_never_run(tmp_path: Path) -> None:
    async with daemon(tmp_path) as world:
        wrong = call("meet", error="its arguments are no JSON", name="alone")
        turnkit.script.replies = [calling("", wrong), text("Sorry")]
        assert (await world.ask("meet", await world.session())).text == "Sorry"
        assert turnkit.script.met == []
        (ended,) = [event for event in world.last if isinstance(event, events.ToolCallFinished)]
        assert (ended.ok, ended.result) == (False, "The call did not run: its arguments are no JSON")
        told = turnkit.script.requests[1].messages[-1]
        assert (told.role, told.tool_call_id, told.content) == ("tool", wrong.id, ended.result)


@pytest.mark.parametrize("rounds", [0, 1, 3])
async def test_a_model_that_only_calls_is_stopped_after_the_last_round(tmp_path: Path, rounds: int) -> None:
    async with daemon(tmp_path, ToolSettings(max_rounds=rounds)) as world:
        turnkit.script.replies = [calling("", call("add", error="broken")) for _ in range(rounds + 5)]
        finished = await world.ask("go", await world.session())
        assert (finished.reason, finished.error and finished.error.code) == ("failed", "engine_failed")
        choices = [request.tool_choice for request in turnkit.script.requests]
        assert choices == ["auto"] * rounds + ["none"]
        assert kinds(world.last).count("ToolCallStarted") == rounds


async def test_what_a_model_says_in_the_last_round_is_the_answer_even_beside_a_call(tmp_path: Path) -> None:
    async with daemon(tmp_path, ToolSettings(max_rounds=1)) as world:
        turnkit.script.replies = [calling("", call("add", a=1, b=2)), calling("Three.", call("add", a=1, b=2))]
        assert (await world.ask("go", await world.session())).text == "Three."
        assert kinds(world.last).count("ToolCallStarted") == 1


async def test_json_is_asked_of_the_model_without_tools_or_the_fast_path(tmp_path: Path) -> None:
    async with daemon(tmp_path) as world:
        turnkit.script.replies = [text('{"n"', ": 4}")]
        finished = await world.ask("two and two", await world.session(), schema=SCHEMA)
        assert (finished.reason, finished.text) == ("complete", '{"n": 4}')
        (request,) = turnkit.script.requests
        assert (request.schema, request.tools) == (SCHEMA, ())


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (text('{"n": 1', reason="length"), "cut off"),
        (text('{"n": 1}', reason="length"), "cut off"),
        (text("four"), "something else"),
        (text('{"n": NaN}'), "NaN is not JSON"),
        (text('{"n": 1} and more'), "something else"),
        (text(), "something else"),
        (text("[" * 100_000), "something else"),
    ],
)
async def test_what_is_not_one_whole_json_value_fails_the_turn(tmp_path: Path, reply: list[Delta], words: str) -> None:
    async with daemon(tmp_path) as world:
        turnkit.script.replies = [reply]
        finished = await world.ask("go", await world.session(), schema=SCHEMA)
        assert finished.reason == "failed"
        assert finished.error is not None
        assert (finished.error.code, bool(finished.error.hint)) == ("engine_failed", True)
        assert words in finished.error.message


async def test_json_after_tools_holds_nothing_of_what_was_said_before_them(tmp_path: Path) -> None:
    async with daemon(tmp_path) as world:
        session = await world.session()
        turnkit.script.replies = [calling("Let me add.", call("add", a=1, b=2)), text('{"n": 3}')]
        finished = await world.ask("go", session, schema=SCHEMA, tools=True)
        assert finished.text == '{"n": 3}'
        assert "".join(event.text for event in world.last if isinstance(event, events.TextDelta)) == '{"n": 3}'
        assert all(request.tools and request.schema == SCHEMA for request in turnkit.script.requests)
        await world.ask("and now?", session, tools=True)
        one, two, three = turnkit.script.requests
        assert two.messages[: len(one.messages)] == one.messages
        assert three.messages[: len(two.messages)] == two.messages


async def test_tools_can_be_left_out_of_a_turn(tmp_path: Path) -> None:
    async with daemon(tmp_path) as world:
        session = await world.session()
        assert (await world.ask("two and two", session, tools=False)).text.startswith("answer")
        assert (await world.ask("two and two", session, tools=True)).text == "2 plus 2 is 4."
        await world.ask("hello", session)
        assert [bool(request.tools) for request in turnkit.script.requests] == [False, True]


@pytest.mark.parametrize(
    ("setting", "speak", "spoken", "budget"),
    [(-1, False, False, None), (64, False, False, 64), (-1, True, False, 0), (64, False, True, 0)],
)
async def test_nobody_who_listens_waits_for_reasoning(
    tmp_path: Path, setting: int, speak: bool, spoken: bool, budget: int | None
) -> None:
    async with daemon(tmp_path, reasoning_budget=setting) as world:
        session = await world.session()
        await (world.hear(session, speak=speak) if spoken else world.ask("hello", session, speak=speak))
        assert [request.reasoning_budget for request in turnkit.script.requests] == [budget]


async def test_settings_of_the_sampler_reach_the_engine(tmp_path: Path) -> None:
    chosen: dict[str, Any] = {
        "max_tokens": 7, "temperature": 0.5, "top_p": 0.9, "top_k": 40, "min_p": 0.05, "repetition_penalty": 1.1,
    }  # fmt: skip
    async with daemon(tmp_path, **chosen) as world:
        await world.ask("hello", await world.session())
        (request,) = turnkit.script.requests
        assert {name: getattr(request, name) for name in chosen} == chosen


async def test_a_spoken_turn_goes_before_a_typed_one_that_came_first(tmp_path: Path) -> None:
    async with daemon(tmp_path) as world:
        script, sessions = turnkit.script, world.services.sessions
        ids = [await world.session() for _ in range(3)]
        script.heard = "spoken"
        script.replies = [text("<hold>")]
        lane = world.services.lanes.lane(turnkit.LANE)

        def is_end(event: events.Event) -> bool:
            return isinstance(event, events.TurnFinished)

        async with world.services.bus.subscribe(is_end) as ends, anyio.create_task_group() as tasks:
            await sessions.say(Say(turn_id=uuid.uuid4().hex, text="first", session_id=ids[0]))
            await _until(lambda: len(script.requests) == 1)
            await sessions.say(Say(turn_id=uuid.uuid4().hex, text="typed", session_id=ids[1]))
            await _until(lambda: lane.info.jobs == 2)
            utterance = await sessions.listen(Listen(turn_id=uuid.uuid4().hex, session_id=ids[2]))
            await utterance.end()
            await _until(lambda: lane.info.jobs == 4)  # the three answers, and word that speech is live
            script.hold.set()
            for _ in range(3):
                ended = await anext(ends)
                assert isinstance(ended, events.TurnFinished)
                assert ended.reason == "complete"
            tasks.cancel_scope.cancel()
        assert [request.messages[-1].content for request in script.requests] == ["first", "spoken", "typed"]


async def test_the_model_knows_of_live_speech_and_stays_loaded_while_it_answers(tmp_path: Path) -> None:
    async with daemon(tmp_path) as world:
        script, sessions, session = turnkit.script, world.services.sessions, await world.session()
        script.replies = [endless()]

        def users() -> dict[str, int]:
            return {each.key: each.users for each in world.services.pool.residency.loaded()}

        utterance = await sessions.listen(Listen(turn_id=uuid.uuid4().hex, session_id=session, speak=True))
        await utterance.feed(b"\0\0")
        await _until(lambda: "stt:ear" in users())
        assert users() == {"stt:ear": 1, "tts:mouth": 1}
        await utterance.end()
        await _until(lambda: script.live == [True])
        assert users() == {"stt:ear": 0, "tts:mouth": 1, "llm:recorder": 1}
        await sessions.cancel(session)
        await _until(lambda: script.live == [True, False])
        assert set(users().values()) == {0}


async def test_adapters_are_found_by_name_or_folder_and_go_with_their_model(tmp_path: Path) -> None:
    def made(folder: Path, model: str) -> Path:
        info = AdapterInfo(
            name=folder.name, model=model, engine="recorder", state="complete", settings=Hyperparameters()
        )
        write(folder, info)
        (folder / WEIGHTS).write_bytes(b"weights")
        return folder

    async with daemon(tmp_path, adapter="diary") as world:
        own = made(home(world.services.paths) / "diary", "recorder")
        other = made(tmp_path / "letters", "recorder")
        foreign = made(tmp_path / "foreign", "hf:a/b")
        session = await world.session()
        await world.ask("hello", session)
        await world.ask("hello", session, adapter=str(other))
        assert [request.adapter for request in turnkit.script.requests] == [str(own), str(other)]
        for name, code, word in (("dairy", "model_not_found", "diary"), (str(foreign), "model", "hf:a/b")):
            failed = await world.ask("hello", session, adapter=name)
            assert failed.error is not None
            assert failed.error.code == code
            assert word in failed.error.message + failed.error.hint
        assert len(turnkit.script.requests) == 2


async def test_tokens_known_from_earlier_prompts_are_summed_told_and_stored(tmp_path: Path) -> None:
    async with daemon(tmp_path) as world:
        progress = Delta(prompt_done=0, prompt_tokens=20, cached_tokens=8)
        turnkit.script.replies = [
            calling("", call("add", a=1, b=2)), [progress, *text("Three", cached=16, prompt=20)],
        ]  # fmt: skip
        finished = await world.ask("go", await world.session())
        assert (finished.prompt_tokens, finished.cached_tokens) == (30, 16)
        (read,) = [event for event in world.last if isinstance(event, events.PromptProgressed)]
        assert (read.done, read.total) == (8, 20)
    with closing(sqlite3.connect(world.path)) as db:
        assert db.execute("SELECT prompt_tokens, cached_tokens FROM turns").fetchall() == [(30, 16)]


async def _until(condition: Any) -> None:
    with anyio.fail_after(20):
        while not condition():  # noqa: ASYNC110
            await anyio.sleep(0.005)
