"""A model as every engine needs it: ONNX for those that read files, a module for torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lightrnn.graph import Array

Layout = Callable[[Sequence[Array]], list[Array]]


@dataclass(frozen=True)
class Subject:
    """What a cell measures.

    source: an ONNX file. feeds: its inputs, in order. outputs: names, in order; the first is
    compared and its error reported.
    carried: inputs that the caller replaces, after each run, by the output that is named.
    streamed: lightrnn carries them itself, in a stream.
    module: makes a torch module of `feeds`' values, or None where there is none. layout: brings
    what it returns to the order of axes that the ONNX file has.
    """

    source: bytes
    feeds: Mapping[str, Array]
    outputs: Sequence[str]
    carried: Mapping[str, str] = field(default_factory=dict)
    streamed: bool = False
    module: Callable[[], Any] | None = None
    layout: Layout = list


def exported(
    module: Any, feeds: Mapping[str, Array], outputs: Sequence[str], dynamic: Any = None
) -> bytes:
    """A torch module as torch's own exporter writes it.

    dynamic: dynamic_shapes of `torch.onnx.export`.
    """
    import logging

    import torch

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    given = tuple(torch.from_numpy(a) for a in feeds.values())
    program = torch.onnx.export(
        module.eval(), given, dynamo=True, verbose=False, dynamic_shapes=dynamic,
        input_names=list(feeds), output_names=list(outputs),
    )  # fmt: skip
    assert program is not None
    return bytes(program.model_proto.SerializeToString())


def evaluated(module: Any, feeds: Mapping[str, Array], layout: Layout = list) -> list[Array]:
    """What a torch module gives in float64."""
    import torch

    given = (torch.from_numpy(a) for a in feeds.values())
    with torch.inference_mode():
        found = module.to(torch.float64).eval()(
            *(t.to(torch.float64) if t.is_floating_point() else t for t in given)
        )
    return layout([t.numpy() for t in flat(found)])


def flat(found: Any) -> list[Any]:
    """The tensors of a tensor or of nested tuples."""
    return [t for part in found for t in flat(part)] if isinstance(found, tuple) else [found]
