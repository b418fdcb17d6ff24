"""The usual ways to set, cancel and ask for alarms."""

from __future__ import annotations

from collections.abc import Iterator

from assistant import Intent, Range, Wildcard, Words
from assistant.intents import Slot

from .alarms import WEEK

_TENS = {"ten": 10, "fifteen": 15, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50}
_ONES = dict(zip(("one", "two", "three", "four", "five", "six", "seven", "eight", "nine"), range(1, 10), strict=True))
_HOURS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_TEENS = dict(zip(("eleven", "twelve", "thirteen", "fourteen", "sixteen", "seventeen", "eighteen", "nineteen"),
                  (11, 12, 13, 14, 16, 17, 18, 19), strict=True))  # fmt: skip

_LATE = {**{word: hour for word, hour in _TEENS.items() if hour > 12}, "fifteen": 15, "twenty": 20} | {
    f"twenty {word}": 20 + hour for word, hour in _ONES.items() if hour < 4
}
_MINUTES = {
    **_TENS,
    **{f"{oh} {ones}": value for ones, value in _ONES.items() for oh in ("oh", "o")},
    **_TEENS,
    **{f"{tens} {ones}": more + value for tens, more in _TENS.items() if more >= 20 for ones, value in _ONES.items()},
}
_DIGITS = {f"{minute:02}": minute for minute in range(60)}
_PERIODS = {
    "am": "am", "pm": "pm", "a m": "am", "p m": "pm", "a.m.": "am", "p.m.": "pm", "a.m": "am", "p.m": "pm",
    "in the morning": "am", "this morning": "am", "in the afternoon": "pm", "this afternoon": "pm",
    "in the evening": "pm", "this evening": "pm", "at night": "pm", "tonight": "pm",
}  # fmt: skip
_DAYS = {"tomorrow": "tomorrow", "today": "today"} | {f"{on}{day}": day for day in WEEK for on in ("", "on ")}
_REPEATS = {
    "every day": "daily", "daily": "daily", "each day": "daily", "every weekday": "weekdays", "on weekdays": "weekdays",
    "every weekend": "weekends", "on weekends": "weekends",
} | {f"{every}{day}{s}": day for day in WEEK for every, s in (("every ", ""), ("on ", "s"))}  # fmt: skip

_SLOTS: dict[str, Slot] = {
    "hour": Range(1, 12),
    "late": Words({**_LATE, "0": 0, **{f"{hour:02}": hour for hour in (*range(10), *range(13, 24))}}),
    "minute": Words(dict(_MINUTES)),
    "digits": Words(dict(_DIGITS)),
    "past": Words({
        "half past": 30, "quarter past": 15, "a quarter past": 15, "five past": 5, "ten past": 10, "twenty past": 20,
        "twenty five past": 25,
    }),
    "to": Words({
        "quarter to": 45, "a quarter to": 45, "five to": 55, "ten to": 50, "twenty to": 40, "twenty five to": 35,
    }),
    "before": Words(
        {said: (number - 1) or 12 for number, word in enumerate(_HOURS, 1) for said in (word, str(number))}
    ),
    "period": Words(dict(_PERIODS)),
    "part": Words({"morning": "am", "afternoon": "pm", "evening": "pm", "night": "pm"}),
    "day": Words(dict(_DAYS)),
    "repeat": Words(dict(_REPEATS)),
}  # fmt: skip
_NAME = Wildcard(
    r"(?!(?:new|quick|second|another|third|short|long|all|every|it|that|this|now|later|no|any|other|first|last|next)$)"
    r"(?!.*\b(?:alarms?|timers?|minutes?|hours?|for|at|on|set|me|us|am|pm|o'clock|noon|midnight|today|tonight|tomorrow"
    r"|every|daily|weekdays?|weekends?|morning|evening|past|quarter|half|(?:mon|tues|wednes|thurs|fri|satur|sun)days?"
    r"|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirty|fifteen)\b)"
    r"(?!.*\b(?:a|an|the)$)[^\W\d][\w' -]{0,40}"
)
_NAMED: dict[str, Slot] = {**_SLOTS, "name": _NAME}

_TIME = (
    "({hour} {minute}[ {period}]|{hour}[ o'clock][[ ]{period}]|{past:minute} {hour}[ {period}]"
    "|{to:minute} {before:hour}[ {period}]|{late:hour} {minute}"
    "|({hour}|{late:hour})(:|.| ){digits:minute}[[ ]{period}])"
)
_ON = "({day}[ {part:period}]|{repeat})"
_AT = f"(at|for) {_TIME}[ [for ]{_ON}]"
_AN = "(an|a|another|the|my|one more|a new|a second)"
_SET = f"(set|create|make|start|add|give|i want|i need|i'd like|turn on)[ (me|us)][ {_AN}]"
_WAKE = "(wake me[ up]|get me up)"
_CANCEL = "(cancel|stop|delete|remove|clear|end|dismiss|turn off|shut off|switch off|get rid of)"
_MY = "(the|my|that|our)"


