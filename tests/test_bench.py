"""Measuring: rates, the machine's bound, servers to compare with, and the report."""

from __future__ import annotations

import io
import json
import socket
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from chat_server import TEMPLATE_TOKENS, ChatServer, serving

from assistant.bench import bandwidth, plot
from assistant.bench.cost import ModelCost, of_model
from assistant.bench.measure import Bench
from assistant.bench.prompts import WORDS, Prompts, calibrate
from assistant.bench.remote import RemoteTarget, base_url, remote
from assistant.bench.report import Bandwidth, Figure, Report
from assistant.bench.show import show
from assistant.bench.streams import BenchError, Stream, steady
from assistant.bench.tally import Plan, Tally
from assistant.engines import Message

pytestmark = pytest.mark.anyio

ASK = (Message(role="system", content="one two three"), Message(role="user", content="go on"))
M4 = Bandwidth(gb_per_second=120, source="given")


def stream(*ticks: float, tokens: int = 0) -> Stream:
    return Stream(0.0, ticks, tokens, 100, 0, "")


def test_the_rate_of_one_stream_begins_at_its_first_token() -> None:
    assert steady([stream(5.0, 5.5, 6.0, 6.5, 7.0)]) == 2.0
    assert steady([stream(5.0, 5.5, 6.0, 6.5, 7.0, tokens=10)]) == 4.0


def test_the_rate_of_several_counts_only_the_time_when_all_were_written() -> None:
    slow, late = stream(1.0, 2.0, 3.0, 4.0, 5.0), stream(2.0, 2.5, 3.0, 3.5, 4.0)
    assert steady([slow, late]) == (2 + 4) / 2
    assert steady([stream(1.0)]) is None


def test_the_rate_of_streams_one_after_the_other_has_their_pauses_in_it() -> None:
    assert steady([stream(1.0, 2.0, 3.0), stream(9.0, 10.0, 11.0)]) == (2 + 3) / 10


def test_the_time_to_the_first_token_counts_from_the_question() -> None:
    assert Stream(2.0, (2.5, 3.0), 0, 0, 0, "").first == 0.5


@pytest.mark.parametrize(("chip", "cores", "expected"), [
    ("Apple M1", 8, 68.3), ("Apple M4", 10, 120), ("Apple M4 Pro", 14, 273), ("Apple M4 Max", 14, 410),
    ("Apple M4 Max", 16, 546), ("Apple M5", 10, 153), ("Apple M3 Ultra", 32, 819),
])  # fmt: skip
def test_the_bandwidth_of_a_mac_is_the_makers(chip: str, cores: int, expected: float) -> None:
    found = bandwidth.from_table(chip, cores)
    assert found is not None
    assert found.gb_per_second == expected
    assert chip in found.source


def test_a_chip_that_is_not_in_the_table_is_measured() -> None:
    assert bandwidth.from_table("Apple M99", 8) is None
    assert bandwidth.from_table("Apple M4 Max", 12) is None
    found = bandwidth.measured(1 << 22)
    assert found.gb_per_second > 0
    assert found.source.startswith("measured")


def test_a_given_bandwidth_goes_before_all_others() -> None:
    assert bandwidth.find(42.0) == Bandwidth(gb_per_second=42.0, source="given")


def model_files(folder: Path, size: int, config: dict[str, Any], tensors: dict[str, dict[str, Any]]) -> Path:
    """A folder whose weights take ``size`` bytes, though nothing is written but their header."""
    header = json.dumps(tensors).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(size)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


LLAMA = {"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
         "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256,
         "quantization": {"group_size": 64, "bits": 4}}  # fmt: skip


def cost_of(folder: Path, size: int, config: dict[str, Any], tensors: dict[str, dict[str, Any]], held: int = 0,
            ) -> ModelCost:  # fmt: skip
    found = of_model(model_files(folder, size, config, tensors), held)
    assert found is not None
    return found


def test_the_bound_of_an_8b_model_on_an_m4_is_the_known_one(tmp_path: Path) -> None:
    cost = cost_of(tmp_path, 4_530_000_000, LLAMA, {})
    assert cost.bound(M4, 1, 0) == pytest.approx(26.5, abs=0.05)
    assert cost.keys_and_values(8192) == 1 << 30
    assert cost.bound(M4, 1, 8192) == pytest.approx(120e9 / (4.53e9 + 2**30))
    assert cost.bound(M4, 4, 0) == pytest.approx(4 * cost.bound(M4, 1, 0))


