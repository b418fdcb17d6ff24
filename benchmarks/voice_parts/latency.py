"""How soon after the end of speech the answer sounds: the host's own share, beside Pipecat's, and of a command.

Both hosts hear the same question in real time and have engines that answer at once. The clock starts where the host
decides that the turn is over, after the same silence, and stops when the loudspeaker's callback, every 10 ms, takes the
first audible audio; "handed over" stops when ``Playback``, or Pipecat's transport, is given it. Recogniser, model and
voice run in three lane processes on our side, and in Pipecat's own process on the other; the voice's sound is resampled
for the loudspeaker on our side only.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import anyio
import msgspec
from anyio import to_thread
from llm_parts.world import Row, say

from assistant.config import Settings
from assistant.testing import ToneTextToSpeech, VoiceHarness, synthesise
from assistant.voice.endpoint import PACES
from assistant.voice.frames import RATE

from . import instant
from .live import Turn, listening

SIDE = Path(__file__).with_name("pipecat_side.py")
WARM = 3
"""Turns of every round that do not count."""
REACH = 0.03
RATIO = 0.7
INTENT_REACH = 0.6
TIME = "what time is it"
SORRY = "This is not what was asked."
"""What the model says where the recogniser misheard the question."""
VOICES = (("en-us+m1", 140), ("en-us+m1", 160), ("en-us+m2", 140), ("en-us+f2", 160), ("en-us+m7", 170))
"""espeak's, with words a minute, that ask for the time."""


