"""torch modules that cannot be converted: one error that says where, why and what to do."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from lightrnn.errors import ConversionError, LightRNNError, UnsupportedError, VerificationError
from tests.more_models import Module, frames
from tests.torch_conversion import convert

X = torch.randn(3, 4)
HERE = r"test_torch_refused\.py:\d+"


def _branch(m: Any, x: Tensor) -> Tensor:
    return x if x.sum() > 0 else -x


def _while(m: Any, x: Tensor) -> Tensor:
    while x.norm() > 1:
        x = x / 2
    return x


def _early_stop(m: Any, x: Tensor) -> Tensor:
    h, results = x.new_zeros(x.shape[0], 6), []
    for _ in range(10):
        h = m.cell(x, h)
        results.append(h)
        if int(h[0].argmax()) == 2:
            break
    return torch.stack(results)


def _by_row(m: Any, x: Tensor, n: Tensor) -> Tensor:
    return torch.stack([m.rnn(x[k : k + 1, : int(n[k])])[1][0, 0] for k in range(x.shape[0])])


def _in_numpy(m: Any, x: Tensor) -> Tensor:
    return torch.from_numpy(np.tanh(x.numpy()))


def _listed(m: Any, x: Tensor) -> Tensor:
    return x * max(x[0].tolist())


@pytest.mark.parametrize(("function", "inputs", "advice", "parts"), [
    (_branch, X, "choose with torch.where or a mask", {}),
    (_while, X, "choose with torch.where or a mask", {}),
    (_early_stop, X, "choose with torch.where or a mask", {"cell": nn.GRUCell(4, 6)}),
    (_by_row, (frames(3, 4), torch.tensor([2, 4, 1])), "choose with torch.where or a mask",
     {"rnn": nn.GRU(5, 6, batch_first=True)}),
    (_in_numpy, X, "compute in torch", {}),
    (_listed, X, "graphs of one file", {}),
])  # fmt: skip
def test_control_flow_by_values_is_refused_with_place_and_advice(
    function: Any, inputs: Any, advice: str, parts: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    pattern = rf"torch\.export cannot export the module at .*{HERE}: .*{advice}"
    with pytest.raises(ConversionError, match=pattern):
        convert(Module(function, **parts).eval(), inputs)
    assert capfd.readouterr() == ("", "")


class Special(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.erfinv(x) + torch.special.bessel_j0(x)


def test_all_calls_without_an_onnx_form_are_named() -> None:
    module = nn.Sequential(Special(), nn.Tanh(), Special())
    with pytest.raises(UnsupportedError) as caught:
        convert(module, torch.rand(3, 4))
    first, *lines = str(caught.value).splitlines()
    assert first == "4 calls of the module cannot be converted:"
    assert len(lines) == 4
    for line, name in zip(lines, ("erf_inv", "bessel_j0") * 2, strict=True):
        assert name in line
        assert "test_torch_refused.py:" in line
        assert line.endswith("torch has no ONNX form of it")


def test_all_nodes_that_lightrnn_lacks_are_named_with_their_line() -> None:
    def function(m: Any, x: Tensor) -> Any:
        places = torch.tanh(x.reshape(1, 4, 6, 2))
        taken = nn.functional.grid_sample(x[None, None], places, align_corners=False)
        return taken, nn.functional.interpolate(x[None, None], scale_factor=2.0)

    with pytest.raises(UnsupportedError) as caught:
        convert(Module(function), torch.randn(3, 16))
    text = str(caught.value)
    assert text.startswith("2 nodes of the model cannot be converted:")
    assert len(re.findall(r"\w+\.py:\d+\)", text)) == 2
    assert "GridSample" in text
    assert "Resize" in text


def test_bags_that_offsets_divide_are_refused_by_name() -> None:
    module = Module(lambda m, x, o: m.bag(x, o), bag=nn.EmbeddingBag(10, 3))
    with pytest.raises(UnsupportedError, match=r"\(bag, "):
        convert(module, (torch.arange(8), torch.tensor([0, 4])))


# Examples and modules


GRU = nn.GRU(5, 6)
PACKED = pack_padded_sequence(torch.randn(4, 3, 5), torch.tensor([4, 3, 2]))


@pytest.mark.parametrize(("module", "inputs", "message"), [
    (GRU, (), "do not fit the module: missing a required argument: 'input'"),
    (GRU, {"x": X}, "do not fit the module"),
    (GRU, torch.randn(4, 3, 6), "does not run on its example: RuntimeError: input.size"),
    (GRU, np.zeros((4, 3, 5), np.float32), "example_inputs is a ndarray, expected a tensor"),
    (GRU, (np.zeros((4, 3, 5), np.float32),), "hold a NumPy array: pass torch.from_numpy"),
    (GRU, PACKED, "example_inputs is a PackedSequence"),
    (GRU, (PACKED,), "hold a PackedSequence: wrap the module in one that takes the padded"),
    (len, X, "cannot convert a builtin_function_or_method, expected a module"),
    (GRU.state_dict(), X, "cannot convert a OrderedDict, expected a module"),
    (Module(lambda m, x: {"y": x, "kind": "text"}), X, "returns 'text' at 'kind'"),
    (Module(lambda m, x: (x, 5)), X, "returns 5 at 'output_1'"),
    (nn.Linear(4, 2).bfloat16(), X.bfloat16(), r"'weight' is bfloat16.*module\.float\(\)"),
    (nn.Linear(4, 2), X.to(torch.complex64), "'input 0' is complex64"),
    (nn.Linear(4, 2, device="meta"), X, "'weight' is on meta"),
    (Module(lambda m, x: x + 1), X.to_sparse(), "is not a plain tensor"),
])  # fmt: skip
def test_example_or_module_that_does_not_fit_is_refused(
    module: Any, inputs: Any, message: str
) -> None:
    with pytest.raises(ConversionError, match=message):
        convert(module, inputs)


def test_torchscript_is_refused_with_advice() -> None:
    with pytest.warns(DeprecationWarning, match="jit"):
        module = torch.jit.script(nn.Linear(4, 2))
    with pytest.raises(
        ConversionError, match=r"TorchScript: convert the nn\.Module it was made of"
    ):
        convert(module, X)


@pytest.mark.parametrize(("options", "message"), [
    ({"input_names": ["a", "b"]}, "input names are a, b, expected one for each of x"),
    ({"output_names": []}, "output names are , expected one for each of output_0, output_1"),
    ({"output_names": ["y", "y"]}, "output names are y, y"),
    ({"states": {"z": "output_1"}}, "no input 'z'"),
    ({"states": {"x": "output_1"}}, "'x' is float32"),
])  # fmt: skip
def test_options_that_do_not_fit_are_refused(options: Any, message: str) -> None:
    module = Module(lambda m, x: m.rnn(x), rnn=GRU)

    class Named(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return module(x)

    with pytest.raises(ConversionError, match=message):
        convert(Named().eval(), torch.randn(4, 3, 5), **options)


def test_sizes_that_cannot_vary_are_refused_where_they_are_demanded() -> None:
    shapes = ({2: torch.export.Dim("features")},)
    with pytest.raises(ConversionError, match="leave it out, and those vary that can"):
        convert(nn.GRU(5, 6), torch.randn(4, 3, 5), dynamic_shapes=shapes)


# Verification


class BySize(nn.Module):
    """Computes something else for one size: a trace knows only one of the two."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.shape[0] > 1 else x * 3


def test_module_that_decides_by_a_size_of_one_is_refused() -> None:
    with pytest.raises(VerificationError, match="differs from torch"):
        convert(BySize(), X)


def test_random_results_are_refused() -> None:
    with pytest.raises(LightRNNError):
        convert(Module(lambda m, x: x + torch.randn_like(x)), X)


def test_mismatch_names_the_first_node_that_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    from lightrnn_converters import torch_translate

    monkeypatch.setitem(torch_translate._ORDERS, "GRU", (0, 1, 2))
    module = nn.Sequential(nn.Linear(5, 5), nn.Tanh(), nn.GRU(5, 6)).eval()
    with pytest.raises(VerificationError) as caught:
        convert(module, torch.randn(4, 3, 5))
    text = str(caught.value)
    assert "the first node that differs is" in text
    assert "GRU node" in text.partition("the first node that differs is")[2]
