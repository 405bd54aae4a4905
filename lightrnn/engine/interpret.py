"""Run a graph on NumPy semantics alone: the reference, and the path where no library fits."""

from lightrnn.ops.interpret import evaluate, evaluate_node, evaluate_operator

__all__ = ["evaluate", "evaluate_node", "evaluate_operator"]
