"""Training on the host's side: data sets, adapters by name, jobs from their start to every kind of end."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from serverkit import World, assembled, served
from teachers import Teacher

from assistant import events
from assistant.client import Client
from assistant.errors import (
    AssistantError,
    DatasetError,
    EngineNotFound,
    ModelError,
    ModelNotFound,
    SessionNotFound,
    TrainingBusy,
)
from assistant.export import to_json
from assistant.finetune import AdapterInfo, ChatMessage, Example, FinetuneRequest, adapters, dataset, resolve_adapter
from assistant.finetune.records import Hyperparameters
from assistant.finetune.shelf import home, write
from assistant.paths import Paths, find
from assistant.store import STORE, Store
from assistant.wire import Conversation, SessionInfo, StoredMessage, StoredToolCall


def chat(*contents: str, system: str = "") -> Example:
    """User and assistant by turns."""
    start = [ChatMessage(role="system", content=system)] if system else []
    turns = [ChatMessage(role="assistant" if at % 2 else "user", content=text) for at, text in enumerate(contents)]
    return Example(messages=(*start, *turns))


def lessons(count: int) -> tuple[Example, ...]:
    """Conversations of one answer."""
    return tuple(chat(f"question {number}", f"answer {number}") for number in range(count))


def stored(role: str, text: str, turn: str, **more: Any) -> StoredMessage:
    """A message of a conversation."""
    return msgspec.convert({"id": 1, "turn_id": turn, "role": role, "text": text, "at": 1.0, **more}, StoredMessage)


def test_both_formats_are_read(tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text(
        '{"prompt": "a", "completion": "b", "source": "me"}\n\n'
        '{"messages": [{"role": "user", "content": "c"}, {"role": "assistant", "content": "d", "weight": 0},'
        ' {"role": "user", "content": "e"}, {"role": "assistant", "content": "f", "name": "x"}]}\n'
    )
    first, second = dataset.read_file(file)
    assert first == chat("a", "b")
    assert [message.weight for message in second.messages] == [1, 0, 1, 1]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "not JSON"),
        ('"text"', "expected an object, got a string"),
        ('{"text": "a"}', "neither `messages` nor `prompt` and `completion` (its keys: 'text')"),
        ('{"prompt": "a"}', "missing required field `completion`"),
        ('{"prompt": "a", "completion": 3}', "Expected `str`, got `int`"),
        ('{"prompt": "a", "completion": " "}', "message 2: its content is empty"),
        ('{"messages": [{"role": "robot", "content": "a"}]}', "Invalid enum value 'robot'"),
        ('{"messages": [{"role": "tool", "content": "a"}]}', "Invalid enum value 'tool'"),
        ('{"messages": [{"role": "assistant", "content": "a"}]}', "message 1: an answer to nothing"),
        ('{"messages": [{"role": "user", "content": "a"}]}', "no answer to learn"),
        ('{"messages": []}', "no answer to learn"),
        ('{"messages": [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]}', "comes first"),
        (b'{"prompt": "\xff", "completion": "b"}', "not JSON"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str | bytes, problem: str) -> None:
    file = tmp_path / "data.jsonl"
    good = b'{"prompt": "a", "completion": "b"}\n'
    file.write_bytes(good + (line if isinstance(line, bytes) else line.encode()) + b"\n" + good)
    with pytest.raises(DatasetError) as caught:
        dataset.read_file(file)
    assert caught.value.message.startswith(f"{file}, line 2: ")
    assert problem in caught.value.message
    assert caught.value.hint


def test_files_without_examples_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(DatasetError, match="is empty"):
        dataset.read_file(tmp_path / "empty")
    with pytest.raises(DatasetError, match="No such file"):
        dataset.read_file(tmp_path / "none")
    with pytest.raises(DatasetError, match="Is a directory"):
        dataset.read_file(tmp_path)


def test_a_conversation_teaches_what_the_model_said_by_itself() -> None:
    call = StoredToolCall(id="1", tool="clock", arguments={}, result="It is 5.", ok=True, seconds=0.1)
    messages = [
        stored("user", "what time is it", "1"), stored("assistant", "It is 5.", "1", tool_calls=(call,)),
        stored("user", "broken", "2"), stored("assistant", "half", "2", state="failed"),
        stored("user", "again?", "3", state="interrupted"),
        stored("user", "who are you", "4"), stored("assistant", "Juniper.", "4"),
        stored("user", "tell me more", "5"), stored("assistant", "Well,", "5", state="cancelled"),
        stored("user", "last", "6"),
    ]
    found = dataset.from_conversation(messages)
    assert found is not None
    assert [(message.content, message.weight) for message in found.messages if message.role == "assistant"] == [
        ("It is 5.", 0), ("Juniper.", 1)
    ]  # fmt: skip
    assert found.messages[-1].content == "Juniper."
    assert dataset.from_conversation(messages[:6]) is None
    assert dataset.from_conversation([]) is None


def test_an_exported_conversation_is_read(tmp_path: Path) -> None:
    session = SessionInfo(id="s", title="t", channel="cli", created_at=1.0, updated_at=1.0, messages=2)
    messages = (stored("user", "a", "1"), stored("assistant", "b", "1"))
    file = tmp_path / "export.json"
    file.write_text(to_json(Conversation(session=session, messages=messages)))
    assert dataset.read_file(file) == [chat("a", "b")]
    file.write_text(to_json(Conversation(session=session, messages=messages[:1])))
    with pytest.raises(DatasetError, match="no answer of a model"):
        dataset.read_file(file)
    file.write_text('{"session": 3, "messages": []}')
    with pytest.raises(DatasetError, match="not an exported conversation"):
        dataset.read_file(file)


def test_every_answer_becomes_an_example_with_all_before_it() -> None:
    long = chat("a", "b", "c", "d", system="own")
    built = dataset.build([long, *lessons(7)], "general")
    texts = {tuple(message.content for message in example.messages) for example in built.train}
    assert ("own", "a", "b") in texts
    assert ("own", "a", "b", "c", "d") in texts
    assert ("general", "question 0", "answer 0") in texts
    assert (len(built.train), built.valid) == (9, [])


def test_an_answer_without_weight_is_context_only() -> None:
    unlearnt = ChatMessage(role="assistant", content="b", weight=0)
    example = chat("a", "", "c", "d")
    example = Example(messages=(example.messages[0], unlearnt, *example.messages[2:]))
    built = dataset.build([example, *lessons(7)], "")
    assert [e for e in built.train if e.messages[0].content == "a"] == [chat("a", "b", "c", "d")]


def test_the_split_depends_on_the_words_alone(tmp_path: Path) -> None:
    twice = [*lessons(20), *lessons(20)]
    built, again = dataset.build(twice, ""), dataset.build(twice[::-1], "")
    assert (len(built.train), len(built.valid)) == (36, 4)
    assert built.valid == again.valid
    assert not {example.messages for example in built.train} & {example.messages for example in built.valid}
    built.write(tmp_path)
    lines = (tmp_path / "valid.jsonl").read_text().splitlines()
    assert [json.loads(line)["messages"][0]["role"] for line in lines] == ["user"] * 4


@pytest.mark.parametrize(("count", "said"), [(0, "no answers"), (1, "is 1 answer to"), (7, "are 7 answers")])
def test_too_little_is_refused(count: int, said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        dataset.build(lessons(count), "")


def shelved(paths: Paths, name: str, model: str = "starter", *, saved: bool = True) -> Path:
    """An adapter on the disk."""
    folder = home(paths) / name
    info = AdapterInfo(name=name, model=model, engine="teacher", state="complete", settings=Hyperparameters())
    write(folder, info)
    if saved:
        (folder / "adapters.safetensors").write_bytes(b"weights")
    return folder


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """A home."""
    return find({"ASSISTANT_HOME": str(tmp_path / "home")})


def test_an_adapter_is_found_by_name_and_by_folder(paths: Paths, tmp_path: Path) -> None:
    assert adapters(paths) == []
    folder = shelved(paths, "juniper")
    assert resolve_adapter(paths, "juniper", "starter") == folder
    assert resolve_adapter(paths, str(folder), "starter") == folder
    [found] = adapters(paths)
    assert (found.name, found.folder, found.usable) == ("juniper", str(folder), True)
    assert found.bytes > len(b"weights")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "adapters.safetensors").touch()
    assert resolve_adapter(paths, str(foreign), "anything") == foreign


def test_an_adapter_that_cannot_be_used_is_explained(paths: Paths, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="no adapter 'x'"):
        resolve_adapter(paths, "x", "starter")
    shelved(paths, "juniper")
    shelved(paths, "unsaved", saved=False)
    for name in ("junipr", "../juniper", ".", ""):
        with pytest.raises(ModelNotFound) as caught:
            resolve_adapter(paths, name, "starter")
        assert caught.value.hint
    with pytest.raises(ModelNotFound) as caught:
        resolve_adapter(paths, "junipr", "starter")
    assert caught.value.hint == "did you mean 'juniper'?"
    with pytest.raises(ModelNotFound, match="holds no adapter"):
        resolve_adapter(paths, str(tmp_path), "starter")
    with pytest.raises(ModelError, match="was trained on the model 'starter' and does not fit 'hf:a/b'"):
        resolve_adapter(paths, "juniper", "hf:a/b")
    with pytest.raises(ModelError, match="nothing has been saved"):
        resolve_adapter(paths, "unsaved", "starter")


def test_a_damaged_record_is_no_adapter(paths: Paths) -> None:
    (shelved(paths, "juniper") / "assistant.json").write_text("{")
    assert adapters(paths) == []


class Classroom:
    """A served daemon with a teacher, and what it tells."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.events: list[events.FinetuneProgressed | events.FinetuneFinished] = []
        self._told = anyio.Event()

    @property
    def client(self) -> Client:
        """Over the socket."""
        return self.world.client

    def keep(self, event: events.Event) -> None:
        """An observer."""
        if isinstance(event, events.FinetuneProgressed | events.FinetuneFinished):
            self.events.append(event)
            self._told.set()
            self._told = anyio.Event()

    async def until(self, iteration: int) -> None:
        """Wait until so much has been learnt."""
        with anyio.fail_after(60):
            while not any(event.iteration >= iteration for event in self.events):
                await self._told.wait()

    async def finished(self, count: int = 1) -> events.FinetuneFinished:
        """Wait for an end."""
        with anyio.fail_after(60):
            while True:
                ends = [event for event in self.events if isinstance(event, events.FinetuneFinished)]
                if len(ends) >= count:
                    return ends[count - 1]
                await self._told.wait()

    def note(self, name: str) -> dict[str, Any]:
        """What the teacher wrote down."""
        found: dict[str, Any] = json.loads((home(self.world.paths) / name / "count.json").read_text())
        return found


