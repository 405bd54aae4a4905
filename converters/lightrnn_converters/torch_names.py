"""Names of the inputs and outputs of a torch module's graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from lightrnn.errors import ConversionError

Keys: TypeAlias = tuple[str, ...]
"""The way to a tensor in what a module returns: places in tuples, keys of mappings."""


def input_names(program: Any) -> list[str]:
    """The tensors that a program takes, called after its arguments."""
    specs = [s.arg for s in program.graph_signature.input_specs if s.kind.name == "USER_INPUT"]
    return [a.name for a in specs if type(a).__name__ == "TensorArgument"]


def outputs(torch: Any, program: Any) -> list[Keys]:
    """The tensors that a program returns. Raises ConversionError for what else it returns."""
    pytree = torch.utils._pytree
    specs = [s.arg for s in program.graph_signature.output_specs if s.kind.name == "USER_OUTPUT"]
    tree = pytree.tree_unflatten(specs, program.call_spec.out_spec)
    found = []
    for path, spec in pytree.tree_flatten_with_path(tree)[0]:
        keys = tuple(_key(k) for k in path)
        if type(spec).__name__ != "ConstantArgument":
            found.append(keys)
        elif spec.value is not None:
            raise ConversionError(
                f"the module returns {spec.value!r} at {output_name(keys)!r}: return tensors alone"
            )
    return found


def _key(key: Any) -> str:
    return str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", ""))))


def output_name(keys: Keys) -> str:
    """A name after the place of a tensor in what a module returns."""
    return "_".join(keys if keys and not keys[0].isdigit() else ("output", *keys))


def leaf_names(torch: Any, arguments: Mapping[str, Any]) -> list[str]:
    """Names of the tensors among arguments by name, as torch.export calls them."""
    leaves = torch.utils._pytree.tree_flatten_with_path(dict(arguments))[0]
    return ["_".join(map(_key, path)) for path, x in leaves if isinstance(x, torch.Tensor)]


def chosen(names: list[str], given: Sequence[str] | None, what: str) -> list[str]:
    """The names given, or `names`. Raises ConversionError where there are not as many."""
    if given is None:
        return names
    if len(given) != len(names) or len(set(given)) != len(given):
        raise ConversionError(
            f"{what} names are {', '.join(given)}, expected one for each of {', '.join(names)}"
        )
    return list(given)


def distinct(inputs: Sequence[str], outputs: Sequence[str]) -> list[str]:
    """Output names of which none is an input's or another's."""
    taken, names = set(inputs), []
    for name in outputs:
        while name in taken:
            name = f"{name}_out"
        taken.add(name)
        names.append(name)
    return names


def rename(proto: Any, names: Mapping[str, str]) -> None:
    """Give tensors of a model other names; tensors that had these get new ones."""
    known = set(_tensors(proto.graph))
    taken, final = known | set(names.values()), dict(names)
    for name in (known & set(names.values())) - set(names):
        own = f"{name}_inner"
        while own in taken:
            own += "_"
        taken.add(own)
        final[name] = own
    _rename(proto.graph, final)


def _tensors(graph: Any) -> Iterator[str]:
    for value in (*graph.input, *graph.output, *graph.initializer):
        yield value.name
    for node in graph.node:
        yield from (*node.input, *node.output)
        for inner in _subgraphs(node):
            yield from _tensors(inner)


def _rename(graph: Any, names: Mapping[str, str]) -> None:
    for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [names.get(n, n) for n in node.input]
        node.output[:] = [names.get(n, n) for n in node.output]
        for inner in _subgraphs(node):
            _rename(inner, names)


def _subgraphs(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
