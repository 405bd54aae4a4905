"""`bench.cuda`'s checks on an emulated GPU: compiled kernels under the real cuda.core."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lightrnn.cuda.build import check_toolkit
from lightrnn.errors import NativeError
from tests import cuda_page
from tests.emulator.build import build, sources
from tests.emulator.process import run_python, skip_where_it_cannot_be_built

CODE = """
import json, sys
from bench.cuda.checks import checks

kind, wanted, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
chosen = [(name, work) for name, work in checks(seed) if name.startswith(kind)][:wanted]
failed = []
for name, work in chosen:
    try:
        work()
    except Exception as error:
        failed.append(f"{name}: {type(error).__name__}: {error}")
print(json.dumps({"count": len(chosen), "failed": failed}))
"""
SEED = 20


@pytest.fixture(scope="module")
def gpu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The driver of the emulated GPU."""
    skip_where_it_cannot_be_built()
    pytest.importorskip("cuda.core", reason="cuda-core is not installed")
    try:
        check_toolkit()
    except NativeError as error:
        pytest.skip(str(error))
    return build(tmp_path_factory.mktemp("gpu"), sources(cuda_page.current()))


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        ("a ", 2), ("out of memory", 1), ("LSTM of", 6), ("GRU of", 2), ("RNN of", 2),
        ("layer", 100), ("stack of 5", 3), ("wide layer", 4), ("example names", 1),
        ("operator", 1200),
    ],
)  # fmt: skip
def test_checks_pass(kind: str, count: int, gpu: Path) -> None:
    done = run_python(gpu, CODE, kind, str(count), str(SEED))
    found = json.loads(done.stdout.splitlines()[-1])
    assert not found["failed"], f"{found['failed'][0]}\n{done.stderr}"
    assert found["count"] >= count
