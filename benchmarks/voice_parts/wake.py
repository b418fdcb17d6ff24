"""Wake words: how often one is missed, and how often something else wakes.

    cd benchmarks && python -m voice_parts.wake [--hours 3] [--count 96] [--audio DIR] [--silero DIR] [--set test]

Everything goes through the real front end: canceller, voice activity, detectors, run rule. People: the recordings of
``DIR/wake``, each at several speeds and levels, by microWakeWord. Synthetic voices: espeak-ng's by openWakeWord's
``hey_jarvis``, which hears them; microWakeWord was trained on people and mostly does not. The rule's constants and
which accents count as heard were chosen on the set ``tuning``; no voice and no sentence of it is in the set ``test``.
"""

from __future__ import annotations

import argparse
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import comb
from pathlib import Path

import numpy as np
from assistant_microwakeword.detector import found
from assistant_openwakeword.detector import OpenWake
from llm_parts.world import Row, say

from assistant import WakeWord, paths
from assistant.voice.activity import VoiceActivity
from assistant.voice.echo import EchoCanceller
from assistant.voice.frames import FRAME_BYTES, RATE, SILENCE, WakeHit
from assistant.voice.front import FrontEnd
from assistant.voice.wake import WakeSpotter
from assistant.voice.wake_report import CONFIDENCE, poisson_bound

from . import wake_audio as audio
from .wake_audio import Half, Sound, Voices

HEARD = ("en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-us-nyc", "en-gb-x-gbclan")
"""Accents of which openWakeWord heard the phrase in the tuning set; it missed 9 of 23 of the other two."""
REJECTS, ACCEPTS = 0.05, 0.5
"""Missed of clean ones; false accepts an hour of clean audio."""
SPEED_FACTORS, LEVELS = (0.92, 0.96, 1.0, 1.04, 1.08), (-20.0, -32.0)
"""What is made of each recording of a person."""
OTHERS = ("jfk.wav", "beckett.wav", "two_cities.wav", "LJ001-0004.wav", "LJ001-0006.wav", "echo/original.wav")
"""Real speech without a wake word."""


@dataclass
class Trial:
    """One phrase to be heard."""

    name: str
    """The detector that should hear it."""
    sound: Sound
    group: str


@dataclass
class Ears:
    """The front end with some detectors."""

    silero: Path
    detectors: Sequence[WakeWord]
    echo: bool = False
    """With the canceller."""
    own_text: str = ""
    """What is being played."""
    front: FrontEnd = field(init=False)
    heard: float = 0.0
    """Seconds so far."""

    def __post_init__(self) -> None:
        spotter = WakeSpotter(self.detectors)
        spotter.load()
        canceller = EchoCanceller("auto" if self.echo else "off")
        self.front = FrontEnd(canceller, VoiceActivity(self.silero), spotter, lambda: self.own_text)

    def hear(self, near: Sound, far: Sound | None = None) -> Iterator[WakeHit]:
        """All that the detectors say of a sound."""
        said, played = audio.pcm(near), b"" if far is None else audio.pcm(far)
        for at in range(0, len(said) - FRAME_BYTES + 1, FRAME_BYTES):
            out = played[at : at + FRAME_BYTES]
            yield from self.front.process(said[at : at + FRAME_BYTES], out if len(out) == FRAME_BYTES else SILENCE).hits
        self.heard += len(near) / RATE

    def forget(self) -> None:
        """The next sound does not follow on the last one."""
        self.front.spotter.reset()
        self.front.activity.reset()

    def close(self) -> None:
        """Give the detectors back."""
        self.front.spotter.close()


def binomial_bound(missed: int, count: int) -> float:
    """The largest share that so few misses do not contradict at 95 %, after Clopper and Pearson."""
    low, high = 0.0, 1.0
    for _ in range(60):
        share = (low + high) / 2
        at_most = sum(comb(count, k) * share**k * (1 - share) ** (count - k) for k in range(missed + 1))
        low, high = (share, high) if at_most > 1 - CONFIDENCE else (low, share)
    return high


def micro() -> list[WakeWord]:
    """microWakeWord's four phrases."""
    return list(found(Path("/nowhere"), logging.getLogger(__name__)))