def p95(values: Sequence[float]) -> float:
    """The value that 95 of 100 do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-95 * len(ordered) // 100) - 1)]


def spread(values: Sequence[float]) -> str:
    """The median and the extremes, in milliseconds."""
    ms = [1000 * value for value in values]
    return f"median {statistics.median(ms):.1f}, {min(ms):.1f} to {max(ms):.1f} ms"


def hosts(
    silero: Path, pipecat: Path | None, turns: int = 60, rounds: int = 3, *, beside: bool = True
) -> list[Row]:
    """The host's own share, ours with and without answers begun ahead, and Pipecat's, round by round in turn.

    Args:
        silero: the folder of the model ``silero-vad``.
        pipecat: a Python that has Pipecat; None: it is left out, which a row says.
        turns: of each side, over all rounds.
        beside: with Pipecat.
    """
    if beside and pipecat is None:
        return [Row("Pipecat 1.14", 0.0, "", "-", True, "not measured: --pipecat-python names a Python that has it")]
    names = ["answers begun ahead", "nothing begun ahead"]
    found: dict[str, list[float]] = {name: [] for name in [*names, "Pipecat"]}
    given: dict[str, list[float]] = {name: [] for name in found}
    began: dict[str, list[float]] = {name: [] for name in names}
    lost, late = 0, 0.0
    each = max(1, turns // rounds)
    for number in range(rounds):
        for name in names:
            say(f"{name}: round {number + 1} of {rounds}")
            taken = anyio.run(_ours, silero, name == names[0], each + WARM)
            kept = [one for one in taken[WARM:] if one.sounded and one.decided]
            lost += each - len(kept)
            late = max([late, *(one.late for one in kept)])
            found[name] += [one.sounded - one.decided for one in kept]
            given[name] += [max(0.0, one.given - one.decided) for one in kept]
            began[name] += [one.began - one.decided for one in kept]
        if beside and pipecat is not None:
            say(f"Pipecat: round {number + 1} of {rounds}")
            for handed, played in _theirs(pipecat, each + WARM)[WARM:]:
                given["Pipecat"].append(handed)
                found["Pipecat"].append(played)
    own = f"engines' own methods {1000 * instant.own_seconds(*_engines()):.2f} ms, not taken off"
    rows = []
    for name in names:
        if not found[name]:
            rows.append(Row(f"host's share, {name}, p95", 0.0, "s", f"<= {REACH:g}", False, "no turn was answered"))
            continue
        note = "; ".join([
            spread(found[name]), f"{len(found[name])} turns", f"until the turn began {spread(began[name])}",
            f"until handed over {spread(given[name])}", own, f"{lost} lost", f"latest frame {1000 * late:.0f} ms late",
        ])  # fmt: skip
        value = p95(found[name])
        ok = value <= REACH and not lost
        rows.append(Row(f"host's share, {name}, p95", value, "s", f"<= {REACH:g}", ok, note, tuple(found[name])))
    return [*rows, *_beside(found, given, names)]


def _beside(found: dict[str, list[float]], given: dict[str, list[float]], names: Sequence[str]) -> list[Row]:
    theirs = found["Pipecat"]
    if not theirs or not all(found.values()):
        return []
    note = f"{spread(theirs)}; {len(theirs)} turns; until handed over {spread(given['Pipecat'])}"
    rows = [Row("Pipecat 1.14, p95", p95(theirs), "s", "-", True, note, tuple(theirs))]
    for name in names:
        for what, take in (("median", statistics.median), ("p95", p95)):
            ratio = take(found[name]) / take(theirs)
            handed = take(given[name]) / take(given["Pipecat"])
            note = f"until handed over {handed:.2f}"
            rows.append(Row(f"{name} ÷ Pipecat, {what}", ratio, "", f"<= {RATIO}", ratio <= RATIO, note))
    return rows


def _engines() -> tuple[instant.Ear, instant.Model, instant.Mouth]:
    sound = b"".join(chunk.pcm for chunk in ToneTextToSpeech().speak(instant.ANSWER, ""))
    return instant.Ear(), instant.Model(), instant.Mouth(sound)


def _settings(*, speculate: bool) -> Settings:
    settings = Settings()
    voice = msgspec.structs.replace(settings.voice, speculate=speculate, earcons=False)
    return msgspec.structs.replace(settings, voice=voice)


async def _ours(silero: Path, speculate: bool, turns: int) -> list[Turn]:
    ear, model, mouth = _engines()
    question = synthesise(instant.QUESTION).pcm
    settings = _settings(speculate=speculate)
    async with (
        VoiceHarness(settings=settings, stt=ear, llm=model, tts=mouth, wake_words=[]) as harness,
        listening(harness, silero) as listener,
    ):
        return [await listener.ask(question) for _ in range(turns)]


def _theirs(python: Path, turns: int) -> list[tuple[float, float]]:
    """Seconds of each turn of Pipecat's, until its sound was handed over and until it was played.

    Raises:
        subprocess.CalledProcessError: it failed; what it says is on standard error.
    """
    with tempfile.TemporaryDirectory(prefix="bench-pipecat-") as name:
        folder = Path(name)
        silence = PACES["balanced"].alone
        job = {"turns": turns, "silence": silence, "rate": RATE, "text": instant.QUESTION, "answer": instant.ANSWER}
        (folder / "job.json").write_text(json.dumps(job))
        (folder / "question.pcm").write_bytes(synthesise(instant.QUESTION).pcm)
        (folder / "answer.pcm").write_bytes(_engines()[2].pcm)
        done = subprocess.run([python, SIDE, folder], stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    return [(handed, played) for handed, played in filter(None, found)]


def intent(silero: Path, smart_turn: Path, turns: int = 60) -> list[Row]:
    """From the question's last sound to the first of its answer, with real parts: the clock's command, recogniser
    moonshine, voice espeak, Silero and Smart Turn; nothing of it is a sound card.
    """
    taken = anyio.run(_asked, silero, smart_turn, turns + 1)[1:]
    kept = [one for one in taken if one.sounded > one.spoken > 0 and one.answer and one.answer != SORRY]
    values = [one.sounded - one.spoken for one in kept]
    what, reach = f"“{TIME}” → first sound, p95", f"<= {INTENT_REACH:g}"
    if not values:
        return [Row(what, 0.0, "s", reach, False, f"none of {turns} turns was understood")]
    waits = [one.decided - one.spoken for one in kept]
    early = sum(one.reason == "intent" for one in kept)
    note = (f"{spread(values)}; {len(kept)} of {turns} turns understood; until the decision: {spread(waits)}, in "
            f"{early} of them because it was a whole command")  # fmt: skip
    return [Row(what, p95(values), "s", reach, p95(values) <= INTENT_REACH, note, tuple(values))]


async def _asked(silero: Path, smart_turn: Path, turns: int) -> list[Turn]:
    questions = [await to_thread.run_sync(synthesise, TIME, voice, speed) for voice, speed in VOICES]
    found = []
    async with (
        VoiceHarness(
            settings=_settings(speculate=True), installed=("clock", "moonshine", "espeak"), stt="moonshine",
            tts="espeak", llm=instant.Model(SORRY), wake_words=[],
        ) as harness,
        listening(harness, silero, smart_turn) as listener,
    ):  # fmt: skip
        for number in range(turns):
            found.append(await listener.ask(questions[number % len(questions)].pcm))
    return found
