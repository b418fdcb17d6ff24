"""One language model on several ranks, here as processes of this machine: the same answers, and what dies is told."""

from __future__ import annotations

import io
import itertools
import json
import os
import pickle
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from assistant_mlx import Settings, register_llm
from assistant_mlx.cluster import messages, ranks
from assistant_mlx.cluster.engine import ClusterLanguageModel
from assistant_mlx.cluster.places import lay_out
from assistant_mlx.cluster.splitting import check
from assistant_mlx.engine import MlxLanguageModel
from homes import Home, wait_for
from model_fixtures import scripted_model

from assistant import ChatRequest, Cluster, ContextOverflow, Delta, EngineFailed, Message, ModelError
from assistant.config import load as load_config
from assistant.paths import find
from assistant.plugins import PluginHost

HERE = "127.0.0.1"
THREE = Cluster((HERE,) * 3)


def random_model(folder: Path, *, heads: int = 6, key_value: int = 3, kind: str = "llama") -> Path:
    """A tiny Llama with random weights, which writes the same nonsense to the same question every time."""
    import mlx.core as mx

    scripted_model(folder, ["a b"])
    config = json.loads((folder / "config.json").read_text())
    size, hidden, dim, inner = config["vocab_size"], 96, 16, 192
    config |= {
        "model_type": kind, "hidden_size": hidden, "num_hidden_layers": 1, "intermediate_size": inner,
        "num_attention_heads": heads, "num_key_value_heads": key_value, "head_dim": dim,
    }
    key = mx.random.key(7)

    def drawn(*shape: int) -> Any:
        nonlocal key
        key, now = mx.random.split(key)
        return mx.random.normal(shape, key=now) * 0.2

    weights = {
        "model.embed_tokens.weight": drawn(size, hidden), "lm_head.weight": drawn(size, hidden),
        "model.norm.weight": mx.ones((hidden,)),
    }
    for norm in ("input_layernorm", "post_attention_layernorm"):
        weights[f"model.layers.0.{norm}.weight"] = mx.ones((hidden,))
    for name, shape in {
        "self_attn.q_proj": (heads * dim, hidden), "self_attn.k_proj": (key_value * dim, hidden),
        "self_attn.v_proj": (key_value * dim, hidden), "self_attn.o_proj": (hidden, heads * dim),
        "mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden), "mlp.down_proj": (hidden, inner),
    }.items():
        weights[f"model.layers.0.{name}.weight"] = drawn(*shape)
    (folder / "config.json").write_text(json.dumps(config))
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
    return folder


def ask(text: str, **more: Any) -> ChatRequest:
    """A conversation of one question."""
    return ChatRequest(messages=(Message(role="user", content=text),), **{"max_tokens": 8, **more})


def told(deltas: Iterator[Delta]) -> str:
    """The text of the rest of an answer."""
    return "".join(delta.text for delta in deltas)


