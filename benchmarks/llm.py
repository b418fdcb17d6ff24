"""The language-model engine against raw mlx-lm and mlx_lm.server, side by side in one run.

    python benchmarks/llm.py [--only single,batch,ttft,tools,mask,soak] [--json FILE] [--model DIR] [--rounds 3]
                             [--soak 2000] [--prompts 200]

All sides load the same weights: on a CPU, where our engine unpacks them, a copy unpacked to 32-bit floats, which is
made once. Ratios count; absolute times are this machine's, now. Figures are medians, with the lowest and the highest.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import anyio
from llm_parts import calls, soak, speed, turns
from llm_parts.world import Row, alike, say

from assistant import paths

PARTS = ("single", "batch", "ttft", "tools", "mask", "soak")


async def run(part: str, model: Path, options: argparse.Namespace) -> list[Row]:
    """The rows of one part."""
    match part:
        case "single":
            return await speed.single(model, options.rounds)
        case "batch":
            return await speed.batch(model, options.rounds)
        case "ttft":
            return await turns.first_token(model, options.rounds)
        case "tools":
            return await calls.tools(model, options.prompts)
        case "mask":
            return calls.mask(model, options.rounds)
        case _:
            return await soak.soak(model, options.soak, options.seed)


def parts(text: str) -> list[str]:
    """The parts that were asked for, in their order."""
    wanted = text.split(",")
    if unknown := [part for part in wanted if part not in PARTS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(PARTS)}")
    return [part for part in PARTS if part in wanted]


def show(row: Row) -> None:
    """One line of the table."""
    mark = "   " if row.reach == "-" else "ok " if row.ok else "NOT"
    print(f"{mark} {row.what:<62} {row.value:9.3f} {row.unit:<9} reach {row.reach:<7} {row.note}", flush=True)


def main() -> None:
    """Run the parts, print each one's rows when it is done, and keep the file up to date."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=parts, default=list(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--json", type=Path, help="write all rows with every single value")
    parser.add_argument("--model", type=Path, default=paths.find().models / "starter", help="the folder of a model")
    parser.add_argument("--cache", type=Path, default=paths.find().cache / "benchmarks", help="for the unpacked copy")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompts", type=int, default=200, help="questions of the part `tools`")
    parser.add_argument("--soak", type=int, default=2000, help="requests of the part `soak`")
    parser.add_argument("--seed", type=int, default=1, help="of the soak")
    options = parser.parse_args()
    if not (options.model.expanduser() / "config.json").exists():
        parser.error(f"no model in {options.model}: `assistant models pull starter` fetches one, --model names another")
    model = alike(options.model.expanduser().absolute(), options.cache.expanduser().absolute())
    found: dict[str, list[Row]] = {}
    for part in options.only:
        say(part)
        found[part] = anyio.run(run, part, model, options)
        for row in found[part]:
            show(row)
        if options.json:
            head = {"at": time.time(), "machine": platform.platform(), "model": options.model.name,
                    "versions": {name: version(name) for name in ("assistant", "mlx", "mlx-lm")}}  # fmt: skip
            rows = {name: [asdict(row) for row in several] for name, several in found.items()}
            options.json.write_text(json.dumps({**head, "parts": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
