"""GPU kernels run in the simulator, against NumPy semantics and float64 oracles."""

from __future__ import annotations

import numpy as np
import pytest

from tests.cuda_simulator import GpuEmitter
from tests.kernels import run_lowered
from tests.recurrent_cases import TINY, Layer, draw
from tests.test_conformance import _constants, assert_agrees, every_case, operator_of
from tests.test_recurrent import _check_all, assert_close


@every_case
def test_operators_agree_with_semantics(key: str) -> None:
    op, case = operator_of(key)
    expected = op.evaluate(*case.inputs)
    for constants in _constants(op, case)[:1]:
        with np.errstate(all="ignore"):
            found = run_lowered(
                op, case.inputs, "cuda", constants=constants, asked=case.outputs,
                emitter=GpuEmitter,
            )  # fmt: skip
        if found is not None:
            for a, b in zip(found, expected, strict=False):
                if a is not None:
                    assert_agrees(a, b, op.rtol)


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_recurrent_layers_agree_with_the_oracle(first: int) -> None:
    def kernel(layer: Layer) -> None:
        names = layer.operator.inputs.names[: len(layer.values)]
        constants = [k for k, name in enumerate(names) if name not in layer.fed]
        with np.errstate(all="ignore"):
            found = run_lowered(
                layer.operator, layer.values, "cuda", constants=constants, emitter=GpuEmitter
            )
        assert (found is None) == ("W" in layer.fed)
        if found is not None:
            results = [a for a in found if a is not None]
            assert_close(layer, dict(zip(layer.expected, results, strict=True)))

    _check_all([draw(seed, TINY) for seed in range(first, first + 20)], kernel)
