"""Tokenizers: ids, places in the original text, cutting, text again, and what is refused."""

from __future__ import annotations

import json
import random
import sys
import unicodedata
import warnings
from typing import Any

import pytest

from lightrnn.errors import TextError
from lightrnn.text import Tokenizer, parse_tokenizer
from lightrnn.text.normalize import FORMS, Normalizer


def characters(known: str, **fields: Any) -> dict[str, Any]:
    return {"kind": "characters", "characters": known, **fields}


def words(*known: str, **fields: Any) -> dict[str, Any]:
    return {"kind": "words", "words": list(known), **fields}


def utf8(**fields: Any) -> dict[str, Any]:
    return {"kind": "bytes", "first_id": 10, **fields}


def singles(*ids: int) -> list[tuple[int, int, int]]:
    """Each id with the place of one character after the other."""
    return [(number, k, k + 1) for k, number in enumerate(ids)]


CASES: dict[str, tuple[dict[str, Any], str, list[tuple[int, int, int]]]] = {
    "characters": (characters("abc"), "cab?", singles(4, 2, 3, 1)),
    "other ids": (characters("ab", padding_id=7, unknown_id=0), "ab?", singles(1, 2, 0)),
    "emoji": (characters("👩💻a"), "👩\u200d💻a😀", singles(2, 1, 3, 4, 1)),
    "a lone surrogate": (characters("a"), "\ud800a", singles(1, 2)),
    "no form": (characters("e\u0301"), "e\u0301", singles(2, 3)),
    "NFC": (characters("éa", normalization="NFC"), "e\u0301a", [(2, 0, 2), (3, 2, 3)]),
    "NFC of two marks": (characters("ậ", normalization="NFC"), "a\u0302\u0323", [(2, 0, 3)]),
    "NFC of jamo": (characters("한a", normalization="NFC"), "\u1112\u1161\u11aba",
                    [(2, 0, 3), (3, 3, 4)]),
    "NFC of a part": (characters("각", normalization="NFC"), "가\u11a8", [(2, 0, 2)]),
    "NFD of a syllable": (characters("\u1112\u1161\u11ab", normalization="NFD"), "한",
                          [(2, 0, 1), (3, 0, 1), (4, 0, 1)]),
    "NFKC of a ligature": (characters("fix", normalization="NFKC"), "ﬁx",
                           [(2, 0, 1), (3, 0, 1), (4, 1, 2)]),
    "NFKC of half width": (characters("ガx", normalization="NFKC"), "xｶﾞx",
                           [(3, 0, 1), (2, 1, 3), (3, 3, 4)]),
    "NFKC of styles": (characters("ab", normalization="NFKC", lowercase=True), "Ⓐ𝐁", singles(2, 3)),
    "Turkish dotted I": (characters("i\u0307a", lowercase=True), "İa",
                         [(2, 0, 1), (3, 0, 1), (4, 1, 2)]),
    "final sigma": (characters("οδσς", lowercase=True), "ΟΔΟΣ ΣΟ",
                    singles(2, 3, 2, 5, 1, 4, 2)),
    "words": (words("the", "cat", "é", lowercase=True), "The cat's É",
              [(2, 0, 3), (3, 4, 7), (1, 7, 8), (1, 8, 9), (4, 10, 11)]),
    "words of a pattern": (words("the", "cat's", pattern=r"\S+"), "  the cat's\n",
                           [(2, 2, 5), (3, 6, 11)]),
    "words found empty": (words("a", pattern="a*"), "baab", [(1, 1, 3)]),
    "words of NFKC": (words("fish", "é", normalization="NFKC"), "ﬁsh e\u0301",
                      [(2, 0, 3), (3, 4, 6)]),
    "words without a space": (words("中文", "a"), "中文,a", [(2, 0, 2), (1, 2, 3), (3, 3, 4)]),
    "bytes": (utf8(), "aé", [(107, 0, 1), (205, 1, 2), (179, 1, 2)]),
    "bytes of NFC": (utf8(normalization="NFC"), "e\u0301", [(205, 0, 2), (179, 0, 2)]),
    "bytes of a surrogate": (utf8(), "\ud800a", [(73, 0, 1), (107, 1, 2)]),
    "nothing": (characters("a"), "", []),
    "no words": (words("a"), " \n", []),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_ids_and_where_they_stand(case: str) -> None:
    spec, text, wanted = CASES[case]
    tokenizer = parse_tokenizer(spec)
    assert tokenizer.encode(text) == [number for number, _, _ in wanted]
    ids, spans = tokenizer.encode_spans(text)
    assert list(zip(ids, *zip(*spans, strict=True), strict=True) if spans else []) == wanted


LETTERS = (
    "aeé\u0301\u0323\u0307\u0327ｶﾊﾞﾟガ\u3099\u1112\u1161\u11ab\u11a8\u11a7한하가ﬁ¼¨İIıΣςσ\u0345"
    "\u09c7\u09be\u0b47\u0b56😀\ud800\ufdfa\u0f71\u0f72\u0f81\u212bÅ\u1e9b≠=\u0338"
)


@pytest.mark.parametrize("form", [None, *FORMS])
def test_places_are_those_of_what_normalizes_to_each_piece(form: Any) -> None:
    normal, lower = Normalizer(form), Normalizer(form, lowercase=True)
    rng = random.Random(0)
    for _ in range(2000):
        text = "x" + "".join(rng.choices(LETTERS, k=rng.randint(1, 7))) + "y"
        found, spans = normal.aligned(text)
        assert found == (text if form is None else unicodedata.normalize(form, text))
        pieces = sorted(set(spans))
        assert [a for a, _ in pieces[1:]] == [b for _, b in pieces[:-1]]
        assert (pieces[0][0], pieces[-1]) == (0, (len(text) - 1, len(text)))
        for a, b in pieces:
            made = [c for c, span in zip(found, spans, strict=True) if span == (a, b)]
            assert "".join(made) == normal(text[a:b])
        lowered, places = lower.aligned(text)
        assert lowered == lower(text)
        assert (len(places), set(places)) == (len(lowered), set(spans))


FRAMED = characters("abcde", begin_id=7, end_id=8)
CUT: list[tuple[dict[str, Any], list[int], list[tuple[int, int]]]] = [
    ({}, [7, 2, 3, 4, 5, 6, 8], [(0, 0), (0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 5)]),
    ({"max_length": 4}, [7, 2, 3, 8], [(0, 0), (0, 1), (1, 2), (2, 2)]),
    ({"max_length": 4, "truncation": "start"}, [7, 5, 6, 8], [(3, 3), (3, 4), (4, 5), (5, 5)]),
    ({"max_length": 3, "end_id": None}, [7, 2, 3], [(0, 0), (0, 1), (1, 2)]),
    ({"max_length": 3, "begin_id": None, "truncation": "start"}, [5, 6, 8],
     [(3, 4), (4, 5), (5, 5)]),
    ({"max_length": 9}, [7, 2, 3, 4, 5, 6, 8],
     [(0, 0), (0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 5)]),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "ids", "spans"), CUT)
