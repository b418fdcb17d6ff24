"""The listening loop: how soon it answers, when it takes a turn for over, echo, wake words, what it costs all day.

    python benchmarks/voice.py [--only latency,intent,pipecat,turns,echo,cpu,wake,self,soak] [--json FILE] [--audio DIR]
                               [--pipecat-python PATH] [--turns 60] [--rounds 3] [--minutes 30] [--hours 24]

`latency` is the host's own share of end of speech → first sound; `pipecat` the same with Pipecat beside it, round by
round in turn, run by a Python of its own that has Pipecat 1.14. `self` and `soak` run on the sample clock. Absolute
times are this machine's, now; ratios are of one run. Hours and counts stand beside every figure.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Iterable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from llm_parts.world import Row, say

from assistant import paths

PARTS = ("latency", "intent", "pipecat", "turns", "echo", "cpu", "wake", "self", "soak")
MODELS = ("silero-vad", "smart-turn")
VERSIONS = ("assistant", "onnxruntime", "pywebrtc-audio", "pymicro-wakeword", "soxr", "numpy")


def run(part: str, options: argparse.Namespace) -> Iterable[Row]:
    """The rows of one part; nothing of the others is loaded."""
    silero, smart_turn = (options.models / name for name in MODELS)
    match part:
        case "latency" | "pipecat":
            from voice_parts.latency import hosts

            return hosts(silero, options.pipecat_python, options.turns, options.rounds, beside=part == "pipecat")
        case "intent":
            from voice_parts.latency import intent

            return intent(silero, smart_turn, options.turns)
        case "turns":
            from voice_parts.turns import turns

            return turns(silero, smart_turn, options.audio, options.commands)
        case "echo":
            from voice_parts.echo import reduction, self_interruptions

            return [*reduction(audio=options.audio), *self_interruptions(silero, options.minutes)]
        case "cpu":
            from voice_parts.cpu import listening

            return listening(silero)
        case "wake":
            from voice_parts.wake import measure

            return measure(silero, options.audio, hours=options.wake_hours, count=options.voices)
        case "self":
            from voice_parts.own_voice import own_voice

            return own_voice(silero, options.minutes)
        case _:
            from voice_parts.soak import soak

            return soak(silero, options.audio / "wake" if options.audio else None, options.hours)


def parts(text: str) -> list[str]:
    """The parts that were asked for, in their order."""
    wanted = text.split(",")
    if unknown := [part for part in wanted if part not in PARTS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(PARTS)}")
    return [part for part in PARTS if part in wanted]


def show(row: Row) -> None:
    """One line of the table."""
    mark = "   " if row.reach == "-" else "ok " if row.ok else "NOT"
    print(f"{mark} {row.what:<66} {row.value:9.3f} {row.unit:<6} reach {row.reach:<7} {row.note}", flush=True)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=parts, default=list(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--json", type=Path, help="write all rows with every single value")
    parser.add_argument("--audio", type=Path, help="a folder of recordings: wake/*.wav, echo/*.wav, speech")
    parser.add_argument("--commands", type=Path, help="a folder of recordings, each one whole command (`turns`)")
    parser.add_argument("--models", type=Path, default=paths.find().models, help=f"has {' and '.join(MODELS)}")
    parser.add_argument("--pipecat-python", type=Path, help="a Python that has pipecat-ai 1.14 (`pipecat`)")
    parser.add_argument("--turns", type=int, default=60, help="of each side in `latency`, `intent` and `pipecat`")
    parser.add_argument("--rounds", type=int, default=3, help="that these are divided into, the sides taking turns")
    parser.add_argument("--minutes", type=float, default=30.0, help="of own speech in `self` and `echo`")
    parser.add_argument("--wake-hours", type=float, default=3.0, help="without a wake word in `wake`")
    parser.add_argument("--voices", type=int, default=96, help="for each figure of `wake`")
    parser.add_argument("--hours", type=float, default=24.0, help="of audio in `soak`")
    options = parser.parse_args()
    for name in MODELS:
        if not (options.models / name / "model.onnx").exists():
            parser.error(f"no {name} in {options.models}: `assistant models pull {name}` fetches it, --models names "
                         "another folder")  # fmt: skip
    return options


def main() -> None:
    """Run the parts, print each row as it comes, and keep the file up to date."""
    options = arguments()
    found: dict[str, list[Row]] = {}
    for part in options.only:
        if part == "latency" and "pipecat" in options.only and options.pipecat_python:
            continue
        say(part)
        found[part] = []
        for row in run(part, options):
            show(row)
            found[part].append(row)
        if options.json:
            head = {"at": time.time(), "machine": platform.platform(),
                    "versions": {name: version(name) for name in VERSIONS}}  # fmt: skip
            rows = {name: [asdict(row) for row in several] for name, several in found.items()}
            options.json.write_text(json.dumps({**head, "parts": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
