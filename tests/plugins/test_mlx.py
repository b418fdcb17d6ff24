"""The engine ``mlx``: answers, limits, cancelling, batching, tool calls, reasoning, broken models."""

from __future__ import annotations

import itertools
import json
import logging
import pickle
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from assistant_mlx import Settings
from assistant_mlx.chat.prompt import alternating, plain
from assistant_mlx.chat.reader import Markers, Piece, Reader
from assistant_mlx.engine import MlxLanguageModel
from model_fixtures import TOOL_TEMPLATE, scripted_model

from assistant import (
    ChatRequest,
    ContextOverflow,
    Delta,
    EngineFailed,
    Message,
    ModelError,
    ToolCall,
    ToolSchema,
    load_openblas,
)

ROLL = ToolSchema(name="roll", description="Roll a die.", parameters={"type": "object", "properties": {}})


def ask(text: str, *, max_tokens: int = 40, temperature: float = 0.0, seed: int | None = None,
        stop: tuple[str, ...] = (), tools: tuple[ToolSchema, ...] = ()) -> ChatRequest:
    """A conversation of one question."""
    message = Message(role="user", content=text)
    return ChatRequest(
        messages=(message,), max_tokens=max_tokens, temperature=temperature, seed=seed, stop=stop, tools=tools
    )


def answer(engine: MlxLanguageModel, request: ChatRequest) -> str:
    """The text of the whole answer."""
    return "".join(delta.text for delta in engine.generate(request))


def loaded(folder: Path, settings: Settings | None = None) -> MlxLanguageModel:
    """An engine with that model."""
    engine = MlxLanguageModel(settings or Settings())
    engine.load(folder)
    return engine


@pytest.fixture(scope="module")
def starter(starter_model: Path) -> Iterator[MlxLanguageModel]:
    """The real starter model, loaded once."""
    engine = pickle.loads(pickle.dumps(MlxLanguageModel(Settings())))
    engine.load(starter_model)
    yield engine
    engine.close()


LONG = "The quick brown fox jumps over the lazy dog. " * 40


@pytest.mark.model
def test_the_starter_knows_the_capital_of_france(starter: MlxLanguageModel) -> None:
    *deltas, last = starter.generate(ask("What is the capital of France?"))
    assert "Paris" in "".join(delta.text for delta in deltas)
    progress = [delta.prompt_done for delta in deltas if delta.prompt_tokens]
    assert progress == sorted(progress)
    assert progress[-1] == last.prompt_done == last.prompt_tokens == 37
    assert (last.finish_reason, last.text) == ("stop", "")
    assert 0 < last.output_tokens < 20


@pytest.mark.model
def test_a_cancel_in_prefill_or_decode_leaves_no_trace(starter: MlxLanguageModel) -> None:
    question = ask("Name three colours.", max_tokens=12)
    alone = answer(starter, question)
    reading = starter.generate(ask(LONG))
    first = next(reading)
    assert 0 < first.prompt_done < first.prompt_tokens
    reading.close()
    assert answer(starter, question) == alone
    writing = starter.generate(ask("Tell me a long story."))
    assert any(delta.text for delta in writing)
    writing.close()
    assert answer(starter, question) == alone


@pytest.mark.model
def test_interleaved_answers_are_those_given_alone(starter: MlxLanguageModel) -> None:
    questions = ["What is the capital of France?", "Name three colours.", "Tell me about foxes."]
    alone = [answer(starter, ask(question, max_tokens=12)) for question in questions]
    texts = [""] * len(questions)
    live = {index: starter.generate(ask(question, max_tokens=12)) for index, question in enumerate(questions)}
    doomed = starter.generate(ask(LONG[:450]))
    next(doomed)
    while live:
        for index, generator in list(live.items()):
            delta = next(generator, None)
            if delta is None:
                del live[index]
                doomed.close()
            else:
                texts[index] += delta.text
    assert texts == alone


@pytest.mark.model
def test_the_system_message_replaces_the_templates_own(starter: MlxLanguageModel) -> None:
    user = Message(role="user", content="Hi")
    (bare,) = [delta.prompt_tokens for delta in starter.generate(ask("Hi", max_tokens=1)) if delta.finish_reason]
    request = ChatRequest(messages=(Message(role="system", content="x"), user), max_tokens=1)
    (given,) = [delta.prompt_tokens for delta in starter.generate(request) if delta.finish_reason]
    assert given < bare


@pytest.mark.model
def test_a_prompt_longer_than_the_context_is_refused_with_both_numbers(starter: MlxLanguageModel) -> None:
    with pytest.raises(ContextOverflow, match=r"has \d{5} tokens.* is 8192"):
        next(starter.generate(ask(LONG * 25)))
    assert "Paris" in answer(starter, ask("What is the capital of France?"))


