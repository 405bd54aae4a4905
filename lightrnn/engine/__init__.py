"""How a graph runs: prepared once, bound to shapes, executed as a flat program."""
