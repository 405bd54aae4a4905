"""What operators mean: one record each, imported when it is first needed."""

from lightrnn.ops.registry import REGISTRY, Case, Operator, build, operator

__all__ = ["REGISTRY", "Case", "Operator", "build", "operator"]
