"""Typed and spoken turns with the real starter model, recogniser and voice."""

from __future__ import annotations

import json
import re
import wave
from pathlib import Path

import pytest
from homes import Home, wait_for


@pytest.mark.model
def test_the_capital_of_france(starter_home: Home) -> None:
    answer = starter_home.run("ask", "What is the capital of France?", timeout=300)
    assert answer.code == 0, answer.err
    assert "Paris" in answer.out
    again = starter_home.run("ask", "--json", "And of Italy?", timeout=300)
    kinds = [event["type"] for event in again.events()]
    assert kinds[0] == "turn_started"
    assert kinds[-1] == "turn_finished"
    assert kinds.count("turn_finished") == 1
    finished = again.events()[-1]
    assert finished["text"] == "".join(event["text"] for event in again.events() if event["type"] == "text_delta")
    assert finished["prompt_tokens"] > 20
    shown = starter_home.run("sessions", "list").out.splitlines()
    assert len(shown) == 2, "the second question continues the conversation"


@pytest.mark.model
def test_standard_input_joins_the_prompt_and_a_pipe_gets_text_only(starter_home: Home) -> None:
    text = "The cat sat on the mat."
    answer = starter_home.run("ask", "--json", "Summarise in one sentence:", stdin=text, timeout=300)
    assert answer.code == 0
    heard = next(event for event in answer.events() if event["type"] == "final_transcript")
    assert heard["text"] == "Summarise in one sentence:\n\nThe cat sat on the mat."


@pytest.mark.model
def test_prompt_longer_than_the_context_is_refused_with_both_numbers(starter_home: Home) -> None:
    refused = starter_home.run("ask", stdin="word " * 20_000, timeout=300)
    assert refused.code == 2
    assert "8,192" in refused.err or "8192" in refused.err
    assert starter_home.run("ask", "--new", "Say hi.", timeout=300).code == 0


@pytest.mark.model
def test_an_answer_is_json_of_the_schema_or_the_turn_fails(starter_home: Home, tmp_path: Path) -> None:
    starter_home.config("[llm]\nmax_tokens = 40\n")
    limited = {"type": "string", "maxLength": 20}
    schema = {"type": "object", "properties": {"city": limited}, "required": ["city"], "additionalProperties": False}
    (tmp_path / "city.json").write_text(json.dumps(schema))
    (tmp_path / "story.json").write_text(json.dumps({"type": "string", "minLength": 2000}))
    answer = starter_home.run("ask", "--schema", str(tmp_path / "city.json"), "What is the capital of France?")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert found.keys() == {"city"}
    assert isinstance(found["city"], str)
    cut = starter_home.run("ask", "--new", "--schema", str(tmp_path / "story.json"), "Tell a story.", timeout=300)
    assert (cut.code, cut.out) == (1, "")
    assert "cut off" in cut.err
    assert "max_tokens" in cut.err


@pytest.mark.model
def test_a_conversation_is_read_once(starter_home: Home) -> None:
    starter_home.config("[llm]\nmax_tokens = 20\n")
    questions = ("What is the capital of France?", "what is 2 plus 3", "And of Italy?", "And of Spain?")
    ends = [starter_home.run("ask", "--json", question, timeout=300).events()[-1] for question in questions]
    assert all(end["reason"] == "complete" for end in ends)
    assert "prompt_tokens" not in ends[1], "the fast path needs no model"
    before = ends[0]["prompt_tokens"]
    for end in ends[2:]:
        assert before - 8 <= end["cached_tokens"] < end["prompt_tokens"]
        before = end["prompt_tokens"]


@pytest.mark.model
def test_spoken_question_gets_a_spoken_answer(starter_home: Home, tmp_path: Path) -> None:
    question, answer = tmp_path / "question.wav", tmp_path / "answer.wav"
    assert starter_home.run("say", "how much time is left", "-o", str(question)).code == 0
    done = starter_home.run("ask", "--json", "--audio", str(question), "--speak", str(answer), timeout=300)
    assert done.code == 0, done.err
    kinds = [event["type"] for event in done.events()]
    assert kinds.index("turn_started") < kinds.index("final_transcript") < kinds.index("text_delta")
    assert done.events()[-1]["text"] == "There are no timers running."
    with wave.open(str(answer)) as speech:
        assert speech.getnchannels() == 1
        assert speech.getnframes() / speech.getframerate() > 1.0
        assert max(speech.readframes(speech.getnframes())) > 0


