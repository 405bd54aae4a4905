"""Bad files: each is refused by one error that names what is wrong with it."""

from __future__ import annotations

import contextlib
import copy
import random
import re
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lightrnn
from lightrnn.errors import FormatError, LightRNNError
from tests.attacks.base import FEEDS, Attack, Parts, header_of, valid_file
from tests.attacks.container import CONTAINER
from tests.attacks.graphs import GRAPHS
from tests.attacks.meanings import MEANINGS, more
from tests.attacks.metadata import METADATA

ATTACKS = (*CONTAINER, *METADATA, *GRAPHS, *MEANINGS)


def test_the_file_that_attacks_start_from_is_good() -> None:
    for data in (valid_file(), Parts.of(valid_file()).file()):
        results = lightrnn.load(data).run(FEEDS)
        assert results["logits"].shape == (2, 3)
        assert np.isfinite(results["h_next"]).all()


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: a.name)
def test_a_bad_file_is_refused_by_one_clear_error(attack: Attack, tmp_path: Path) -> None:
    data = attack.make(valid_file())
    path = tmp_path / "bad.lrnn"
    path.write_bytes(data)
    messages = []
    for source in (data, path):
        with pytest.raises(LightRNNError) as caught:
            lightrnn.load(source)
        message = str(caught.value)
        assert type(caught.value) is attack.error, message
        assert re.search(attack.message, message), message
        assert len(message) < 1200
        assert "\n" not in message
        messages.append(message)
    if attack.error is FormatError:
        assert messages[1] == f"{path}: {messages[0]}"
    else:
        assert messages[1] == messages[0]


def test_every_attack_has_a_name_of_its_own() -> None:
    names = [attack.name for attack in ATTACKS]
    assert len(set(names)) == len(names) > 150


def peak_of_loading(data: bytes) -> int:
    """The most memory that loading takes, whether or not it succeeds."""
    tracemalloc.start()
    try:
        lightrnn.load(data)
    except LightRNNError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak


def test_no_bad_file_takes_memory_beyond_its_own_size() -> None:
    lightrnn.load(valid_file())  # what is imported or compiled once is not counted
    for attack in ATTACKS:
        data = attack.make(valid_file())
        if len(data) > 1_000_000:
            continue
        assert peak_of_loading(data) < 50 * len(data) + 2_000_000, attack.name


HUGE = {
    "ConstantOfShape": ["sizes"],
    "Expand": ["low", "sizes"],
    "Tile": ["low", "many"],
    "OneHot": ["first", "many", "pair"],
    "Range": ["first", "many", "one"],
    "MatMul": ["column", "row"],
    "Pad": ["low", "pads"],
}
"""Nodes that make 2**40 elements or more of constants alone."""


@pytest.mark.parametrize("op", HUGE)
def test_huge_tensors_are_not_made_while_loading(op: str) -> None:
    parts = Parts.of(valid_file())
    for name, values in {
        "sizes": [2**20, 2**20], "many": [2**40], "pair": [0, 1], "one": [1], "pads": [0, 2**40],
    }.items():  # fmt: skip
        parts.add_tensor(name, "I64", [len(values)], np.array(values).tobytes())
    zeros = np.zeros(2**20, np.float32).tobytes()
    parts.add_tensor("column", "F32", [2**20, 1], zeros)
    parts.add_tensor("row", "F32", [1, 2**20], zeros)
    more(op, HUGE[op], ["more"])(parts)
    parts.main["outputs"].append({"name": "more", "dtype": "float32", "shape": None})
    if op in ("OneHot", "Range"):
        parts.main["outputs"][-1]["dtype"] = "int64"
    data = parts.file()
    assert peak_of_loading(data) < 2 * len(data)
    results = lightrnn.load(data).run(FEEDS, ["logits"])
    assert results["logits"].shape == (2, 3)


def survives(data: bytes) -> bool:
    """Load a file and run it where it can be; False if it is refused."""
    try:
        model = lightrnn.load(data)
    except LightRNNError:
        return False
    with contextlib.suppress(LightRNNError):
        model.run(FEEDS)
    return True


def mutated(file: bytes, rng: random.Random) -> bytes:
    """One to three bytes flipped, cut out, doubled or put in, three times of four in the header."""
    data = bytearray(file)
    header = len(header_of(file)) + 8
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(header if rng.random() < 0.75 else len(data))
        kind = rng.randrange(5)
        if kind == 0:
            data[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[place] = rng.choice(b'0123456789-.,:[]{}"eE\\ntf\0\xff')
        elif kind == 2:
            del data[place : place + rng.randint(1, 8)]
        elif kind == 3:
            data[place:place] = data[place : place + rng.randint(1, 40)]
        else:
            del data[place:]
        if len(data) < header:
            break
    return bytes(data)


@pytest.mark.parametrize("seed", range(8))
def test_damaged_bytes_are_refused_or_harmless(seed: int) -> None:
    file, rng = valid_file(), random.Random(seed)
    found = [survives(mutated(file, rng)) for _ in range(100)]
    assert found.count(False) > 50


JUNK: tuple[Any, ...] = (
    None, True, 0, 1, -1, 3, 17, 2**31, 2**40, 2**62, -(2**63), 0.5, 1e30, "", "N", "x", "float32",
    "int64", "ids", "rows", "GRU", "Expand", "Concat", "Reshape", "axis", [], [0], [-1], [2**40],
    [1, 2, 3], ["ids"], ["table", "ids"], [""], {}, {"axis": 1}, {"to": 7}, {"perm": [0]},
)  # fmt: skip


def replace_somewhere(value: Any, rng: random.Random) -> None:
    """One item, somewhere within a JSON value, replaced by another, removed or doubled."""
    places = list(value) if isinstance(value, dict) else list(range(len(value)))
    if not places:
        return
    place = rng.choice(places)
    inner = value[place]
    if isinstance(inner, list | dict) and inner and rng.random() < 0.85:
        replace_somewhere(inner, rng)
    elif rng.random() < 0.8:
        value[place] = copy.deepcopy(rng.choice(JUNK))
    elif isinstance(value, list) and rng.random() < 0.5:
        value.append(copy.deepcopy(inner))
    else:
        del value[place]


@pytest.mark.parametrize("seed", range(8))
def test_graphs_with_other_contents_are_refused_or_harmless(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(100):
        parts = Parts.of(valid_file())
        for _ in range(rng.randint(1, 2)):
            replace_somewhere(rng.choice([parts.graphs, parts.graphs, parts.tensors]), rng)
        survives(parts.file())
