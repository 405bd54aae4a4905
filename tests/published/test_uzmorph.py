"""uzmorph-nn 0.1.0: a BiLSTM that tags the letters of Uzbek words, against the package itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from lightrnn_converters import convert_torch
from torch import Tensor

import lightrnn
from lightrnn.graph import Array
from tests.published.fetch import Release, imported

pytestmark = pytest.mark.network

RELEASE = Release(
    "uzmorph-nn", "0.1.0", "cce2474cd810f91e9311ab50a214db7700a53c84d704b289ff6c9b8d1e67b3b3",
    ("uzmorph_nn/",),
)  # fmt: skip

STEMS = (
    "kitob", "maktab", "bola", "kishi", "odam", "shahar", "qishloq", "daftar", "qalam", "uy",
    "ko'cha", "daraxt", "gul", "suv", "non", "choy", "do'st", "aka", "opa", "ona", "ota",
    "inson", "xalq", "til", "so'z", "gap", "fikr", "ish", "vaqt", "kun", "yil", "oy", "hafta",
    "tong", "kecha", "yo'l", "mashina", "telefon", "yaxshi", "katta", "kichik", "chiroyli",
    "tez", "sekin", "yangi", "eski", "o'qi", "yoz", "bor", "kel", "ket", "ol", "ber",
)  # fmt: skip
ENDINGS = ("", "lar", "ning", "larimizdan", "roq", "di", "gan", "moqda")
ODD_WORDS = ["", "x", "ZZZ", "kitob-daftar", "3", "ўзбек", "a" * 40, "  Maktablarimizda  "]
WORDS = [stem + ending for stem in STEMS for ending in ENDINGS] + ODD_WORDS


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """torch's threads take longer to meet than such small layers to run."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def package() -> Iterator[Any]:
    """The package's analyser: `analyze`, `model`, `char_to_idx`."""
    folder = RELEASE.folder()
    resources = {"resource_filename": lambda name, path: str(folder / name / path)}
    with imported(folder, "uzmorph_nn", {"pkg_resources": resources}) as module:
        yield module.uzmorph_nn()


@pytest.fixture(scope="module")
def model(package: Any, tmp_path_factory: pytest.TempPathFactory) -> lightrnn.Model:
    path = tmp_path_factory.mktemp("uzmorph") / "uzmorph.lrnn"
    module = type(package.model)(len(package.char_to_idx), len(package.tag_to_idx))
    weights = RELEASE.folder() / "uzmorph_nn/data/morph_bilstm.pth"
    module.load_state_dict(torch.load(weights, weights_only=True))
    convert_torch(module, (torch.zeros(2, 5, dtype=torch.int64),), path)
    return lightrnn.load(path)


def ids(package: Any, word: str) -> Array:
    return np.array([[package.char_to_idx.get(c, package.char_to_idx["UNK"]) for c in word]])


def test_analyses_are_the_package_s(model: lightrnn.Model, package: Any) -> None:
    wanted = {word: package.analyze(word).to_dict() for word in WORDS}

    def converted(letters: Tensor) -> Tensor:
        scores = model(letters.numpy())
        assert isinstance(scores, np.ndarray)
        return torch.from_numpy(scores)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(package, "model", converted)
        found = {word: package.analyze(word).to_dict() for word in WORDS}
    assert found == wanted
    assert len({w["pos"] for w in wanted.values()}) > 2


def test_scores_agree_at_every_length_and_in_batches(model: lightrnn.Model, package: Any) -> None:
    batches = [ids(package, word) for word in WORDS[:60] if word]
    batches.append(np.concatenate([ids(package, word[:5].ljust(5)) for word in WORDS[:60]]))
    for letters in batches:
        with torch.no_grad():
            wanted = package.model(torch.from_numpy(letters)).numpy()
        found = model(letters)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.native
def test_the_plan_is_one_native_call(model: lightrnn.Model) -> None:
    plan = model.plan({model.inputs[0].name: (1, 30)})
    assert (plan.host_steps, plan.native_calls) == ((), 1)
