"""Values that inputs had for good when a model was converted, recorded in its metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

KEY = "bound_inputs"
"""JSON in a file's metadata: for each graph, input name to value."""


def record(values: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Metadata that says which inputs of which graphs were bound; none where none was."""
    listed = {
        graph: {name: np.asarray(value).tolist() for name, value in inputs.items()}
        for graph, inputs in values.items()
        if inputs
    }
    return {KEY: json.dumps(listed, sort_keys=True)} if listed else {}


def recorded(metadata: Mapping[str, str], graph: str) -> dict[str, Any]:
    """The values of a graph's bound inputs, by name."""
    try:
        values: dict[str, Any] = json.loads(metadata.get(KEY, "{}"))[graph]
    except (ValueError, KeyError, TypeError):
        return {}
    return values