def begun(stream: Iterator[Delta]) -> str:
    """Text up to the first piece of it."""
    return next(delta.text for delta in stream if delta.text)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The random model."""
    return random_model(tmp_path_factory.mktemp("models") / "random")


@pytest.fixture(scope="module")
def alone(model: Path) -> Iterator[MlxLanguageModel]:
    """It in one process: this one."""
    engine = MlxLanguageModel(Settings(prompt_cache_mb=64))
    engine.load(model)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def cluster(model: Path) -> Iterator[ClusterLanguageModel]:
    """It on three ranks."""
    engine: ClusterLanguageModel = pickle.loads(pickle.dumps(ClusterLanguageModel(Settings(), THREE)))
    engine.load(model)
    yield engine
    engine.close()


def pids(engine: ClusterLanguageModel) -> list[int]:
    """The processes of its ranks."""
    assert engine._ranks is not None
    return engine._ranks.pids


def gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


NUMBER = {"type": "object", "properties": {"b": {"enum": [1, 2]}}, "required": ["b"], "additionalProperties": False}
"""A schema whose answers are short."""

QUESTIONS = ("hello", "what is that?", "something longer to read, " * 8)


@pytest.mark.model
@pytest.mark.parametrize("question", QUESTIONS)
def test_ranks_write_what_one_process_writes(
    cluster: ClusterLanguageModel, alone: MlxLanguageModel, question: str
) -> None:
    *deltas, last = cluster.generate(ask(question))
    *_, expected = alone.generate(ask(question))
    assert told(iter(deltas)) == told(alone.generate(ask(question))) != ""
    assert (last.prompt_tokens, last.output_tokens, last.finish_reason) == (
        expected.prompt_tokens, expected.output_tokens, expected.finish_reason
    )
    assert cluster.context == alone.context


@pytest.mark.model
def test_a_second_question_goes_on_from_the_first(cluster: ClusterLanguageModel) -> None:
    first = told(cluster.generate(ask("tell me something")))
    *deltas, last = cluster.generate(ask("tell me something"))
    assert told(iter(deltas)) == first
    assert last.cached_tokens > 10


@pytest.mark.model
def test_requests_are_answered_side_by_side(cluster: ClusterLanguageModel, alone: MlxLanguageModel) -> None:
    streams = [cluster.generate(ask(question)) for question in QUESTIONS]
    texts = [""] * len(streams)
    live = dict(enumerate(streams))
    order = []
    while live:
        for number, stream in [*live.items()]:
            if (delta := next(stream, None)) is None:
                del live[number]
            elif delta.text:
                texts[number] += delta.text
                order.append(number)
    assert texts == [told(alone.generate(ask(question))) for question in QUESTIONS]
    assert len([*itertools.groupby(order)]) > len(streams)


@pytest.mark.model
def test_a_cancelled_answer_disturbs_no_other(cluster: ClusterLanguageModel, alone: MlxLanguageModel) -> None:
    kept, dropped = cluster.generate(ask("keep")), cluster.generate(ask("drop", max_tokens=2000))
    begun(dropped)
    text = begun(kept)
    dropped.close()
    assert text + told(kept) == told(alone.generate(ask("keep")))
    assert told(cluster.generate(ask("next"))) == told(alone.generate(ask("next")))


@pytest.mark.model
def test_chance_falls_the_same_on_every_rank(cluster: ClusterLanguageModel, alone: MlxLanguageModel) -> None:
    drawn = ask("dice", temperature=1.5, seed=3)
    assert told(cluster.generate(drawn)) == told(alone.generate(drawn))
    texts = {told(cluster.generate(ask("dice", temperature=1.5))) for _ in range(3)}
    assert len(texts) > 1


@pytest.mark.model
def test_a_grammar_holds_on_every_rank(cluster: ClusterLanguageModel, alone: MlxLanguageModel) -> None:
    request = ask("numbers", schema=NUMBER, max_tokens=30)
    text = told(cluster.generate(request))
    assert text == told(alone.generate(request))
    assert json.loads(text)["b"] in (1, 2)


@pytest.mark.model
def test_what_a_rank_refuses_is_that_error(cluster: ClusterLanguageModel) -> None:
    with pytest.raises(ContextOverflow, match="the model's context is 2048"):
        told(cluster.generate(ask("too much " * 2000)))
    with pytest.raises(EngineFailed, match="cannot answer with a LoRA adapter"):
        next(cluster.generate(ask("x", adapter="mine")))
    assert told(cluster.generate(ask("still there?")))


@pytest.mark.model
def test_ranks_without_work_wait_without_working(cluster: ClusterLanguageModel) -> None:
    cluster.speech_live(True)
    cluster.speech_live(False)
    told(cluster.generate(ask("hello")))
    processes = [psutil.Process(pid) for pid in pids(cluster)]
    wait_for(lambda: cluster.memory().active > 0)
    before = [sum(process.cpu_times()[:2]) for process in processes]
    with pytest.raises(psutil.TimeoutExpired):
        processes[1].wait(1.5)
    spent = [sum(process.cpu_times()[:2]) - was for process, was in zip(processes, before, strict=True)]
    assert max(spent) < 0.3


@pytest.mark.model
def test_a_rank_that_is_killed_fails_the_turn_and_the_next_one_works(
    cluster: ClusterLanguageModel, alone: MlxLanguageModel
) -> None:
    streams = [cluster.generate(ask(text, max_tokens=2000)) for text in ("one", "two")]
    for stream in streams:
        begun(stream)
    before = pids(cluster)
    os.kill(before[2], signal.SIGKILL)
    for stream in streams:
        said = rf"rank 2 of the cluster \(host {HERE}\) died: killed by SIGKILL"
        with pytest.raises(EngineFailed, match=said) as caught:
            told(stream)
        assert "starts anew" in caught.value.hint
    assert all(gone(pid) for pid in before)
    assert told(cluster.generate(ask("again"))) == told(alone.generate(ask("again")))
    assert not {*before} & {*pids(cluster)}


@pytest.mark.model
def test_a_rank_that_dies_without_work_costs_no_turn(cluster: ClusterLanguageModel, alone: MlxLanguageModel) -> None:
    before = pids(cluster)
    os.kill(before[0], signal.SIGKILL)
    wait_for(lambda: cluster._ranks is not None and cluster._ranks.lost)
    assert told(cluster.generate(ask("and again"))) == told(alone.generate(ask("and again")))
    assert all(gone(pid) for pid in before)


@pytest.mark.model
def test_ranks_end_with_their_lane(model: Path) -> None:
    program = f"""