def rejected(ears: Ears, trials: Iterable[Trial], make: Callable[[Sound], Sound]) -> tuple[Counter[str], Counter[str]]:
    """How many of each group there were, and how many of them were missed."""
    count, missed = Counter[str](), Counter[str]()
    for trial in trials:
        ears.forget()
        names = {hit.name for hit in ears.hear(make(audio.padded(trial.sound))) if hit.accepted}
        count[trial.group] += 1
        missed[trial.group] += trial.name not in names
    return count, missed


def reject_row(what: str, missed: int, count: int, *, reach: float | None = None) -> Row:
    """A share of misses with its bound."""
    note = f"{missed} of {count} missed, at most {100 * binomial_bound(missed, count):.1f} %"
    share = missed / count
    wanted = "-" if reach is None else f"<= {100 * reach:g}"
    return Row(f"wake, missed: {what}", 100 * share, "%", wanted, reach is None or share <= reach, note)


def synthetic(half: Half, voices: Voices, count: int, accents: Sequence[str], rng: random.Random,
              command: bool = False) -> Iterator[Trial]:  # fmt: skip
    """``hey jarvis`` by many voices, alone or with a command behind it without a pause."""
    ours = [one for one in audio.voices_of(half) if one[0].partition("+")[0] in accents]
    for voice, speed in audio.chosen(ours, count, rng):
        text = f"hey jarvis, {rng.choice(audio.ASKED[half.name])}" if command else "hey jarvis"
        sound = audio.at_level(voices.say(text, voice, speed), rng.uniform(-30, -20))
        yield Trial("open_hey_jarvis", sound, "all")


def people(folder: Path) -> Iterator[Trial]:
    """Recordings of people, each faster, slower, louder and softer."""
    for file in sorted(folder.glob("*.wav")):
        name = file.stem.rpartition("-")[0]
        if name == "computer":
            continue
        sound = audio.recording(file)
        yield Trial(name, sound, "as recorded")
        for factor in SPEED_FACTORS:
            for loud in LEVELS:
                yield Trial(name, audio.at_level(audio.faster(sound, factor), loud), "varied")


def noises(half: Half, voices: Voices, seed: int) -> dict[str, Callable[[Sound], Sound]]:
    """What a trial is made of in each condition."""
    pink = audio.pink(np.random.default_rng(seed), 30)
    babble = audio.babble(voices, half, random.Random(seed), 30)
    return {
        "clean": lambda sound: sound,
        "10 dB pink noise": lambda sound: audio.mixed(sound, pink, 10),
        "10 dB babble": lambda sound: audio.mixed(sound, babble, 10),
    }


def over_own_speech(
    ears: Ears, trials: Sequence[Trial], half: Half, voices: Voices, echo_db: float, seed: int
) -> tuple[int, int]:
    """Trials said into the assistant's own speech, and the wakes of that speech alone.

    Args:
        echo_db: how much louder its own voice arrives than the person's.

    Returns: how many were missed, and how often it woke itself.
    """
    rng, path = random.Random(seed), audio.room(np.random.default_rng(seed))
    missed = woke_itself = 0
    answers = iter(audio.sentences(half))
    for number, trial in enumerate([None, *trials]):
        far = audio.at_level(np.concatenate([voices.say(next(answers), "en-us", 170) for _ in range(3)]), -20)
        echo = np.convolve(far, path)[: len(far)].astype(np.float32)
        if trial is None:
            list(ears.hear(audio.at_level(echo, -26 + echo_db) + audio.quiet(len(far) / RATE)[: len(far)], far))
            continue
        near = audio.at_level(echo, -26 + echo_db)
        near += np.resize(audio.quiet(1), len(near))
        voice = audio.at_level(trial.sound, -26)
        start = rng.randrange(RATE, max(len(near) - len(voice) - RATE, RATE + 1))
        alone = number % 4 == 0
        if not alone:
            near[start : start + len(voice)] += voice[: len(near) - start]
        woken = {hit.name for hit in ears.hear(near, far) if hit.accepted}
        woke_itself += bool(woken) if alone else 0
        missed += trial.name not in woken if not alone else 0
    return missed, woke_itself


def own_phrase(ears: Ears, half: Half, voices: Voices, count: int) -> int:
    """How often it wakes when it says the phrase itself and nothing is cancelled, since the echo comes first."""
    woken = 0
    for voice, speed in audio.chosen(audio.voices_of(half), count, random.Random(3)):
        ears.forget()
        ears.own_text = "You can call me by saying hey Jarvis whenever you like."
        far = audio.at_level(voices.say(ears.own_text, voice, speed), -20)
        woken += any(hit.accepted for hit in ears.hear(far, np.roll(far, RATE)))
        ears.own_text = ""
        list(ears.hear(audio.quiet(2)))
    return woken


