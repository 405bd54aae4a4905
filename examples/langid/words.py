"""Word lists of thirty languages from the `wordfreq` package, split into training and held-out."""

from __future__ import annotations

import unicodedata
import zlib
from collections import Counter
from functools import cache
from itertools import islice

MOST_WORDS = 40_000
"""Words taken from each list, the most frequent first."""

ALWAYS_KEPT = 100
"""Words so frequent that a single Latin letter is believed ("a", "y", "à")."""

HELD_OUT_ONE_IN = 20

SCRIPTS = {
    "ar": ("ARABIC",),
    "bg": ("CYRILLIC",),
    "bn": ("BENGALI",),
    "cs": ("LATIN",),
    "da": ("LATIN",),
    "de": ("LATIN",),
    "el": ("GREEK",),
    "en": ("LATIN",),
    "es": ("LATIN",),
    "fa": ("ARABIC",),
    "fi": ("LATIN",),
    "fr": ("LATIN",),
    "he": ("HEBREW",),
    "hi": ("DEVANAGARI",),
    "hu": ("LATIN",),
    "id": ("LATIN",),
    "it": ("LATIN",),
    "ja": ("CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "IDEOGRAPHIC"),
    "ko": ("HANGUL",),
    "nl": ("LATIN",),
    "pl": ("LATIN",),
    "pt": ("LATIN",),
    "ro": ("LATIN",),
    "ru": ("CYRILLIC",),
    "sv": ("LATIN",),
    "ta": ("TAMIL",),
    "tr": ("LATIN",),
    "uk": ("CYRILLIC",),
    "vi": ("LATIN",),
    "zh": ("CJK",),
}
"""The scripts of each language, as the first words of Unicode character names."""

LANGUAGES = tuple(SCRIPTS)
"""ISO 639-1 codes, in the order of the model's labels."""

_JOINERS = "\u200c\u200d'"


def word_frequencies(language: str) -> dict[str, float]:
    """The words of a language's list, lower-cased, NFC, with their frequencies.

    Words with digits, punctuation or letters of another script are left out, and so are single
    Latin letters that are not among the ALWAYS_KEPT most frequent words.
    """
    import wordfreq

    ranked = wordfreq.get_frequency_dict(language, "best").items()
    kept: dict[str, float] = {}
    for rank, (word, frequency) in enumerate(islice(ranked, MOST_WORDS)):
        word = _spelt(word)
        if _is_word(word, SCRIPTS[language]) and (rank < ALWAYS_KEPT or not _is_latin_letter(word)):
            kept.setdefault(word, frequency)
    return kept


def held_out(word: str) -> bool:
    """Whether a word is kept out of training; the same for every language and on every machine."""
    return zlib.crc32(word.encode("utf-8")) % HELD_OUT_ONE_IN == 0


def training_words(language: str) -> dict[str, float]:
    """The words to train on, with their frequencies."""
    return {w: f for w, f in word_frequencies(language).items() if not held_out(w)}


def held_out_words() -> dict[str, list[str]]:
    """For each language the held-out words, most frequent first, that no other list contains."""
    lists = {language: list(word_frequencies(language)) for language in LANGUAGES}
    owners = Counter(word for words in lists.values() for word in words)
    return {
        language: [word for word in words if held_out(word) and owners[word] == 1]
        for language, words in lists.items()
    }


def _spelt(word: str) -> str:
    """A listed word in lower case and NFC, with the final sigma that the lists fold away."""
    word = unicodedata.normalize("NFC", word.lower())
    return word[:-1] + "ς" if word.endswith("σ") else word


def _is_word(word: str, scripts: tuple[str, ...]) -> bool:
    return word.strip(_JOINERS) == word != "" and all(_belongs(c, scripts) for c in word)


@cache
def _belongs(character: str, scripts: tuple[str, ...]) -> bool:
    if character in _JOINERS:
        return True
    category = unicodedata.category(character)
    if category.startswith("M"):
        return True
    return category.startswith("L") and _script(character) in scripts


def _is_latin_letter(word: str) -> bool:
    return len(word) == 1 and _script(word) == "LATIN"


def _script(character: str) -> str:
    return unicodedata.name(character, "").split(" ")[0]
