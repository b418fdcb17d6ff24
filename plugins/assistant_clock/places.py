"""Places and their time zones.

Cities and countries come from the time zone database (``zone.tab`` and ``iso3166.tab`` in the ``tzdata`` package);
``cities.py`` adds the big cities that have no zone of their own name.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from functools import cache
from importlib.resources import files
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from assistant import ToolError

from .cities import CAPITALS, CITIES, COUNTRY_ALIASES, FAMOUS, UNKNOWN_TO_SPEECH, WITH_ARTICLE

_APOSTROPHE = "\N{RIGHT SINGLE QUOTATION MARK}"
_OBSCURE_REGIONS = ("Antarctica/", "America/North_Dakota/", "America/Indiana/")


class Place(msgspec.Struct, frozen=True):
    """Somewhere with a time."""

    name: str
    """As it is said after ``in``."""
    zone: str
    """A key of the time zone database."""


def find(said: str) -> Place:
    """The place that somebody means: a city, a country, or a zone such as ``Asia/Tokyo``.

    Raises:
        ToolError: there is none of that name; names the nearest.
    """
    places = known()
    wanted = _plain(said)
    if place := places.get(wanted):
        return place
    if "/" in said and (zone := _zone_key(said.strip())):
        return Place(zone.rpartition("/")[2].replace("_", " "), zone)
    if place := _within_country(said, wanted, places):
        return place
    near = difflib.get_close_matches(wanted, places, n=1, cutoff=0.7)
    hint = f"Did you mean {places[near[0]].name}?" if near else "Try the nearest big city."
    raise ToolError(f"I do not know the time in {' '.join(said.split())[:60]}.", hint=hint)


@cache
def known() -> dict[str, Place]:
    """Every place by its plain name: lower case, without accents, points and article."""
    places: dict[str, Place] = {}
    zones = _zones_by_country()
    for keys in zones.values():
        for key in keys:
            if not key.startswith(_OBSCURE_REGIONS):
                name = key.rpartition("/")[2].replace("_", " ")
                places[_plain(name)] = Place(name, key)
    for code, name in _countries().items():
        place = _country(name, zones.get(code, []))
        if place:
            for said in (name, *COUNTRY_ALIASES.get(name, ())):
                places[_plain(said)] = place
    for zone, names in CITIES.items():
        for name in names:
            places[_plain(name)] = Place(name, zone)
    return places


@cache
def sayable() -> dict[str, str]:
    """What may be said for each place, with and without accents, and the name to look it up by; famous ones first."""
    words = {}
    for plain, place in sorted(known().items(), key=lambda item: item[0] not in FAMOUS):
        if plain not in UNKNOWN_TO_SPEECH:
            words[plain] = plain
            if _plain(place.name) == plain and "." not in place.name:
                words[place.name.lower().removeprefix("the ")] = plain
    return words


def zone_of(key: str) -> ZoneInfo | None:
    """The zone of that key, or None if there is no such zone."""
    try:
        return ZoneInfo(key)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def _zone_key(said: str) -> str:
    wanted = said.replace(" ", "_").casefold()
    keys = (files("tzdata") / "zones").read_text(encoding="utf-8").split()
    return next((key for key in keys if key.casefold() == wanted), "")


def _within_country(said: str, wanted: str, places: dict[str, Place]) -> Place | None:
    """``Paris, France`` or ``tokyo japan``: the city, if it keeps the time of what follows it."""
    words = wanted.split()
    for length in range(len(words) - 1, 0, -1):
        city, around = places.get(" ".join(words[:length])), places.get(_plain(" ".join(words[length:])))
        if city and around and (city.zone == around.zone or city.zone in _zones_beside(around.zone)):
            return city
    return None


@cache
def _zones_beside(zone: str) -> frozenset[str]:
    """The zones of the country whose capital keeps ``zone``."""
    return frozenset(key for keys in _zones_by_country().values() if zone in keys for key in keys)


def _country(name: str, zones: list[str]) -> Place | None:
    if name in CAPITALS:
        capital, zone = CAPITALS[name]
        return Place(capital, zone)
    if len(zones) != 1:
        return None
    shown = COUNTRY_ALIASES.get(name, (name,))[0] if any(mark in name for mark in "(&.") else name
    return Place(f"the {shown}" if shown in WITH_ARTICLE else shown, zones[0])


@cache
def _zones_by_country() -> dict[str, list[str]]:
    zones: dict[str, list[str]] = {}
    for code, _, key, *_ in _table("zone.tab"):
        zones.setdefault(code, []).append(key)
    return zones


@cache
def _countries() -> dict[str, str]:
    return {code: name.replace(_APOSTROPHE, "'") for code, name in _table("iso3166.tab")}


def _table(name: str) -> list[list[str]]:
    text = (files("tzdata") / "zoneinfo" / name).read_text(encoding="utf-8")
    return [line.split("\t") for line in text.splitlines() if line and not line.startswith("#")]


def _plain(name: str) -> str:
    decomposed = unicodedata.normalize("NFKD", name.casefold())
    letters = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    words = re.sub(rf"[.'{_APOSTROPHE}]", "", letters.replace("&", " and "))
    return re.sub(r"[\W_]+", " ", words).strip().removeprefix("the ")