def nothing(half: Half, voices: Voices, folder: Path | None, seconds: float, seed: int) -> Iterator[tuple[str, Sound]]:
    """Speech and noise without a wake word; the kind and the sound, in pieces."""
    rng, generator = random.Random(seed), np.random.default_rng(seed)
    pink, hum = audio.pink(generator, 60), audio.hum(generator, 60)
    babble = audio.babble(voices, half, rng, 60)
    for number, piece in enumerate(audio.talk(voices, half, rng, 0.85 * seconds)):
        if number % 8 in (3, 7):
            yield "speech in noise", audio.mixed(piece, pink if number % 16 < 8 else babble, rng.uniform(5, 15))
        else:
            yield "speech", piece
    left = 0.15 * seconds
    real = [folder / name for name in OTHERS if (folder / name).exists()] if folder else []
    sources: list[tuple[str, Sound]] = [("noise", pink), ("noise", hum), ("noise", babble)]
    recordings = [audio.recording(file) for file in real]
    number = 0
    while left > 0:
        kind, sound = sources[number % 3]
        if recordings and number % 2:
            kind, sound = "real speech", recordings[number // 2 % len(recordings)]
            sound = audio.faster(audio.at_level(sound, rng.uniform(-34, -16)), rng.uniform(0.85, 1.15))
        sound = sound[: int((left + 1) * RATE)]
        number, left = number + 1, left - len(sound) / RATE
        yield kind, sound


def accept_rows(ears: Ears, pieces: Iterable[tuple[str, Sound]]) -> Iterator[Row]:
    """False accepts and near misses per hour, with their bounds."""
    hours, accepted, near = Counter[str](), Counter[tuple[str, str]](), Counter[str]()
    for kind, sound in pieces:
        before = ears.heard
        for hit in ears.hear(sound):
            if hit.accepted:
                accepted[hit.name, kind] += 1
            else:
                near[hit.name] += 1
        hours[kind] += (ears.heard - before) / 3600  # type: ignore[assignment]
        if int(ears.heard / 1800) != int(before / 1800):
            say(f"{ears.heard / 3600:.1f} h: {dict(accepted)}")
    clean = ("speech", "real speech")
    for label, kinds, reach in (("clean speech", clean, ACCEPTS), ("noise", tuple({*hours} - {*clean}), None)):
        total = sum(hours[kind] for kind in kinds)
        for detector in ears.detectors:
            count = sum(accepted[detector.name, kind] for kind in kinds)
            rate = count / total if total else 0.0
            note = f"{count} in {total:.2f} h, at most {poisson_bound(count) / max(total, 1e-9):.2f}/h"
            note += f"; {near[detector.name]} near misses in all" if reach else ""
            what = f"wake, false: {detector.name}, {label}"
            wanted = "-" if reach is None else f"<= {reach:g}"
            yield Row(what, rate, "/h", wanted, reach is None or rate <= reach, note)


def alike(ears: Ears, half: Half, voices: Voices, count: int) -> Row:
    """Phrases that sound like wake words."""
    woken: Counter[str] = Counter()
    said = 0
    for voice, speed in audio.chosen(audio.voices_of(half), count, random.Random(5)):
        ears.forget()
        for phrase in audio.NEAR:
            said += 1
            sound = audio.padded(audio.at_level(voices.say(phrase, voice, speed), -26), 1.0, 1.2)
            for hit in ears.hear(sound):
                if hit.accepted:
                    woken[f"{hit.name} by {phrase!r}"] += 1
    what = ", ".join(f"{count} x {name}" for name, count in woken.most_common(4))
    return Row("wake, woken by what sounds alike", 100 * woken.total() / said, "%", "-", True,
               f"{woken.total()} of {said}: {what or 'none'}")  # fmt: skip


def measure(
    silero: Path, folder: Path | None, *, hours: float = 3.0, count: int = 96, half: Half = audio.TEST, seed: int = 11
) -> Iterator[Row]:
    """All figures, one after another.

    Args:
        silero: the folder of the model ``silero-vad``.
        folder: with ``wake/*.wav``; None: nothing of people.
        hours: of audio without a wake word.
        count: voices for each figure of synthetic voices.
    """
    voices = Voices()
    conditions = noises(half, voices, seed)
    ears = Ears(silero, [OpenWake("hey_jarvis")])
    for label, accents, command in (
        ("", HEARD, False), (", other accents", tuple({*audio.ACCENTS} - {*HEARD}), False),
        (", command without a pause", HEARD, True),
    ):  # fmt: skip
        trials = list(synthetic(half, voices, count, accents, random.Random(seed), command))
        for name, make in conditions.items() if not label else [("clean", conditions["clean"])]:
            total, missed = rejected(ears, trials, make)
            reach = REJECTS if name == "clean" and not label else None
            yield reject_row(f"synthetic voices, {name}{label}", missed.total(), total.total(), reach=reach)
    ears.close()
    if folder:
        yield from people_rows(silero, folder, conditions)
    yield from own_rows(silero, folder, half, voices, count, seed)
    ears = Ears(silero, [*micro(), OpenWake("hey_jarvis")])
    yield alike(ears, half, voices, max(4, count // 8))
    ears.forget()
    ears.heard = 0.0
    yield from accept_rows(ears, nothing(half, voices, folder, hours * 3600, seed))
    ears.close()
    voices.close()


def people_rows(silero: Path, folder: Path, conditions: dict[str, Callable[[Sound], Sound]]) -> Iterator[Row]:
    """Misses of microWakeWord on recordings of people."""
    ears = Ears(silero, micro())
    for name, make in conditions.items():
        total, missed = rejected(ears, people(folder / "wake"), make)
        for group in total:
            reach = REJECTS if name == "clean" else None
            yield reject_row(f"people, {group}, {name}", missed[group], total[group], reach=reach)
    ears.close()


def own_rows(
    silero: Path, folder: Path | None, half: Half, voices: Voices, count: int, seed: int
) -> Iterator[Row]:
    """Misses while the assistant speaks, and wakes of its own voice."""
    spoken = list(synthetic(half, voices, count, HEARD, random.Random(seed)))
    groups = {"synthetic voices": (spoken, [OpenWake("hey_jarvis")])}
    if folder:
        groups["people"] = ([one for one in people(folder / "wake") if one.group == "varied"], micro())  # type: ignore[assignment]
    for who, (trials, detectors) in groups.items():
        for echo_db in (-12.0, -6.0, 0.0):
            ears = Ears(silero, detectors, echo=True)
            missed, itself = over_own_speech(ears, trials, half, voices, echo_db, seed)
            tried = len(trials) - len(trials) // 4
            duplex = f"{ears.front.echo.duplex} duplex, {ears.front.echo.attenuation_db or 0:.0f} dB"
            row = reject_row(f"{who}, own speech at {echo_db:+.0f} dB", missed, tried)
            yield Row(row.what, row.value, row.unit, row.reach, row.ok, f"{row.note}; {duplex}")
            note = f"{len(trials) // 4} answers without a person, {ears.heard / 60:.0f} min of its speech in all"
            yield Row(f"wake, own voice: {who}, echo at {echo_db:+.0f} dB", itself, "times", "<= 0", itself == 0, note)
            ears.close()
    ears = Ears(silero, [OpenWake("hey_jarvis"), *micro()], echo=True)
    woken = own_phrase(ears, half, voices, count)
    note = f"{count} voices, nothing cancelled"
    yield Row("wake, own voice: it says the phrase", woken, "times", "<= 0", woken == 0, note)
    ears.close()


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=3.0, help="of audio without a wake word")
    parser.add_argument("--count", type=int, default=96, help="voices a figure")
    parser.add_argument("--audio", type=Path, help="a folder with wake/*.wav and other recordings")
    parser.add_argument("--silero", type=Path, default=paths.find().models / "silero-vad")
    parser.add_argument("--set", choices=("tuning", "test"), default="test")
    options = parser.parse_args()
    half = audio.TUNING if options.set == "tuning" else audio.TEST
    for row in measure(options.silero, options.audio, hours=options.hours, count=options.count, half=half):
        mark = "   " if row.reach == "-" else "ok " if row.ok else "NOT"
        print(f"{mark} {row.what:<66} {row.value:8.2f} {row.unit:<6} reach {row.reach:<7} {row.note}", flush=True)


if __name__ == "__main__":
    main()