def test_the_answer_is_the_script(tmp_path: Path) -> None:
    engine = loaded(scripted_model(tmp_path, ["Hello", ", ", "world", "."]))
    deltas = list(engine.generate(ask("hi")))
    assert [delta.text for delta in deltas if delta.text] == ["Hello", ", ", "world", "."]
    assert (deltas[-1].finish_reason, deltas[-1].output_tokens) == ("stop", 5)
    engine.close()


@pytest.mark.parametrize("dequantize", ["auto", "always", "never"])
def test_packed_weights_answer_the_same(tmp_path: Path, dequantize: str) -> None:
    settings = msgspec.convert({"dequantize": dequantize}, Settings)
    engine = loaded(scripted_model(tmp_path, ["Hello", " there"], bits=4), settings)
    assert answer(engine, ask("hi")) == "Hello there"


def test_max_tokens_ends_the_answer_with_length(tmp_path: Path) -> None:
    engine = loaded(scripted_model(tmp_path, ["a1", "b2", "c3"]))
    *deltas, last = engine.generate(ask("hi", max_tokens=2))
    assert "".join(delta.text for delta in deltas) == "a1b2"
    assert (last.finish_reason, last.output_tokens) == ("length", 2)


def test_the_context_leaves_what_room_there_is(tmp_path: Path) -> None:
    folder = scripted_model(tmp_path, [f"w{index} " for index in range(100)], context=64)
    engine = loaded(folder)
    *_, last = engine.generate(ask("hi", max_tokens=500))
    assert last.finish_reason == "length"
    assert last.prompt_tokens + last.output_tokens == 64
    small = loaded(folder, Settings(context=40))
    assert small.context == 40
    *_, last = small.generate(ask("hi", max_tokens=500))
    assert last.prompt_tokens + last.output_tokens == 40
    fits = 40 - last.prompt_tokens
    *_, last = small.generate(ask("hi" + "x" * (fits - 1)))
    assert (last.output_tokens, last.finish_reason) == (1, "length")
    with pytest.raises(ContextOverflow, match=r"40 tokens.* is 40"):
        next(small.generate(ask("hi" + "x" * fits)))


def test_a_stop_string_across_tokens_ends_the_answer_before_it(tmp_path: Path) -> None:
    engine = loaded(scripted_model(tmp_path, ["one ", "tw", "o thr", "ee four"]))
    *deltas, last = engine.generate(ask("hi", stop=("two three",)))
    assert "".join(delta.text for delta in deltas) == "one "
    assert last.finish_reason == "stop"
    assert answer(engine, ask("hi", stop=("two five",))) == "one two three four"


def test_a_character_of_many_tokens_is_never_split(tmp_path: Path) -> None:
    face = [bytes([byte]) for byte in "😀".encode()]
    engine = loaded(scripted_model(tmp_path, ["hi ", *face, "é!"]))
    texts = [delta.text for delta in engine.generate(ask("hi"))]
    assert "".join(texts) == "hi 😀é!"
    assert not any("\ufffd" in text for text in texts)
    assert answer(engine, ask("hi", max_tokens=3)).strip() == "hi"


def test_every_step_of_a_long_prompt_is_bounded(tmp_path: Path) -> None:
    engine = loaded(scripted_model(tmp_path, ["ok"]), Settings(prefill_step=16))
    deltas = list(engine.generate(ask("x" * 200)))
    done = [delta.prompt_done for delta in deltas if delta.prompt_tokens]
    assert max(later - earlier for earlier, later in itertools.pairwise(done)) <= 16
    assert len(done) > 12


def test_a_short_question_does_not_wait_until_a_long_one_is_read(tmp_path: Path) -> None:
    engine = loaded(scripted_model(tmp_path, ["ok"]), Settings(prefill_step=16))
    long, short = engine.generate(ask("x" * 800)), engine.generate(ask("hi"))
    next(long)
    assert "".join(delta.text for delta in short) == "ok"
    progress = next(long)
    assert progress.prompt_done < progress.prompt_tokens
    assert "".join(delta.text for delta in long) == "ok"


def test_more_answers_than_fit_the_batch_wait_their_turn(tmp_path: Path) -> None:
    engine = loaded(scripted_model(tmp_path, [f"{number} " for number in range(30)]))
    live = [engine.generate(ask("x" * index)) for index in range(1, 21)]
    texts = ["" for _ in live]
    waited = 0
    for _ in range(200):
        for index, generator in enumerate(live):
            if delta := next(generator, None):
                texts[index] += delta.text
                waited += delta.prompt_tokens > 0 and delta.prompt_done == 0
    assert set(texts) == {" ".join(map(str, range(30))) + " "}
    assert waited


