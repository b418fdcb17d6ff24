"""What ``assistant models recommend`` shows: a model for this machine, and one for every size of Mac."""

from __future__ import annotations

import os
import sys

import msgspec

from assistant.models import catalogue, machine
from assistant.models.catalogue import Recommendation
from assistant.models.fit import gigabytes

from . import render

NO_GPU = "models run on the CPU here, which reads prompts slowly: one of a few GB or less is the better choice"


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """All that is recommended."""

    here: Recommendation
    """For this machine."""
    processor: str
    gb_per_second: float
    """Its memory bandwidth; 0: unknown."""
    limit_source: str
    """Where the limit of this machine comes from."""
    macs: list[Recommendation]


def survey(gb_per_second: float | None) -> Survey:
    """Ask this machine, and work out the table.

    Args:
        gb_per_second: of the memory; None: what the maker states for this processor.
    """
    from assistant.bench import bandwidth

    chip = bandwidth.processor()
    known = bandwidth.from_table(chip, os.cpu_count() or 1)
    speed = gb_per_second or (known.gb_per_second if known else 0.0)
    memory = machine.machine_memory()
    return Survey(
        here=catalogue.recommend(memory.total, memory.limit, gb_per_second=speed),
        processor=chip,
        gb_per_second=speed,
        limit_source=memory.source,
        macs=catalogue.table(gb_per_second or 0.0),
    )


def describe(found: Survey) -> str:
    """The survey as plain text."""
    here = found.here
    facts = [
        ("this machine", f"{found.processor}, {here.memory / catalogue.GIB:.0f} GiB"),
        ("for models", f"{gigabytes(here.limit)} GB ({found.limit_source})"),
        ("recommended", _in_words(here)),
        *([] if sys.platform == "darwin" else [("note", NO_GPU)]),
    ]
    rows = [
        (
            f"{each.memory // catalogue.GIB} GB", f"{gigabytes(each.limit)} GB", each.name, gigabytes(each.weights),
            f"{each.context:,}", f"{each.tokens_per_second:.0f}" if each.tokens_per_second else "-", each.licence,
            each.note,
        )
        for each in found.macs
    ]  # fmt: skip
    head = ("MAC", "GPU", "MODEL", "GB", "CONTEXT", "TOK/S", "LICENCE", "NOTE")
    notes = [
        "GPU: the working set that is assumed, two thirds of the memory up to 36 GB and three quarters above; when a",
        "model is loaded, what Metal says counts. CONTEXT: the most tokens that fit beside the weights, with 2 GiB",
        "(or an eighth of the memory) left free. TOK/S: what a bandwidth of --bandwidth GB/s allows at most.",
    ]
    table = render.table(head, rows, right=(0, 1, 3, 4, 5))
    return "\n\n".join((render.pairs(facts), table, "\n".join(notes)))


def _in_words(here: Recommendation) -> str:
    if not here.name:
        return here.note
    speed = f", at most {here.tokens_per_second:.0f} tokens/s" if here.tokens_per_second else ""
    return f"{here.name} ({gigabytes(here.weights)} GB, a context of {here.context:,} tokens{speed})"