def test_a_text_is_cut_between_its_begin_and_end(
    changes: dict[str, Any], ids: list[int], spans: list[tuple[int, int]]
) -> None:
    tokenizer = parse_tokenizer({**FRAMED, **changes})
    assert tokenizer.encode("abcde") == ids
    assert tokenizer.encode_spans("abcde") == (ids, spans)
    assert tokenizer.encode("") == []
    assert tokenizer.encode_spans("") == ([], [])


def test_text_of_ids() -> None:
    assert parse_tokenizer(FRAMED).text([7, 2, 0, 1, 6, 8, 99]) == "ae"
    assert parse_tokenizer(words("ein", "Wort")).text([3, 1, 2]) == "Wort ein"
    assert parse_tokenizer(words("ein", "Wort", separator="_")).text([2, 3]) == "ein_Wort"
    tokenizer = parse_tokenizer(utf8())
    assert tokenizer.text([0, *tokenizer.ids("aé😀"), 999]) == "aé😀"
    assert tokenizer.text([205]) == "\ufffd"


BAD: list[tuple[dict[str, Any], str]] = [
    (words(), "'words' of tokenizer is empty"),
    ({"kind": "words"}, "tokenizer lacks 'words'"),
    (words("a", "a"), "'words' of tokenizer holds 'a' twice"),
    (words("a", ""), "'words' of tokenizer: 1 is ''"),
    (words("a", "b\n"), "holds a control character"),
    (words("a", pattern="("), r"pattern '\(' is not a regular expression"),
    (words("a", pattern=3), "'pattern' of tokenizer is 3, expected a string"),
    (words("a", first_id=3), "tokenizer has the unknown field 'first_id'"),
    ({"kind": "bytes"}, "tokenizer lacks 'first_id'"),
    (utf8(first_id=-1), "'first_id' of tokenizer is -1, expected 0 or more"),
    (characters("a", truncation="left"), "is 'left', expected 'end' or 'start'"),
    (characters("a", begin_id=2, end_id=3, max_length=2), "max_length is 2, with begin_id and end"),
    (characters("a", begin_id="x"), "'begin_id' of tokenizer is 'x', expected a whole number"),
    ({"kind": "huggingface"}, "tokenizer lacks 'json'"),
    ({"kind": "jieba"}, "tokenizer lacks 'words'"),
    ({"kind": "huggingface", "json": {}}, "'json' of tokenizer is {}, expected a string"),
]