@asynccontextmanager
async def classroom(folder: Path) -> AsyncIterator[Classroom]:
    """A daemon while the block runs."""
    async with assembled(folder) as world, served(world):
        world.plugins.engines["llm", "teacher"] = Teacher()
        room = Classroom(world)
        world.bus.add_observer(room.keep)
        yield room


def request(**more: Any) -> FinetuneRequest:
    """Twelve lessons for the adapter ``one``."""
    return FinetuneRequest(**{"name": "one", "examples": lessons(12), "iterations": 5, **more})


@pytest.mark.anyio
async def test_a_training_tells_how_far_it_is_and_ends(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        begun = await room.client.finetune(request())
        assert (begun.state, begun.model, begun.train_examples, begun.valid_examples) == ("running", "starter", 11, 1)
        end = await room.finished()
        assert (end.reason, end.iteration, end.iterations, end.error) == ("complete", 5, 5, None)
        progress = [event for event in room.events if isinstance(event, events.FinetuneProgressed)]
        assert [event.iteration for event in progress] == [0, 1, 2, 3, 4, 5]
        info = await room.client.adapter("one")
        assert (info.state, info.iteration, info.first_loss, info.train_loss) == ("complete", 5, 4.0, 0.8)
        assert (info.valid_loss, info.usable, info.settings.rank) == (4.0, True, 8)
        assert await room.client.adapters() == [info]
        assert room.note("one")["lines"] == 11
        lane = next(lane for lane in room.world.services.lanes.infos() if lane.name == "train")
        assert (lane.pid, lane.engines) == (0, ())
        first = (home(room.world.paths) / "one" / "data" / "train.jsonl").read_text().splitlines()[0]
        assert json.loads(first)["messages"][0] == {"role": "system", "content": "You are a helpful assistant."}


@pytest.mark.anyio
async def test_a_cancelled_training_goes_on_when_it_is_resumed(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        await room.client.finetune(request(learning_rate=0.5, rank=4))
        await room.until(2)
        with pytest.raises(TrainingBusy, match="'one' is being trained") as caught:
            await room.client.finetune(request(name="two"))
        assert not caught.value.permanent
        assert not await room.client.cancel_finetune("two")
        assert await room.client.cancel_finetune("one")
        end = await room.finished()
        assert (end.reason, end.error) == ("cancelled", None)
        info = await room.client.adapter("one")
        assert (info.state, info.usable) == ("cancelled", True)
        assert 2 <= info.iteration <= room.note("one")["done"]
        assert room.note("one")["niceness"] > 0
        assert not await room.client.cancel_finetune("one")

        room.events.clear()
        longer = room.note("one")["done"] + 3
        await room.client.finetune(FinetuneRequest(name="one", resume=True, iterations=longer, learning_rate=0.1))
        end = await room.finished()
        assert (end.reason, end.iteration) == ("complete", longer)
        assert min(event.iteration for event in room.events) == longer - 3
        assert (await room.client.adapter("one")).settings.rank == 4


@pytest.mark.anyio
async def test_a_lane_that_dies_fails_the_training_which_can_be_resumed(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        await room.client.finetune(request(learning_rate=0.25))
        end = await room.finished()
        assert end.reason == "failed"
        assert end.error is not None
        assert (end.error.code, end.error.permanent) == ("engine_crashed", False)
        info = await room.client.adapter("one")
        assert (info.state, info.error) == ("failed", end.error)
        await room.client.finetune(FinetuneRequest(name="one", resume=True))
        assert (await room.finished(2)).reason == "complete"


@pytest.mark.anyio
async def test_a_bug_or_an_engine_that_cannot_fails_the_training_only(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        await room.client.finetune(request(learning_rate=0.75))
        end = await room.finished()
        assert end.error is not None
        assert (end.error.code, "a bug" in end.error.message) == ("engine_failed", True)
        del room.world.plugins.engines["llm", "teacher"]
        echo = next(engine for (kind, _), engine in room.world.plugins.engines.items() if kind == "llm")
        echo.default_model = "starter"
        await room.client.finetune(request())
        end = await room.finished(2)
        assert end.error is not None
        assert "cannot train" in end.error.message


@pytest.mark.anyio
async def test_what_cannot_begin_is_refused(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        refused: list[tuple[FinetuneRequest, type[AssistantError], str]] = [
            (request(examples=lessons(3)), DatasetError, "3 answers"),
            (request(examples=(chat("a", " "), *lessons(9))), DatasetError, "example 1: message 2: its content is"),
            (request(model="nowhere"), ModelNotFound, "no model 'nowhere'"),
            (request(sessions=("feedbeef",)), SessionNotFound, "feedbeef"),
            (request(rank=0), ModelError, "rank"),
            (request(name="one", resume=True, examples=()), ModelNotFound, "no adapter 'one'"),
        ]
        for wanted, kind, said in refused:
            with pytest.raises(kind) as caught:
                await room.client.finetune(wanted)
            assert said in caught.value.message
            assert caught.value.hint
        for name in ("", "../one", ".hidden", "a/b"):
            with pytest.raises(AssistantError, match=r"\$\.name|match"):
                await room.client.finetune(request(name=name))
        assert await room.client.adapters() == []
        room.world.plugins.engines.clear()
        with pytest.raises(EngineNotFound):
            await room.client.finetune(request())
        assert room.events == []


@pytest.mark.anyio
async def test_an_adapter_is_neither_overwritten_nor_resumed_with_other_settings(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        await room.client.finetune(request())
        await room.finished()
        with pytest.raises(ModelError, match="there is an adapter 'one' already"):
            await room.client.finetune(request())
        with pytest.raises(ModelError, match="begun with rank 8"):
            await room.client.finetune(FinetuneRequest(name="one", resume=True, rank=4))
        with pytest.raises(ModelError, match="is for the model 'starter'"):
            await room.client.finetune(FinetuneRequest(name="one", resume=True, model="hf:test/small"))
        with pytest.raises(DatasetError, match="data that it began with"):
            await room.client.finetune(request(resume=True))
        await room.client.remove_adapter("one")
        assert await room.client.adapters() == []
        assert list(home(room.world.paths).iterdir()) == []
        with pytest.raises(ModelNotFound):
            await room.client.remove_adapter("one")


@pytest.mark.anyio
async def test_removing_stops_the_training_first(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        await room.client.finetune(request(learning_rate=0.5))
        await room.until(1)
        await room.client.remove_adapter("one")
        assert (await room.finished()).reason == "cancelled"
        assert await room.client.adapters() == []


@pytest.mark.anyio
async def test_a_daemon_that_goes_down_leaves_an_interrupted_training(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        await room.client.finetune(request(learning_rate=0.5))
        await room.until(2)
    async with classroom(tmp_path) as room:
        info = await room.client.adapter("one")
        assert (info.state, info.usable) == ("interrupted", True)
        done = room.note("one")["done"]
        await room.client.finetune(FinetuneRequest(name="one", resume=True, iterations=done + 1, learning_rate=0.1))
        assert (await room.finished()).iteration == done + 1
    running = msgspec.structs.replace(info, state="running")
    write(home(room.world.paths) / "one", running)
    async with classroom(tmp_path) as room:
        assert (await room.client.adapter("one")).state == "interrupted"


@pytest.mark.anyio
async def test_conversations_of_the_store_are_learnt(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        db = room.world.services.db
        ids = []
        for number in range(10):
            session = await db.call(STORE, Store.create_session, "cli", f"talk {number}")
            turn = f"{number:032x}"
            await db.call(STORE, Store.begin_turn, session.id, turn, "text")
            await db.call(STORE, Store.add_user_message, session.id, turn, f"question {number}")
            await db.call(STORE, Store.finish_turn, turn, "complete", f"answer {number}", None, {}, 1, 1)
            ids.append(session.id)
        await room.client.finetune(request(examples=(), from_sessions=True))
        await room.finished()
        assert room.note("one")["lines"] == 9
        some = request(name="two", examples=lessons(7), sessions=(ids[0], ids[1][:12]))
        begun = await room.client.finetune(some)
        assert begun.train_examples + begun.valid_examples == 9
        await room.finished(2)
