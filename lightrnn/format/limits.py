"""Sizes beyond which a file is refused. Generous, and finite."""

HEADER_BYTES = 100_000_000
TENSORS = 100_000
GRAPHS = 100
NODES = 200_000
SIGNATURE = 1000
"""Inputs of a graph, and outputs."""
VALUES = 1_000_000
"""Elements of one attribute."""
NAME_LENGTH = 1000
NESTING = 6
"""Graphs inside each other's nodes; types inside are inferred several times at each level."""