@pytest.mark.parametrize(("spec", "message"), BAD, ids=[message for _, message in BAD])
def test_what_is_not_understood_is_named(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(TextError, match=message):
        parse_tokenizer(spec)


@pytest.mark.parametrize(
    ("spec", "package"),
    [({"kind": "huggingface", "json": "{}"}, "tokenizers"),
     ({"kind": "jieba", "words": ["a"]}, "jieba")],
)  # fmt: skip
def test_a_package_that_is_missing_is_named(
    spec: dict[str, Any], package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(TextError, match=f"{package} is not installed: pip install 'lightrnn"):
        parse_tokenizer(spec).encode("a")


# Other packages


def hugging_face(**fields: Any) -> Tokenizer:
    """Pieces of words; its own file asks for special tokens, cutting and padding."""
    package = pytest.importorskip("tokenizers")
    known = {"[UNK]": 0, "un": 1, "##like": 2, "##ly": 3, "é": 4, "[CLS]": 5, "?": 6}
    made = package.Tokenizer(package.models.WordPiece(known, unk_token="[UNK]"))
    made.pre_tokenizer = package.pre_tokenizers.BertPreTokenizer()
    made.decoder = package.decoders.WordPiece()
    made.post_processor = package.processors.TemplateProcessing(
        single="[CLS] $A", special_tokens=[("[CLS]", 5)]
    )
    made.enable_truncation(2)
    made.enable_padding(length=9)
    return parse_tokenizer({"kind": "huggingface", "json": made.to_str(), **fields})


def test_hugging_face() -> None:
    tokenizer = hugging_face(begin_id=5, max_length=5, normalization="NFC", lowercase=True)
    ids, spans = tokenizer.encode_spans("e\u0301 UNLIKELY 😀 un")
    assert ids == [5, 4, 1, 2, 3] == tokenizer.encode("e\u0301 UNLIKELY 😀 un")
    assert spans == [(0, 0), (0, 2), (3, 5), (5, 9), (9, 11)]
    assert tokenizer.text(ids[1:]) == "é unlikely"
    assert tokenizer.encode("") == []


def test_hugging_face_and_what_is_not_text() -> None:
    tokenizer = hugging_face()
    assert tokenizer.encode_spans("un \ud800") == ([1, 6], [(0, 2), (3, 4)])
    for bad in ("{}", "[", json.dumps({"model": 3})):
        broken = parse_tokenizer({"kind": "huggingface", "json": bad})
        with pytest.raises(TextError, match="not a tokenizer"):
            broken.encode("a")


def test_jieba() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("jieba")
    spec = {"kind": "jieba", "words": ["我", "来到", "北京", "a"], "normalization": "NFKC"}
    tokenizer = parse_tokenizer(spec)
    ids, spans = tokenizer.encode_spans("我来到 北京ａ\ud800")
    assert (ids, spans) == ([2, 3, 4, 5, 1], [(0, 1), (1, 3), (4, 6), (6, 7), (7, 8)])
    assert tokenizer.text(ids) == "我来到北京a"
    assert tokenizer.encode(" ") == []
