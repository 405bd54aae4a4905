"""Run torch modules and leave them as they were."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightrnn_converters.optional import require


@contextmanager
def evaluating(module: Any) -> Iterator[None]:
    """Put a module in evaluation mode; afterwards undo that and whatever it did to itself.

    Restored are the mode, attributes and buffers of each submodule, and torch's seeds.
    """
    torch = require("torch")
    modules = list(module.modules()) if hasattr(module, "modules") else []
    saved = [_Saved(torch, m) for m in modules]
    for m in modules:
        m.training = False
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        for one in saved:
            one.restore()


class _Saved:
    """The attributes of one module, those in containers included."""

    def __init__(self, torch: Any, module: Any) -> None:
        self._torch = torch
        self._attributes = vars(module)
        self._values = dict(self._attributes)
        containers = [v for v in self._values.values() if isinstance(v, list | dict | set | deque)]
        self._containers = [(c, c.copy()) for c in containers]
        self._tensors = [
            (t, t._version, t.detach().clone()) for t in tensors(torch, self._values.values())
        ]

    def restore(self) -> None:
        _refill(self._attributes, self._values)
        for container, content in self._containers:
            if isinstance(container, dict | set):
                _refill(container, content)
            else:
                container.clear()
                container.extend(content)
        with self._torch.no_grad():
            for tensor, version, value in self._tensors:
                if tensor._version != version:
                    tensor.copy_(value)


def _refill(container: Any, content: Any) -> None:
    container.clear()
    container.update(content)


def tensors(torch: Any, values: Any) -> Iterator[Any]:
    """Tensors among values and in containers of them, parameters apart."""
    for value in values:
        if isinstance(value, torch.Tensor):
            if not isinstance(value, torch.nn.Parameter) and not value.is_inference():
                yield value
        elif isinstance(value, list | tuple | deque):
            yield from tensors(torch, value)
        elif isinstance(value, dict):
            yield from tensors(torch, value.values())