@pytest.mark.model
def test_spoken_question_to_the_model_is_answered_in_speech(starter_home: Home, tmp_path: Path) -> None:
    question, answer = tmp_path / "question.wav", tmp_path / "answer.wav"
    assert starter_home.run("say", "what is the capital of france", "-o", str(question)).code == 0
    done = starter_home.run("ask", "--json", "--audio", str(question), "--speak", str(answer), timeout=300)
    assert done.code == 0, done.err
    assert "capital" in next(event["text"] for event in done.events() if event["type"] == "final_transcript")
    assert "model" in done.events()[-1]["timings"]
    assert answer.stat().st_size > 20_000


def test_intents_need_no_model(bare_home: Home) -> None:
    for sentence, word in (
        ("what is 17 percent of 340", "57.8"),
        ("What time is it in Tokyo?", "Tokyo"),
        ("set a timer for ten minutes", "10 minutes"),
    ):
        answer = bare_home.run("ask", "--json", sentence)
        assert answer.code == 0
        assert word in answer.events()[-1]["text"]
        assert not any(event["type"] in ("prompt_progressed", "model_progressed") for event in answer.events())
    assert all(not lane["engines"] for lane in bare_home.status()["lanes"] if lane["name"] != "thread:store")


def test_timers_survive_a_restart_and_fire(bare_home: Home) -> None:
    bare_home.run("ask", "set a timer for two seconds")
    bare_home.run("ask", "set a timer for ten minutes")
    bare_home.kill_daemon()
    bare_home.run("up")
    wait_for(lambda: re.search(r"timer \S+ fired", bare_home.log()))
    assert bare_home.run("ask", "what timers are running").out.endswith("left on the 10 minute timer.\n")


def test_transcribe_prints_text_json_and_subtitles(bare_home: Home, tmp_path: Path, moonshine_model: Path) -> None:
    models = bare_home.path / "data" / "models"
    models.mkdir(parents=True, exist_ok=True)
    (models / moonshine_model.name).symlink_to(moonshine_model)
    wav = tmp_path / "time.wav"
    assert bare_home.run("say", "what time is it", "-o", str(wav)).code == 0
    text = bare_home.run("transcribe", str(wav))
    assert (text.code, text.out) == (0, "What time is it?\n")
    assert json.loads(bare_home.run("transcribe", "--json", str(wav)).out)["seconds"] > 0.5
    assert "-->" in bare_home.run("transcribe", "--srt", str(wav)).out
    assert bare_home.run("transcribe", "--vtt", str(wav)).out.startswith("WEBVTT")
    both = bare_home.run("transcribe", "/no/such.wav", str(wav))
    assert both.code != 0
    assert "What time is it?" in both.out
    assert "/no/such.wav" in both.err


def test_sessions_are_listed_searched_exported_and_removed(bare_home: Home, tmp_path: Path) -> None:
    bare_home.run("ask", "--new", "what is 2 plus 3")
    bare_home.run("ask", "--new", "what time is it in Tokyo")
    listed = json.loads(bare_home.run("sessions", "list", "--json").out)
    assert len(listed) == 2
    hits = json.loads(bare_home.run("sessions", "search", "tokyo", "--json").out)
    assert {hit["session_id"] for hit in hits} == {listed[0]["id"]}
    exported = tmp_path / "chat.md"
    assert bare_home.run("sessions", "export", listed[1]["id"], "-o", str(exported)).code == 0
    assert "2 plus 3 is 5" in exported.read_text()
    assert bare_home.run("sessions", "rm", "--yes", listed[1]["id"]).code == 0
    assert len(json.loads(bare_home.run("sessions", "list", "--json").out)) == 1