def test_the_same_seed_gives_the_same_answer_whoever_shares_the_batch(tmp_path: Path) -> None:
    engine = loaded(scripted_model(tmp_path, ["a1", "b2"]))
    request = ask("hi", temperature=1000.0, seed=7, max_tokens=12)
    alone = list(engine.generate(request))
    generator, other = engine.generate(request), engine.generate(ask("hi", temperature=1000.0, max_tokens=12))
    together: list[Delta] = []
    for delta in generator:
        together.append(delta)
        next(other, None)
    assert [delta.text for delta in together if delta.text] == [delta.text for delta in alone if delta.text]
    assert answer(engine, msgspec.structs.replace(request, seed=8)) != "".join(delta.text for delta in alone)


def test_calls_and_results_reach_the_template(tmp_path: Path) -> None:
    engine = loaded(scripted_model(tmp_path, ["ok"], template=TOOL_TEMPLATE))
    call = ToolCall(id="1", name="roll", arguments={"sides": 6})
    request = ChatRequest(
        messages=(
            Message(role="user", content="roll"), Message(role="assistant", content="", tool_calls=(call,)),
            Message(role="tool", content="four", tool_call_id="1"),
        ),
        tools=(ROLL,),
    )
    *deltas, last = engine.generate(request)
    assert "".join(delta.text for delta in deltas) == "ok"
    without = msgspec.structs.replace(request, messages=request.messages[:1], tools=())
    *_, bare = engine.generate(without)
    assert last.prompt_tokens > bare.prompt_tokens + len("Roll a die.") + len("four")


def test_reasoning_is_kept_apart(tmp_path: Path) -> None:
    script = ["<think>", "hm", " yes", "</think>", " Hello"]
    engine = loaded(scripted_model(tmp_path, script, special=("<think>", "</think>")))
    deltas = list(engine.generate(ask("hi")))
    assert "".join(delta.reasoning for delta in deltas) == "hm yes"
    assert "".join(delta.text for delta in deltas) == "Hello"


def test_reasoning_that_the_template_opened_is_kept_apart(tmp_path: Path) -> None:
    template = (
        "{% for message in messages %}{{ message.content }}{% endfor %}"
        "{% if add_generation_prompt %}<think>\n{% endif %}"
    )
    folder = scripted_model(
        tmp_path, ["hm", "</think>", "Hello"], template=template, special=("<think>", "</think>")
    )
    deltas = list(loaded(folder).generate(ask("hi")))
    assert "".join(delta.reasoning for delta in deltas) == "hm"
    assert "".join(delta.text for delta in deltas) == "Hello"


def test_a_template_that_wants_roles_by_turns_gets_them(tmp_path: Path) -> None:
    template = (
        "{% for message in messages %}{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}{{ message.content }}{% endfor %}{{ '\n' }}"
    )
    engine = loaded(scripted_model(tmp_path, ["ok"], template=template))
    system, user = Message(role="system", content="Be brief."), Message(role="user", content="hi")
    assert answer(engine, ChatRequest(messages=(system, user, user))) == "ok"


def test_a_template_that_refuses_everything_is_a_clear_error(tmp_path: Path) -> None:
    engine = loaded(scripted_model(tmp_path, ["ok"], template="{{ raise_exception('never') }}"))
    with pytest.raises(ModelError, match="refuses the conversation: never"):
        next(engine.generate(ask("hi")))
    with pytest.raises(ModelError, match="no message"):
        next(engine.generate(ChatRequest(messages=())))


def test_messages_for_plain_templates() -> None:
    call = ToolCall(id="1", name="roll", arguments={"sides": 6})
    messages = (
        Message(role="system", content="A"), Message(role="system", content="B"),
        Message(role="user", content="roll"), Message(role="assistant", content="", tool_calls=(call,)),
        Message(role="tool", content="four", tool_call_id="1"),
    )
    assert plain(messages) == [
        {"role": "system", "content": "A\n\nB"}, {"role": "user", "content": "roll"},
        {"role": "assistant", "content": 'I call roll with {"sides": 6}.'},
        {"role": "user", "content": "The tool answered: four"},
    ]
    assert [entry["role"] for entry in alternating(messages)] == ["user", "assistant", "user"]
    assert alternating(messages)[0]["content"] == "A\n\nB\n\nroll"


