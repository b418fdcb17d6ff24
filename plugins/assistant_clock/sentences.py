"""The usual ways to ask for the time, the date and timers."""

from __future__ import annotations

import re
from collections.abc import Iterator

from assistant import Intent, Range, Wildcard, Words
from assistant.intents import Slot

from .places import sayable

_NUMBER = Range(0, 300)
_NAME = Wildcard(
    r"(?!(?:new|quick|second|another|third|short|long|all|every|it|that|this|now|later|no|any|other|first|last)$)"
    r"(?!.*\b(?:timers?|alarms?|minutes?|seconds?|hours?|days?|for|set|me|us|and a half)\b)(?!.*\b(?:a|an|the)$)"
    r"[^\W\d][\w' -]{0,40}"
)

_SLOTS: dict[str, Slot] = {
    "hours": _NUMBER,
    "minutes": _NUMBER,
    "seconds": _NUMBER,
    "half_an_hour": Words({"and a half": 30}),
    "half_a_minute": Words({"and a half": 30}),
    "an_hour": Words({"an hour": 1, "a hour": 1, "hour": 1}),
    "a_minute": Words({"a minute": 1, "minute": 1}),
    "part_of_an_hour": Words(
        {
            "half an hour": 30, "half hour": 30, "a half hour": 30, "half-hour": 30, "a half-hour": 30,
            "a quarter of an hour": 15, "quarter of an hour": 15, "quarter hour": 15, "a quarter hour": 15,
            "three quarters of an hour": 45,
        }
    ),
    "part_of_a_minute": Words({"half a minute": 30, "half minute": 30, "a half minute": 30}),
}  # fmt: skip

_DURATION = (
    "({minutes} (minutes|minute)[ ([and ]{seconds} (seconds|second)|{half_a_minute:seconds})]"
    "|{seconds} (seconds|second)"
    "|{hours} (hours|hour)[ ([and ]{minutes} (minutes|minute)[ [and ]{seconds} (seconds|second)]"
    "|{half_an_hour:minutes})]"
    "|{an_hour:hours}[ ({half_an_hour:minutes}|and {minutes} (minutes|minute))]"
    "|{a_minute:minutes}[ ({half_a_minute:seconds}|and {seconds} (seconds|second))]"
    "|{part_of_an_hour:minutes}|{part_of_a_minute:seconds}"
    "|{hours} {half_an_hour:minutes} hours|{minutes} {half_a_minute:seconds} minutes)"
)
_LONG = re.sub(r"\((\w+)s\|\1\)", r"(\1|\1s)", _DURATION)
"""The same as an adjective: a ten minute timer."""

_SET = "(set|start|create|make|begin|add|give|i want|i need|i'd like|run)[ (me|us)]"
_A = "(a|an|another|one more|a new|a quick|a second|the|my)"
_CANCEL = "(cancel|stop|delete|remove|clear|kill|end|dismiss|turn off|shut off|switch off|get rid of)"
_LEFT = "how (much time|much longer|long|many minutes)"
_WHEN = "(now|right now|currently|at the moment|today|at present)"


def intents() -> list[Intent]:
    """All of them."""
    return [*_time(), *_date(), *_set(), *_cancel(), *_left(), *_list()]


def _time() -> Iterator[Intent]:
    asked = (
        f"what time is it [{_WHEN}]",
        f"what time [is it] {_WHEN}",
        f"(what's|whats|what is) the [(current|exact|local)] time [{_WHEN}]",
        "(tell me|give me|say|check) the [current] time",
        "[(tell me|do you know|check)] what time it is",
        "(do you have|have you got|do you know) the time",
        "[(the|current|the current)] time",
        "(how late is it|what's the clock say|what does the clock say)",
    )
    yield Intent(tool="get_time", sentences=asked)
    there = (
        f"what time is it [{_WHEN}] (in|at|over in) [the ]{{place}} [{_WHEN}]",
        f"(what's|whats|what is) the [(current|exact|local)] time [{_WHEN}] (in|at|over in) [the ]{{place}} [{_WHEN}]",
        "(tell me|give me|check) the [(current|local)] time (in|at) [the ]{place}",
        f"[(tell me|do you know)] what time it is (in|at|over in) [the ]{{place}} [{_WHEN}]",
        f"[the ][(current|local)] time (in|at) [the ]{{place}} [{_WHEN}]",
        f"(what's|whats|what is) {{place}} time [{_WHEN}]",
    )
    yield Intent(tool="get_time", sentences=there, slots={"place": Words(dict(sayable()))})


def _date() -> Iterator[Intent]:
    is_ = "(what's|whats|what is)"
    yield Intent(
        tool="get_date",
        sentences=(
            f"{is_} (the|today's) [current] date [{_WHEN}]",
            "what (date|day|day of the week|month|year) is (it|today) [(today|now|right now)]",
            f"{is_} today",
            f"{is_} the day [of the week] [today]",
            "[(tell me|do you know)] what (day|date|day of the week) (it|today) is [today]",
            "(tell me|give me) (the|today's) date",
            "[(the|today's|current)] date [today]",
            "which day (is it|is today|of the week is it) [today]",
        ),
        arguments={"day": "today"},
    )
    for day, being in (("tomorrow", "(is|will be|is it|will it be)"), ("yesterday", "(was|was it)")):
        asked = (
            f"what (date|day|day of the week) {being} {day}",
            f"(what's|whats|what is|what was|what will be) {day}'s date",
            f"(what's|whats|what is|what was|what will be) the (date|day) {day}",
        )
        yield Intent(tool="get_date", sentences=asked, arguments={"day": day})
    there = (
        f"{is_} (the|today's) [current] date (in|at) [the ]{{place}} [{_WHEN}]",
        f"what (date|day|day of the week) is it [{_WHEN}] in [the ]{{place}} [{_WHEN}]",
    )
    yield Intent(tool="get_date", sentences=there, slots={"place": Words(dict(sayable()))})