def test_an_embedding_that_is_no_output_layer_is_not_read(tmp_path: Path) -> None:
    table = {"model.embed_tokens.weight": {"dtype": "U32", "shape": [10, 10], "data_offsets": [0, 530_000_000]}}
    cost = cost_of(tmp_path, 4_530_000_000, LLAMA, table)
    assert cost.read(1) == pytest.approx(4e9)
    tied = tmp_path / "tied"
    tied.mkdir()
    assert cost_of(tied, 4_530_000_000, {**LLAMA, "tie_word_embeddings": True}, table).read(1) == 4.53e9


def test_of_a_mixture_of_experts_only_those_chosen_are_read(tmp_path: Path) -> None:
    config = {**LLAMA, "num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768}
    cost = cost_of(tmp_path, 17_000_000_000, config, {})
    assert cost.experts > 0
    assert cost.read(1) == pytest.approx(cost.shared + cost.experts * 8 / 128)
    assert cost.read(1) < cost.read(2) < cost.read(8) < cost.weights


def test_weights_that_were_unpacked_count_as_they_are_held(tmp_path: Path) -> None:
    tensors = {"layer.weight": {"dtype": "F16", "shape": [1000, 1000], "data_offsets": [0, 2_000_000]}}
    cost = cost_of(tmp_path, 2_000_000, {**LLAMA, "quantization": None}, tensors, held=4_000_000)
    assert cost.weights == cost.read(1) == 4_000_000
    assert cost.item == 4
    assert "as the engine holds them" in cost.note


def test_a_folder_that_is_no_model_has_no_bound(tmp_path: Path) -> None:
    assert of_model(tmp_path) is None
    (tmp_path / "config.json").write_text("{}")
    assert of_model(tmp_path) is None


def test_prompts_differ_from_their_first_words_on() -> None:
    prompts = Prompts()
    starts = {tuple(prompts.of(40)[0].content.split()[:5]) for _ in range(50)}
    assert len(starts) == 50
    assert len(prompts.of(40)[0].content.split()) == 40
    assert len(set(WORDS)) == len(WORDS)


async def test_prompts_get_the_wanted_length() -> None:
    with serving(ChatServer()) as url:
        async with remote(url) as target:
            filler = await calibrate(target, Prompts())
            words = filler.words(400)
            assert (await target.ask(Prompts().of(words), 2)).prompt_tokens == pytest.approx(400, abs=10)
            assert filler.words(1) == 1


@asynccontextmanager
async def asked(chat: ChatServer, model: str = "", api_key: str = "") -> AsyncIterator[RemoteTarget]:
    with serving(chat) as url:
        async with remote(url, model, api_key) as target:
            yield target


async def test_tokens_are_counted_by_the_usage_that_a_server_reports() -> None:
    async with asked(ChatServer(each=2)) as target:
        found = await target.ask(ASK, 8)
    assert (found.tokens, len(found.ticks), found.weight) == (8, 4, 2.0)
    assert (found.prompt_tokens, found.cached_tokens) == (5 + TEMPLATE_TOKENS, 5)
    assert found.text == " 0 1 2 3"
    assert "usage" in target.counting


async def test_tokens_are_counted_by_chunks_where_there_is_no_usage() -> None:
    async with asked(ChatServer(usage=False)) as target:
        found = await target.ask(ASK, 8)
    assert (found.tokens, found.produced, found.prompt_tokens) == (0, 8, 0)
    assert "chunks" in target.counting


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
async def test_reasoning_is_timed_and_is_no_answer(name: str) -> None:
    async with asked(ChatServer(field_name=name)) as target:
        found = await target.ask(ASK, 6)
    assert len(found.ticks) == 6
    assert found.text == ""


async def test_the_request_is_greedy_and_names_the_only_model() -> None:
    chat = ChatServer(models=("only",))
    async with asked(chat) as target:
        await target.ask(ASK, 6)
    sent = chat.bodies[-1]
    assert (sent["model"], sent["temperature"], sent["stream"], sent["max_tokens"]) == ("only", 0, True, 6)
    assert sent["messages"][0] == {"role": "system", "content": "one two three"}


@pytest.mark.parametrize("models", [None, ()])
async def test_a_server_that_lists_no_model_is_asked_for_its_default(models: tuple[str, ...] | None) -> None:
    async with asked(ChatServer(models=models)) as target:
        assert target.model == "default_model"


async def test_of_several_models_one_must_be_named() -> None:
    chat = ChatServer(models=("small", "large"))
    with pytest.raises(BenchError, match="2 models: small, large") as caught:
        async with asked(chat):
            pass
    assert "--compare-model" in caught.value.hint
    async with asked(chat, "large") as target:
        assert target.model == "large"


async def test_a_server_that_does_not_know_stream_options_goes_without() -> None:
    chat = ChatServer(stream_options=False, usage=False)
    async with asked(chat) as target:
        assert (await target.ask(ASK, 4)).produced == 4
    assert "stream_options" not in chat.bodies[-1]


async def test_the_key_is_sent_and_a_missing_one_is_told() -> None:
    async with asked(ChatServer(api_key="secret"), api_key="secret") as target:
        assert (await target.ask(ASK, 4)).produced == 4
    with pytest.raises(BenchError, match="HTTP 401: who are you") as caught:
        async with asked(ChatServer(api_key="secret")):
            pass
    assert "--api-key" in caught.value.hint


@pytest.mark.parametrize(("trouble", "told"), [
    ("error", "out of memory"), ("cut", "broke off"), ("mute", "nothing at all"),
])
async def test_what_goes_wrong_in_a_stream_is_told(trouble: str, told: str) -> None:
    with pytest.raises(BenchError, match=told):
        async with asked(ChatServer(trouble=trouble)):
            pass


async def test_something_else_than_a_chat_server_is_told() -> None:
    with pytest.raises(BenchError, match="broke off"):
        async with asked(ChatServer(page="<html>Welcome</html>")):
            pass
    with pytest.raises(BenchError, match="does not speak OpenAI's protocol"):
        async with asked(ChatServer(page="data: <html>\n\n")):
            pass


async def test_an_address_where_nobody_is() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(BenchError, match="cannot be reached"):
            async with remote(f"http://127.0.0.1:{taken.getsockname()[1]}"):
                pass


@pytest.mark.parametrize(("url", "base"), [
    ("http://localhost:8080", "http://localhost:8080/v1"),
    ("http://localhost:8080/", "http://localhost:8080/v1"),
    ("http://localhost:8080/v1/", "http://localhost:8080/v1"),
    ("https://example.org/api/v3/chat/completions", "https://example.org/api/v3"),
])
def test_an_address_may_be_short(url: str, base: str) -> None:
    assert base_url(url) == base


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://x/", "http://", "http://x:99999", "", "http://x:y"])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(BenchError, match="no address") as caught:
        base_url(url)
    assert "http://127.0.0.1:8080/v1" in caught.value.hint


@asynccontextmanager
async def two(plan: Plan, first: ChatServer, second: ChatServer) -> AsyncIterator[tuple[Tally, list[str]]]:
    """A whole run over two servers, the first in the place of the engine."""
    tally, said = Tally(plan), list[str]()
    tally.engine, tally.model, tally.bandwidth = "none", "tiny", M4
    async with asked(first) as a, asked(second) as b:
        tally.targets += [a, b]
        await Bench(tally, said.append).run()
        yield tally, said


PLAN = Plan(prompts=(40, 80), batches=(1, 3), tokens=8, rounds=3)


async def test_a_run_measures_everything_every_round() -> None:
    async with two(PLAN, ChatServer(), ChatServer(usage=False)) as (tally, said):
        report = tally.report(complete=True)
    assert report.complete
    for target in report.targets:
        assert [row.length for row in target.prompts] == [40, 80]
        assert [row.streams for row in target.batches] == [1, 3]
        assert [row.state for row in target.first_token] == ["cold", "warm"]
        for row in target.prompts:
            assert row.prefill is not None
            assert row.decode is not None
            assert len(row.prefill.values) == len(row.decode.values) == 3
        assert target.errors == ()
    ours, theirs = report.targets
    assert ours.prompts[1].tokens == pytest.approx(80, abs=10)
    assert theirs.prompts[1].tokens == 0
    assert "usage" in ours.counting
    assert "chunks" in theirs.counting
    # The two take turns at going first.
    titles = [line.rpartition(" ")[2] for line in said if "a prompt of 40" in line]
    assert titles == [ours.title, theirs.title, theirs.title, ours.title, ours.title, theirs.title]


async def test_what_a_server_refuses_is_told_and_the_rest_is_kept() -> None:
    plan = Plan(prompts=(40,), batches=(1,), tokens=8, rounds=1)
    async with two(plan, ChatServer(), ChatServer(most=3)) as (tally, _):
        report = tally.report(complete=True)
    ours, theirs = report.targets
    assert [row.state for row in ours.first_token] == ["cold", "warm"]
    assert theirs.first_token == ()
    assert (len(theirs.prompts), len(theirs.batches)) == (1, 1)
    (told,) = theirs.errors
    assert "HTTP 429: too many requests" in told
    assert told in shown(report)


async def test_answers_too_short_to_time_are_noted() -> None:
    plan = Plan(prompts=(40,), batches=(1,), tokens=8, rounds=1)
    async with two(plan, ChatServer(tokens=1), ChatServer()) as (tally, _):
        report = tally.report(complete=True)
    assert report.targets[0].batches == ()
    assert report.targets[0].prompts[0].decode is None
    assert any("too short to time" in note for note in report.notes)


def shown(report: Report) -> str:
    """The tables."""
    file = io.StringIO()
    show(report, file)
    return file.getvalue()


async def test_the_report_is_json_that_reads_back_and_has_a_schema() -> None:
    async with two(PLAN, ChatServer(), ChatServer()) as (tally, _):
        report = tally.report(complete=True)
    assert msgspec.json.decode(msgspec.json.encode(report), type=Report) == report
    schema = msgspec.json.schema(Report)["$defs"]
    assert schema["Report"]["required"][0] == "complete"
    assert set(schema["Figure"]["properties"]) == {"median", "lowest", "highest", "values"}


def test_a_figure_keeps_every_value() -> None:
    figure = Figure.of([3.0, 1.0, 8.0])
    assert figure == Figure(median=3.0, lowest=1.0, highest=8.0, values=(3.0, 1.0, 8.0))
    assert Figure.of([]) is None


async def test_the_tables_show_both_and_their_ratio(tmp_path: Path) -> None:
    async with two(PLAN, ChatServer(), ChatServer()) as (tally, _):
        tally.targets[0].kind = "engine"  # type: ignore[misc]
        tally.cost = cost_of(tmp_path, 4_530_000_000, LLAMA, {})
        report = tally.report(complete=False)
    text = shown(report)
    assert "One at a time" in text
    assert "At the same time" in text
    assert "Time to first token" in text
    assert "ours ÷ its" in text
    assert "120.0 GB/s (given)" in text
    assert "4.53 GB of weights + 131.1 kB" in text
    assert "NOT COMPLETE" in text
    assert f"{report.targets[1].title}: tokens by usage" in text
    row = report.targets[0].batches[1]
    assert row.total is not None
    assert row.bound is not None
    assert row.bound == pytest.approx(3 * 120e9 / (4.53e9 + 3 * 131072 * (row.context + 4)))
    assert row.share == pytest.approx(row.total.median / row.bound)
    assert report.targets[1].batches[1].bound is None


async def test_the_picture_is_a_png_of_its_size(tmp_path: Path) -> None:
    async with two(PLAN, ChatServer(), ChatServer()) as (tally, _):
        tally.targets[0].kind = "engine"  # type: ignore[misc]
        tally.cost = cost_of(tmp_path, 4_530_000_000, LLAMA, {})
        report = tally.report(complete=True)
    plot.draw(report, tmp_path / "bench.png")
    content = (tmp_path / "bench.png").read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", content[16:24]) == (1200, 420)
    plot.draw(Tally(PLAN).report(complete=False), tmp_path / "empty.png")
    assert len((tmp_path / "empty.png").read_bytes()) < len(content)


def test_a_picture_needs_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(BenchError, match="matplotlib") as caught:
        plot.check()
    assert caught.value.hint == "pip install 'assistant[bench]'"