def test_two_engines_share_a_thread_and_one_may_leave(tmp_path: Path) -> None:
    staying = loaded(scripted_model(tmp_path / "a", ["Hello", " there", " friend"]))
    leaving = loaded(scripted_model(tmp_path / "b", ["ok"]))
    generator = staying.generate(ask("hi"))
    while not next(generator).text:
        pass
    assert answer(leaving, ask("hi")) == "ok"
    leaving.close()
    assert "".join(delta.text for delta in generator) == " there friend"


def test_an_engine_that_is_not_loaded_says_so() -> None:
    engine = MlxLanguageModel(Settings())
    assert engine.available() == ""
    with pytest.raises(EngineFailed, match="not loaded"):
        next(engine.generate(ask("hi")))
    with pytest.raises(ModelError, match="needs a model"):
        engine.load(None)
    engine.close()


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_broken_folder_is_a_model_error_that_names_what_is_wrong(tmp_path: Path) -> None:
    whole = scripted_model(tmp_path / "whole", ["ok"])
    damages: dict[str, Callable[[Path], object]] = {
        "has no config.json": lambda folder: (folder / "config.json").unlink(),
        "config.json' cannot be read|config.json cannot be read": lambda folder: _truncate(folder / "config.json"),
        "names no model_type": lambda folder: (folder / "config.json").write_text("[]"),
        "has no weights": lambda folder: (folder / "model.safetensors").unlink(),
        "has no tokenizer": lambda folder: (folder / "tokenizer.json").unlink(),
        "cannot be loaded: .*(safetensors|header|file)": lambda folder: _truncate(folder / "model.safetensors"),
        "cannot be loaded: .*shape": lambda folder: _edit(folder / "config.json", vocab_size=128),
        "cannot be loaded: Model type nonsense not supported": lambda folder: _edit(
            folder / "config.json", model_type="nonsense"
        ),
        "cannot be loaded: .*parameters": lambda folder: _edit(folder / "config.json", num_hidden_layers=3),
        "has no chat template": lambda folder: _edit(folder / "tokenizer_config.json", chat_template=None),
    }
    for number, (message, damage) in enumerate(damages.items()):
        folder = Path(shutil.copytree(whole, tmp_path / str(number)))
        damage(folder)
        with pytest.raises(ModelError, match=message):
            loaded(folder)


def test_loading_leaves_the_process_as_it_was(tmp_path: Path) -> None:
    scripted_model(tmp_path / "model", ["ok"])
    script = f"""
import os, resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_NOFILE, (700, 900))
before = dict(os.environ)
from assistant import ChatRequest, Message
from assistant_mlx import Settings
from assistant_mlx.engine import MlxLanguageModel
engine = MlxLanguageModel(Settings())
assert not {{"mlx.core", "mlx_lm", "numpy", "transformers"}} & set(sys.modules), "heavy before load()"
engine.load(Path({str(tmp_path / "model")!r}))
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (700, 900)
assert dict(os.environ) == before
assert "torch" not in sys.modules
import mlx_lm
assert __import__("importlib").import_module("mlx_lm.generate").maybe_set_recommended_wired_limit() is None
print("".join(d.text for d in engine.generate(ChatRequest(messages=(Message(role="user", content="hi"),)))))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("ok\n", 0), done.stderr
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] != 900


@pytest.mark.skipif(sys.platform != "linux", reason="MLX on a Mac brings its own BLAS")
def test_a_missing_openblas_is_only_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert not load_openblas(("libno-such-thing.so.0",))
    assert "OpenBLAS was not found" in caplog.text
    assert "install" in caplog.text


MARKERS = Markers("<think>", "</think>", "<call>", "</call>")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_the_reader_does_not_care_where_the_stream_is_cut(size: int) -> None:
    text = "<think>\nhm </thin</think>\n\nOne < two <cal<call>{1}</call>\n<call>{2}</call> three STO STOP four"
    reader = Reader(MARKERS, ("STOP",))
    pieces: list[Piece] = []
    for start in range(0, len(text), size):
        pieces += reader.feed(text[start : start + size])
    pieces += reader.finish()
    assert reader.stopped
    assert "".join(piece.text for piece in pieces if piece.kind == "reasoning") == "hm </thin"
    assert "".join(piece.text for piece in pieces if piece.kind == "text") == "One < two <calthree STO "
    assert [piece.text for piece in pieces if piece.kind == "tool"] == ["{1}", "{2}"]


def test_the_reader_gives_what_it_held_back_at_the_end() -> None:
    reader = Reader(MARKERS)
    assert reader.feed("a <thi") == [Piece("text", "a ")]
    assert reader.finish() == [Piece("text", "<thi")]
    openended = Reader(Markers(tool_start="[CALLS]"))
    assert openended.feed("x[CALLS]{1}") == [Piece("text", "x")]
    assert openended.finish() == [Piece("tool", "{1}")]