import time
from pathlib import Path
from assistant import ChatRequest, Cluster, Message
from assistant_mlx import Settings
from assistant_mlx.cluster.engine import ClusterLanguageModel
engine = ClusterLanguageModel(Settings(), Cluster(("{HERE}", "{HERE}", "{HERE}")))
engine.load(Path({str(model)!r}))
stream = engine.generate(ChatRequest(messages=(Message(role="user", content="x"),), max_tokens=2000))
while not next(stream).text:
    pass
print(*engine._ranks.pids, flush=True)
time.sleep(60)
"""
    lane = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert lane.stdout is not None
    with lane.stdout:
        found = [int(pid) for pid in lane.stdout.readline().split()]
    assert len(found) == 3
    assert not any(gone(pid) for pid in found)
    lane.kill()
    lane.wait()
    wait_for(lambda: all(gone(pid) for pid in found))


# Other machines: an ssh that runs the command here

def _ssh(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    folder.mkdir()
    file = folder / "ssh"
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


RUN_HERE = 'for last; do :; done; echo "Welcome!"; exec sh -c "$last"'


def _far(tmp_path: Path, **more: Any) -> Cluster:
    """This machine, and one that only ssh knows."""
    hosts = [{"ssh": HERE, "ips": [HERE]}, {"ssh": "far", "ips": [HERE]}, {"ssh": HERE, "ips": [HERE]}]
    file = tmp_path / "hosts.json"
    file.write_text(json.dumps({"backend": "ring", "envs": ["MLX_RING_VERBOSE=1"], "hosts": hosts}))
    return Cluster(hostfile=str(file), **more)


@pytest.mark.model
def test_a_machine_behind_ssh(
    model: Path, alone: MlxLanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _ssh(tmp_path / "bin", monkeypatch, f'echo "$*" >{tmp_path}/said; {RUN_HERE}')
    engine = ClusterLanguageModel(Settings(), _far(tmp_path))
    assert engine.available() == ""
    try:
        engine.load(model)
        assert told(engine.generate(ask("far away"))) == told(alone.generate(ask("far away")))
    finally:
        engine.close()
    assert "BatchMode=yes" in (tmp_path / "said").read_text()


@pytest.mark.parametrize(("body", "message", "hint"), [
    ("echo 'ssh: connect to host far port 22: Connection timed out' >&2; exit 255",
     "the host far of the cluster cannot be reached by ssh: ssh: connect to host far port 22: Connection timed out",
     "`ssh far true` must work here without a password"),
    ("echo 'sh: /opt/python: not found' >&2; exit 127",
     "the assistant cannot be started on the host far of the cluster: sh: /opt/python: not found",
     "[llm.cluster] python"),
    ("exit 3", "the assistant cannot be started on the host far of the cluster: exited with status 3",
     "install the assistant there for the Python /opt/python"),
])
def test_a_machine_that_cannot_be_used_is_named(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, message: str, hint: str
) -> None:
    _ssh(tmp_path / "bin", monkeypatch, body)
    engine = ClusterLanguageModel(Settings(), _far(tmp_path, python="/opt/python"))
    with pytest.raises(EngineFailed) as caught:
        engine.load(model)
    assert caught.value.message == message
    assert hint in caught.value.hint
    assert engine._ranks is None


def test_a_machine_with_another_model_is_named(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = tmp_path / "report"
    hello = messages.Hello("assistant 0", "other", "CPU", 2048, 1 << 30)
    report.write_bytes(messages.MARK + messages.frame(hello))
    _ssh(tmp_path / "bin", monkeypatch, f"cat {report}; exec sleep 60")
    engine = ClusterLanguageModel(Settings(), _far(tmp_path))
    with pytest.raises(EngineFailed, match="the host far of the cluster differs from this machine in the model's"):
        engine.load(model)


def test_a_machine_that_never_answers_is_named(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ranks.PATIENCE, "greet", 0.5)
    _ssh(tmp_path / "bin", monkeypatch, "exec sleep 60")
    engine = ClusterLanguageModel(Settings(), _far(tmp_path))
    with pytest.raises(EngineFailed, match=r"rank 1 \(host far\).* of the cluster did not start within 0.5 s"):
        engine.load(model)


# Before anything is started

@pytest.mark.parametrize(("heads", "key_value", "size", "hint"), [
    (9, 3, 2, "it can be shared by 3"), (8, 8, 3, "it can be shared by 2 or 4 or 8"), (7, 1, 2, "choose another model"),
])
def test_heads_that_cannot_be_divided(tmp_path: Path, heads: int, key_value: int, size: int, hint: str) -> None:
    folder = random_model(tmp_path / "model", heads=heads, key_value=key_value)
    with pytest.raises(ModelError, match=f"{heads} attention heads and {key_value} key-value heads, which cannot be "
                                         f"divided by {size} machines") as caught:
        check(folder, size)
    assert hint in caught.value.hint
    engine = ClusterLanguageModel(Settings(), Cluster((HERE,) * size))
    with pytest.raises(ModelError, match="cannot be divided"):
        engine.load(folder)
    assert engine._ranks is None


@pytest.mark.parametrize(("cluster", "reason"), [
    (Cluster((HERE,)), "names one machine only"),
    (Cluster(hostfile="/nowhere/hosts.json"), "there is no hostfile /nowhere/hosts.json"),
    (Cluster((HERE, HERE)), ""),
])
def test_what_is_missing(cluster: Cluster, reason: str) -> None:
    said = ClusterLanguageModel(Settings(), cluster).available()
    assert reason in said
    assert bool(said) is bool(reason)


def test_ssh_is_needed_for_other_machines_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "ssh is not installed" in ClusterLanguageModel(Settings(), Cluster((HERE, "10.1.2.3"))).available()
    assert ClusterLanguageModel(Settings(), THREE).available() == ""


def test_thunderbolt_needs_macs_and_a_hostfile() -> None:
    said = ClusterLanguageModel(Settings(), Cluster((HERE, HERE), "jaccl")).available()
    assert ("hostfile" if sys.platform == "darwin" else "Thunderbolt 5") in said


@pytest.mark.parametrize(("cluster", "message", "hint"), [
    (Cluster((HERE, "no-such-host.invalid")), "the host no-such-host.invalid of the cluster has no address", "IPv4"),
    (Cluster(("192.0.2.1", HERE)), "the first host of the cluster, 192.0.2.1, is not this machine", "first"),
    (Cluster((HERE, "192.0.2.1")), "the other machines cannot reach this one as 127.0.0.1", "address on their network"),
    (Cluster((HERE, HERE), "jaccl"), "needs the RDMA device of each machine", "mlx.distributed_config"),
])
def test_a_layout_that_cannot_be(cluster: Cluster, message: str, hint: str) -> None:
    with pytest.raises(EngineFailed) as caught:
        lay_out(cluster)
    assert message in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(("content", "message"), [
    ("{", "cannot be used"), ('[{"ssh": "a"}]', "names 1 machines"), ('{"hosts": 3}', "cannot be used"),
    ('[{"ssh": "127.0.0.1"}, {"ssh": "127.0.0.1"}]', "no `ips` for 127.0.0.1"),
    ('[{"ssh": "127.0.0.1", "ips": ["x"]}, {"ssh": "-oProxyCommand=x", "ips": ["1.2.3.4"]}]', "cannot be used"),
    ('[{"ssh": "-oProxyCommand=x", "ips": ["1.2.3.4"]}, {"ssh": "b", "ips": ["1.2.3.4"]}]', "is no host"),
])
def test_a_hostfile_that_is_none(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "hosts.json"
    file.write_text(content)
    with pytest.raises(EngineFailed, match=message):
        lay_out(Cluster(hostfile=str(file)))


def test_a_hostfile_for_thunderbolt(tmp_path: Path) -> None:
    rdma = [[None, "rdma_en2"], ["rdma_en3", None]]
    file = tmp_path / "hosts.json"
    file.write_text(json.dumps({"backend": "jaccl", "envs": ["MLX_METAL_FAST_SYNCH=1"], "hosts": [
        {"ssh": HERE, "ips": ["192.0.2.1"], "rdma": rdma[0]},
        {"ssh": "b.invalid", "ips": ["192.0.2.2"], "rdma": rdma[1]},
    ]}))
    layout = lay_out(Cluster(backend="jaccl", hostfile=str(file)))
    assert json.loads(layout.files()["MLX_IBV_DEVICES"]) == rdma
    assert layout.variables() == {"MLX_METAL_FAST_SYNCH": "1", "MLX_JACCL_COORDINATOR": "192.0.2.1:32323"}
    assert [place.local for place in layout.places] == [True, False]
    ring = lay_out(Cluster(hostfile=str(file)))
    assert json.loads(ring.files()["MLX_HOSTFILE"]) == [["192.0.2.1:32323"], ["192.0.2.2:32324"]]


def test_ranks_of_one_machine_share_its_cores() -> None:
    layout = lay_out(THREE)
    each = max(1, (os.cpu_count() or 1) // 3)
    assert layout.threads(layout.places[1]) == {"OMP_NUM_THREADS": str(each), "OPENBLAS_NUM_THREADS": str(each)}
    addresses = [entry[0] for entry in json.loads(layout.files()["MLX_HOSTFILE"])]
    assert len({*addresses}) == 3


def test_messages_come_as_they_were_sent() -> None:
    request = ask("x", schema={"type": "object", "properties": {"b": {}, "a": {}}}, seed=2**53)
    sent = messages.Begin(7, request)
    assert messages.read_command(io.BytesIO(messages.frame(sent))) == sent
    report = messages.Round([messages.News(1, Delta(text="é")), messages.News(2, ended=True, code="context_overflow")])
    file = io.BytesIO(b"Last login: today\n" + messages.MARK + messages.frame(report))
    assert messages.find_mark(file)
    assert messages.read_report(file) == report
    assert messages.read_report(file) is None
    assert not messages.find_mark(io.BytesIO(b"command not found"))
    with pytest.raises(msgspec.DecodeError):
        messages.read_report(io.BytesIO(b"\0\0\0\1\xc1"))


@pytest.mark.parametrize(("text", "names"), [
    ("", ["mlx"]), (f"[llm.cluster]\nhosts = ['{HERE}', '{HERE}']", ["mlx", "mlx-cluster"]),
])
def test_the_engine_is_there_if_it_is_configured(tmp_path: Path, text: str, names: list[str]) -> None:
    paths = find({"ASSISTANT_HOME": str(tmp_path)})
    paths.config_file.write_text(text)
    host = PluginHost(load_config(paths, {}), paths, lambda event: None)
    host.load()
    host.close()
    assert [name for kind, name in sorted(host.engines) if kind == "llm" and name.startswith("mlx")] == names
    assert register_llm is not None


def _busy(home: Home) -> Any:
    """The lane of the cluster once it works on an answer."""
    lanes = [lane for lane in home.status()["lanes"] if lane["name"] == "cluster"]
    return next((lane for lane in lanes if lane["engines"] and lane["jobs"]), None)


@pytest.mark.model
def test_a_daemon_with_a_cluster(bare_home: Home, model: Path) -> None:
    hosts = json.dumps([HERE] * 3)
    bare_home.config(f"[llm]\nmodel = '{model}'\nmax_tokens = 1900\n[llm.cluster]\nhosts = {hosts}\n")
    assert bare_home.run("up").code == 0
    asking = bare_home.start("ask", "hello there")
    lane = wait_for(lambda: _busy(bare_home), 60)
    found = psutil.Process(lane["pid"]).children()
    assert (len(found), lane["engines"]) == (3, [f"llm:mlx-cluster:{model}"])
    found[1].kill()
    _, said = asking.communicate(timeout=60)
    assert asking.returncode == 1
    assert re.search(rf"rank \d of the cluster \(host {HERE}\) died: killed by SIGKILL", said.decode())
    schema = bare_home.path / "schema.json"
    schema.write_text(json.dumps(NUMBER))
    again = bare_home.run("ask", "--new", "--schema", str(schema), "hello there")
    assert (again.code, again.err) == (0, "")
    assert json.loads(again.out)["b"] in (1, 2)
    found = psutil.Process(lane["pid"]).children()
    assert len(found) == 3
    bare_home.run("down")
    wait_for(lambda: all(gone(process.pid) for process in found))


@pytest.mark.model
def test_the_starter_on_three_ranks(starter_model: Path) -> None:
    request = ask("What is the capital of France?", max_tokens=4)
    alone, engine = MlxLanguageModel(Settings()), ClusterLanguageModel(Settings(), THREE)
    try:
        alone.load(starter_model)
        expected = told(alone.generate(request))
    finally:
        alone.close()
    try:
        engine.load(starter_model)
        assert told(engine.generate(request)) == expected == "The capital of France"
    finally:
        engine.close()
