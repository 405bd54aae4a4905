"""Convert .pt2 files: exported torch programs, which are not trusted."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

from lightrnn.errors import ConversionError
from lightrnn_converters.optional import first_line, require
from lightrnn_converters.pt2_archive import checked
from lightrnn_converters.save import Destination, Storage, Text
from lightrnn_converters.torch_frontend import TorchGraph, convert_torch_graphs


def convert_pt2(
    source: str | os.PathLike[str],
    destination: Destination,
    *,
    trust: bool = False,
    example_inputs: Any = (),
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    dtype: Storage = "float32",
    states: Mapping[str, str] | None = None,
    text: Text = None,
    metadata: Mapping[str, str] | None = None,
    verify: bool = True,
    graph_name: str = "main",
) -> None:
    """Convert an exported program, saved by torch.export.save, to .lrnn.

    trust: let torch read the file in any way it can, which may run code that the file holds.
    example_inputs: inputs to verify with, by default those in the file. Sizes that the program
    fixed stay fixed. Other arguments are those of `convert_torch`.

    Raises ConversionError, VerificationError, or OSError where the file cannot be read.
    """
    program = load_program(source, trust=trust)
    if not len(example_inputs) and program.example_inputs is None:
        raise ConversionError(f"{os.fspath(source)} holds no example inputs: pass example_inputs")
    graph = TorchGraph(
        program, example_inputs, None, input_names=input_names, output_names=output_names,
        states=states,
    )  # fmt: skip
    convert_torch_graphs(
        {graph_name: graph}, destination, dtype=dtype, text=text, metadata=metadata, verify=verify
    )


def load_program(source: str | os.PathLike[str], *, trust: bool = False) -> Any:
    """The exported program in a file. Raises ConversionError for what is not safe to read."""
    torch = require("torch")
    path = os.fspath(source)
    try:
        if trust:
            return torch.export.load(path)
        with _plain_tensors_only(torch):
            return torch.export.load(checked(path))
    except (ConversionError, OSError):
        raise
    except Exception as error:  # torch raises classes of many modules
        raise ConversionError(
            f"{path} is not a program that torch can read: {first_line(error)}"
        ) from error


@contextmanager
def _plain_tensors_only(torch: Any) -> Iterator[None]:
    """Let torch.load read tensors and never unpickle anything else."""
    original = torch.load

    def load(*args: Any, **kwargs: Any) -> Any:
        return original(*args, **{**kwargs, "weights_only": True})

    with mock.patch.object(torch, "load", load):
        yield