def _set() -> Iterator[Intent]:
    called = "(for|called|named|labeled|labelled) [(the|a|an) ]{name}"
    sentences = (
        f"set a timer for {_DURATION}",
        f"set a {_LONG} timer",
        f"{_SET} [{_A} ]timer [(for|to|of) ]{_DURATION}",
        f"{_SET} [{_A} ]{_LONG} timer",
        f"[({_A}|new) ]timer [(for|of) ]{_DURATION}",
        f"[{_A} ]{_LONG} timer",
        f"(put|set) {_DURATION} on the timer",
        f"time {_DURATION}",
    )
    yield Intent(tool="set_timer", sentences=sentences, slots=_SLOTS)
    named = (
        f"{_SET} [{_A} ]{{name}} timer (for|to|of) {_DURATION}",
        f"{_SET} [{_A} ]timer (for|to|of) {_DURATION} {called}",
        f"{_SET} [{_A} ]{_LONG} timer {called}",
        f"{_SET} [{_A} ]{_LONG} {{name}} timer",
        f"{_SET} [{_A} ]timer {called} for {_DURATION}",
        f"[{_A} ]{{name}} timer (for|of) {_DURATION}",
        f"timer for {_DURATION} {called}",
    )
    yield Intent(tool="set_timer", sentences=named, slots={**_SLOTS, "name": _NAME})


def _cancel() -> Iterator[Intent]:
    yield Intent(
        tool="cancel_timer",
        sentences=(f"{_CANCEL} [(the|my|that|this|our) ]timer", "timer (off|stop|cancel)", "(stop|cancel) timing"),
    )
    every = (
        f"{_CANCEL} (all|every|all the|all my|all of my|all of the|each|both|both of the) (timer|timers)",
        f"{_CANCEL} [(the|my|our) ]timers",
    )
    yield Intent(tool="cancel_timer", sentences=every, arguments={"all_timers": True})
    named = (
        f"{_CANCEL} [(the|my|that|our) ]{{name}} timer",
        f"{_CANCEL} [(the|my|that|our) ]timer (for|called|named) [(the|a|an) ]{{name}}",
    )
    yield Intent(tool="cancel_timer", sentences=named, slots={"name": _NAME})
    timed = (f"{_CANCEL} [(the|my|that|our) ]{_LONG} timer", f"{_CANCEL} [(the|my|that) ]timer for {_DURATION}")
    yield Intent(tool="cancel_timer", sentences=timed, slots=_SLOTS)


def _left() -> Iterator[Intent]:
    left = (
        "how much time is left [on the timer]",
        f"{_LEFT} (is|do i have|have i got|does it have|is there|are|are there) (left|remaining|to go)",
        f"{_LEFT} (left|remaining)",
        f"{_LEFT} [(is|do i have|have i got|is there|are|are there) ][(left|remaining|to go) ]"
        "(on|for|until|in|till) [(the|my|this|that) ]timer[s]",
        f"{_LEFT} (is|does) [(the|my) ]timer (have )(left|remaining|to go)",
        f"{_LEFT} does [(the|my) ]timer have [(left|remaining|to go)]",
        "(what's|whats|what is) (left|remaining|the time left|the remaining time) on [(the|my) ]timer[s]",
        "(check|show|show me|how's|how is) [(the|my) ]timer",
        "timer status",
        "when (does|will|is) [(the|my) ]timer (end|go off|ring|finish|done|up|over)",
    )
    yield Intent(tool="timer_left", sentences=left)
    named = (
        f"{_LEFT} [(is|do i have|have i got|is there|are|are there) ][(left|remaining|to go) ]"
        "(on|for|until|in|till) [(the|my|this|that) ]{name} timer",
        f"{_LEFT} does [(the|my) ]{{name}} timer have [(left|remaining|to go)]",
        "(what's|whats|what is) (left|remaining|the time left) on [(the|my) ]{name} timer",
        "(check|show|show me|how's|how is) [(the|my) ]{name} timer",
    )
    yield Intent(tool="timer_left", sentences=named, slots={"name": _NAME})
    timed = f"{_LEFT} [(is|do i have|are) ][(left|remaining) ](on|for) [(the|my) ]{_LONG} timer"
    yield Intent(tool="timer_left", sentences=(timed,), slots=_SLOTS)


def _list() -> Iterator[Intent]:
    state = "(running|set|active|going|on|left|there|open)"
    yield Intent(
        tool="list_timers",
        sentences=(
            f"(what|which|how many) timers (are|do i have|have i got|are there|are currently) [{state}] [{_WHEN}]",
            f"what timers [{state}]",
            "(list|show|show me|tell me|read|name|check) [(all|all the|all my|all of my|the|my) ]timers",
            f"(do i have|are there|have i got|is there) (any|a) timer[s] [{state}] [{_WHEN}]",
            f"(what are|what're) (my|the) timers [{_WHEN}]",
            "[my ]timers",
        ),
    )