def intents() -> list[Intent]:
    """All of them."""
    return [*_set(), *_cancel(), *_list()]


def _set() -> Iterator[Intent]:
    beginnings = (f"{_SET} alarm", f"[({_AN}) ]alarm", _WAKE)
    usual = [
        f"{beginning} {{hour}}{rest}"
        for rest in ("", " {period}", " {minute}", " {minute} {period}", " {day}", " {period} {day}")
        for beginning in ("set an alarm for", "wake me up at")
    ]
    plain = [*usual, *(f"{beginning} {_AT}" for beginning in beginnings)]
    plain += [f"{beginning} [(for|on) ]{_ON} at {_TIME}" for beginning in beginnings]
    plain += [f"{_SET} {_TIME} alarm[ [for ]{_ON}]"]
    morning = [each.replace("{hour}", "{early:hour}") for each in plain if each.startswith(("wake", _WAKE))]
    early = {**_SLOTS, "early": Range(4, 11)}
    no_period = (_unsaid(each) for each in morning)
    yield Intent(tool="set_alarm", sentences=tuple(dict.fromkeys(no_period)), slots=early, arguments={"period": "am"})
    yield Intent(tool="set_alarm", sentences=tuple(plain), slots=_SLOTS)
    every = tuple(
        sentence
        for beginning in (f"{_SET} alarm", _WAKE)
        for sentence in (
            f"{beginning} every {{part:period}} at {_TIME}", f"{beginning} (for|at) {_TIME} every {{part:period}}",
        )
    )
    yield Intent(tool="set_alarm", sentences=every, slots=_SLOTS, arguments={"repeat": "daily"})
    for said, hour, period in (("(noon|midday)", 12, "pm"), ("midnight", 0, "am")):
        whole = tuple(f"{beginning} (for|at) {said}[ [for ]{_ON}]" for beginning in (f"{_SET} alarm", _WAKE))
        yield Intent(tool="set_alarm", sentences=whole, slots=_SLOTS, arguments={"hour": hour, "period": period})
    called = "(for|called|named|labeled|labelled) [(the|a|an) ]{name}"
    named = (
        f"{_SET} {{name}} alarm {_AT}", f"{_SET} alarm {_AT} {called}",
        f"{_SET} alarm {called} (for|at) {_TIME}[ {_ON}]",
    )  # fmt: skip
    yield Intent(tool="set_alarm", sentences=named, slots=_NAMED)


def _unsaid(template: str) -> str:
    """The same without the words for morning or evening."""
    for part in ("[[ ]{period}]", "[ {period}]", "[ {part:period}]", " {period}"):
        template = template.replace(part, "")
    return template


def _cancel() -> Iterator[Intent]:
    yield Intent(tool="cancel_alarm", sentences=(f"{_CANCEL} [{_MY} ][next ]alarm", "alarm off"))
    every = (
        f"{_CANCEL} (all|every|all the|all my|all of my|all of the|each|both|both of the) (alarm|alarms)",
        f"{_CANCEL} [{_MY} ]alarms",
    )
    yield Intent(tool="cancel_alarm", sentences=every, arguments={"all_alarms": True})
    timed = (f"{_CANCEL} [{_MY} ]{_TIME} alarm", f"{_CANCEL} [{_MY} ]alarm (for|at) {_TIME}")
    yield Intent(tool="cancel_alarm", sentences=timed, slots=_SLOTS)
    named = (f"{_CANCEL} [{_MY} ]{{name}} alarm", f"{_CANCEL} [{_MY} ]alarm (for|called|named) [(the|a|an) ]{{name}}")
    yield Intent(tool="cancel_alarm", sentences=named, slots={"name": _NAME})


def _list() -> Iterator[Intent]:
    state = "(set|on|active|there)"
    yield Intent(
        tool="list_alarms",
        sentences=(
            f"(what|which|how many) alarms (are|do i have|have i got|are there) [{state}]",
            "(list|show|show me|tell me|read|name|check) [(all|all the|all my|all of my|the|my) ]alarms",
            f"(do i have|are there|have i got|is there) (any|an) alarm[s] [{state}]",
            f"(what are|what're) {_MY} alarms",
            f"(when|what time) (is|does) {_MY} [next ]alarm [(set|set for|go off|ring)]",
            "(when|what time) (will|do) you wake me [up]",
            "[my ]alarms",
        ),
    )
