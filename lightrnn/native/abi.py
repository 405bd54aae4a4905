"""The contract between plans and kernels: every kernel's arguments, in order.

A kernel's symbol has the C type `void kernel(const int64_t *args, int64_t ith, int64_t nth)`:
thread `ith` of `nth` does its share. Each argument is one int64, read by an entry that
`native.build` generates from the signatures below and that passes them, with `ith` and `nth`, to
the Python function of the same name in `lightrnn.kernels`. A name with a type after a colon is:

    f32 f64 i64 i32 u16 u8   a pointer to such elements (0 for null)
    float                    a float64, by its bits
    tail                     a pointer to the arguments from here on, as many int64 as needed
    status                   a pointer to the run's two status words; the engine fills it in
    sync                     a pointer to the run's barrier words; the engine fills it in
    node                     the number of the graph's node; the engine fills it in
    table                    a pointer to the run's program (`kernels.run`); the engine fills it in

and without one an integer. A kernel that meets a bad value stores BAD_INDEX in status[0], the
`node` it was given in status[1], and carries on with a safe value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property

from lightrnn.record import Record

ABI = 7
"""Raised whenever an argument list or the program layout changes."""

LANES = 16
"""float32 lanes of a vector, and columns of a packed panel."""

ALIGNMENT = 64
RUN = 128
"""Products of a sum before it is rounded into the total, and of int16 before they are scaled."""
BYTES_RUN = 1024
"""Products of int8 weights before they are scaled."""


RAISED = 16256
"""What is added to activations, none of which is below 0 then, for `kernels.pairing`."""


def byte_runs(k: int) -> int:
    """Sums of which one of k products of int8 weights is made."""
    return (k + BYTES_RUN - 1) // BYTES_RUN


def room_words(k: int) -> int:
    """Words (int32) that a row of k floats takes as integers, as `gemm.quantize` writes it."""
    return 2 * ((k + 3) // 4) + 1 + byte_runs(k)


def panel_rows(k: int) -> int:
    """Rows from a packed panel of [k, 16] floats to the next, those between them unused.

    Panels must not lie a multiple of 4 KiB apart: lines that do share the few places of a cache.
    """
    return k + 4 if k % 64 == 0 else k


def tile_rows(k: int) -> int:
    """k rows of int8 weights filled up to whole tiles of the matrix unit."""
    return (k + 63) // 64 * 64


def tile_words(k: int) -> int:
    """`room_words` of a row for the matrix unit: whole cache lines, an odd number of them."""
    return (room_words(tile_rows(k)) + 15) // 16 * 16


def pair_lines(k: int) -> int:
    """Lines of a packed panel of k rows of bfloat16, two in a line, filled up to whole tiles."""
    return (k + 31) // 32 * 16


def pair_words(k: int) -> int:
    """Words (int32) that a row of k floats takes as bfloat16: an odd number of cache lines."""
    return pair_lines(k) | 16


AHEAD = 8
"""Steps whose inputs a recurrent kernel projects at a time, while it reads R for those before."""


def steps_before(steps: int) -> int:
    """How many of at least 2 * AHEAD steps must be projected before: some, and blocks of AHEAD."""
    return AHEAD + steps % AHEAD


BAD_INDEX = 1

SYNC_WORDS = 16
"""Barrier words (int64) of a run, and of each of the branches that it runs side by side."""

FEW_QUERIES, MOST_QUERIES, KEYS = 8, 32, 64
"""Attention: queries from which on each takes a lane, the most of a block, and keys of a block."""

ALONE = "execute_alone"
"""Symbol of the executor as `int64_t execute_alone(const int64_t *args)`, for one thread.

args: its arguments and the address of the status, whose first word is returned.
"""
STATUS = 4
"""Place of the status among them."""
METHOD, PYTHON = "execute_method", "use_python"
"""Symbols of the executor as a Python method without arguments, `PyObject *execute_method(PyObject
*args, PyObject *)` with the address of execute_alone's args as an int, and of `void use_python(void
*PyLong_AsVoidPtr, void *PyLong_FromLong)`, which it needs.
"""

LEVELS = ("v3", "v4", "v4vnni", "v4bf16", "v4amx")
"""Levels of CPUs, best last: x86-64-v3, -v4, then with AVX512-VNNI, AVX512-BF16, AMX too."""

CODE = {"v4bf16": "v4vnni", "v4amx": "v4vnni"}
"""Levels that run another's code: plans ask it for what the level has more."""

BUILT = tuple(level for level in LEVELS if level not in CODE)
"""Levels that kernels are compiled for."""

MODULES = {"v4vnni": ("gemm", "projection", "recurrent")}
"""Modules whose kernels gain from a level that does not have them all."""

POINTERS = ("f32", "f64", "i64", "i32", "u16", "u8")
FILLED_IN = ("status", "sync", "node", "table")
"""Kinds of parameters that the engine fills in; lowering does not pass them."""
KINDS = (*POINTERS, *FILLED_IN, "int", "float", "tail")

ACTIVATIONS = (
    "Sigmoid", "Tanh", "Relu", "Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh",
    "HardSigmoid", "Elu", "Softsign", "Softplus",
)  # fmt: skip
"""Activations of recurrent operators; a kernel gets one by its place here."""


UNARY = (
    "Abs", "Neg", "Sqrt", "Reciprocal", "Floor", "Ceil", "Round", "Sign", "Square", "Cube", "Relu",
    "Exp", "Log", "Sin", "Cos", "Erf", "Tanh", "Sigmoid", "Softplus", "Mish",
    "LeakyRelu", "Elu", "Selu", "Celu", "HardSigmoid", "HardSwish", "Softsign", "ThresholdedRelu",
    "Gelu", "GeluTanh", "Swish", "Clip",
)  # fmt: skip
BINARY = ("Add", "Sub", "Mul", "Div", "Min", "Max", "PRelu")
COMPARISONS = ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual")
LOGIC = ("And", "Or", "Xor")
WEIGHTS = ("float32", "float16", "bfloat16", "int8", "int16")
"""How packed weights are stored; a kernel that multiplies by them gets one by its place here."""
BYTES = len(WEIGHTS)
"""Stored as int8, and what they multiply has 8 bits too."""
GATES = BYTES + 1
"""Recurrent weights of gates stored as int8, but the last one's, of candidates, as int16."""
PAIRS = GATES + 1
"""bfloat16, two rows in a line; what they multiply is rounded to bfloat16. Needs AVX512-BF16."""
MATRIX_PAIRS, MATRIX_INT8, MATRIX_BYTES = range(PAIRS + 1, PAIRS + 4)
"""PAIRS, int8 and BYTES multiplied by the matrix unit, int8 in whole tiles. Needs AMX."""
REDUCTIONS = (
    "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSumSquare",
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp",
)  # fmt: skip
ELEMENTS = ("float32", "int64", "int32", "bool", "float64")
"""Functions and element types that kernels get by their places here."""


class Parameter(Record):
    name: str
    kind: str


class Signature(Record):
    """A kernel: the module of `lightrnn.kernels` that holds it, its name, its parameters."""

    module: str
    name: str
    parameters: tuple[Parameter, ...]

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """The kind of each parameter."""
        return tuple(p.kind for p in self.parameters)

    @cached_property
    def status(self) -> tuple[int, ...]:
        """Places of parameters of the kind status."""
        return tuple(k for k, kind in enumerate(self.kinds) if kind == "status")

    @cached_property
    def sync(self) -> tuple[int, ...]:
        """Places of parameters of the kind sync."""
        return tuple(k for k, kind in enumerate(self.kinds) if kind == "sync")

    @cached_property
    def table(self) -> tuple[int, ...]:
        """Places of parameters of the kind table."""
        return tuple(k for k, kind in enumerate(self.kinds) if kind == "table")

    @property
    def entry(self) -> str:
        """Python source of the function that reads `args` and calls the kernel."""
        terms = []
        for k, p in enumerate(self.parameters):
            if p.kind in ("int", "node"):
                terms.append(f"args[{k}]")
            elif p.kind == "float":
                terms.append(f"as_float(args[{k}])")
            elif p.kind == "tail":
                terms.append(f"at(args, {k})")
            else:
                pointer = "i64" if p.kind in ("status", "sync", "table") else p.kind
                terms.append(f"{pointer}(args[{k}])")
        call = ", ".join([*terms, "ith", "nth"])
        return f"def entry_{self.name}(args, ith, nth):\n    {self.name}({call})\n"


class _Kernels(Mapping[str, Signature]):
    """Signatures by name, each read from its line when it is first asked for."""

    def __init__(self, modules: dict[str, dict[str, str]]) -> None:
        self._modules = {name: module for module, kernels in modules.items() for name in kernels}
        self._specs = {name: s for kernels in modules.values() for name, s in kernels.items()}
        self._known: dict[str, Signature] = {}
        assert len(self._specs) == sum(map(len, modules.values())), "two kernels of one name"

    def module(self, name: str) -> str:
        """The module of a kernel."""
        return self._modules[name]

    def __getitem__(self, name: str) -> Signature:
        if name not in self._known:
            pairs = [word.partition(":") for word in self._specs[name].split()]
            parameters = tuple(Parameter(n, kind or "int") for n, _, kind in pairs)
            assert all(p.kind in KINDS for p in parameters), name
            assert all(p.kind != "tail" for p in parameters[:-1]), name
            self._known[name] = Signature(self._modules[name], name, parameters)
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)


KERNELS = _Kernels(
    {
        "gemm": {
            "gemm": "a:f32 b:f32 init:f32 c:f32 batch m n k lda ldi ldc"
            " a_step b_step init_step c_step kind room:f32",
        },
        "packing": {
            "pack_panels": "b:f32 panels:f32 batch k n row_stride column_stride b_step",
        },
        "matvec": {
            "matvec": "a:f32 x:f32 init:f32 c:f32 batch rows k lda ldi a_step x_step",
            "vecmat": "a:f32 b:f32 c:f32 batch k n a_step b_step",
        },
        "run": {
            "execute": "table:i64 sync:i64 first last",
            "side_by_side": "table:table sync:sync branches ranges:tail",
            "team_run": "team:i64 args:i64 workers patience",
            "team_work": "team:i64",
            "team_stop": "team:i64",
            "current_core": "core:i64",
        },
        "projection": {
            "project": "kind x:f32 w:f32 bias:f32 xw:f32 room:f32 steps batch inputs hidden size"
            " gates directions x_step x_row x_direction xw_step xw_direction",
        },
        "recurrent": {
            "lstm": "kind xw:f32 r:f32 p:f32 projection:f32 lengths:i32 h0:f32 c0:f32"
            " y:f32 y_h:f32 y_c:f32 h:f32 c:f32 full:f32 room:f32 x:f32 x_room:f32 w:f32 bias:f32"
            " sync:sync status:status node:node"
            " steps start total xw_step inputs batch hidden size directions reverse coupled"
            " clip:float y_step y_row y_direction h_row h_direction c_row c_direction"
            " activations:tail",
            "gru": "kind xw:f32 r:f32 rb:f32 lengths:i32 h0:f32 y:f32 y_h:f32 h:f32 full:f32"
            " room:f32 x:f32 x_room:f32 w:f32 bias:f32 sync:sync status:status node:node"
            " steps start total xw_step inputs batch hidden directions reverse after clip:float"
            " y_step y_row y_direction h_row h_direction activations:tail",
            "rnn": "kind xw:f32 r:f32 lengths:i32 h0:f32 y:f32 y_h:f32 h:f32 room:f32"
            " x:f32 x_room:f32 w:f32 bias:f32 sync:sync status:status node:node"
            " steps start total xw_step inputs batch hidden directions reverse clip:float"
            " y_step y_row y_direction h_row h_direction activations:tail",
        },
        "elementwise": {
            "unary": "x:f32 y:f32 count code alpha:float beta:float",
            "binary": "a:f32 b:f32 y:f32 code rank shape:tail",
            "compare": "a:u8 b:u8 y:u8 code kind rank shape:tail",
            "whole_numbers": "a:u8 b:u8 y:u8 code kind rank shape:tail",
            "logic": "a:u8 b:u8 y:u8 code rank shape:tail",
            "logical_not": "x:u8 y:u8 count",
            "where": "condition:u8 a:u8 b:u8 y:u8 item rank shape:tail",
            "cast": "x:u8 y:u8 count source target",
        },
        "reduce": {
            "reduce": "x:f32 y:f32 outer n inner code",
            "reduce_whole": "x:u8 y:u8 outer n inner code kind",
            "arg_reduce": "x:f32 y:i64 outer n inner largest last_index",
            "softmax": "x:f32 y:f32 outer n inner logarithm",
            "layer_norm": "x:f32 scale:f32 bias:f32 y:f32 mean:f32 inverse:f32 outer n"
            " centred epsilon:float",
        },
        "attention": {
            "attention": "q:f32 k:f32 v:f32 mask:f32 lengths:i64 y:f32 scratch:f32 parts room"
            " batch heads group steps size v_size keys_end offset causal left right"
            " scale:float softcap:float replace least:float"
            " q_batch q_head q_row k_batch k_head k_row v_batch v_head v_row"
            " y_batch y_head y_row mask_batch mask_head mask_row",
        },
        "scores": {
            "additive_scores": "a:f32 b:f32 v:f32 y:f32 size start:float rank shape:tail",
            "row_dots": "a:f32 b:f32 y:f32 size rank shape:tail",
        },
        "crf": {
            "viterbi": "x:f32 transitions:f32 start:f32 end:f32 lengths:i32 tags:i64 score:f32"
            " back:f32 alphas:f32 status:status node:node batch steps labels",
        },
        "rotary": {
            "rotate": "x:f32 cos:f32 sin:f32 positions:i64 y:f32 status:status node:node"
            " rows steps heads size half limit interleaved batch_step row_step head_step",
        },
        "copy": {
            "copy_strided": "source:u8 target:u8 source_start target_start run item rank"
            " shape:tail",
            "fill": "target:u8 count pattern",
        },
        "gather": {
            "gather_rows": "data:u8 indices:u8 target:u8 status:status node:node"
            " outer axis count row_bytes wide",
            "gather_elements": "data:u8 indices:u8 target:u8 status:status node:node"
            " outer axis count inner item wide",
            "gather_tuples": "data:u8 indices:u8 target:u8 status:status node:node"
            " batch count depth row_bytes batch_bytes wide sizes:tail",
            "one_hot": "indices:u8 values:u8 target:u8 outer depth inner item wide",
            "reverse_sequences": "data:u8 lengths:i64 target:u8 status:status node:node"
            " steps batch time_step batch_step row_bytes",
        },
    }
)
"""Every kernel by name."""


def kernels_of(level: str) -> tuple[str, ...]:
    """Names of the kernels that are compiled for a level; it borrows the others from v4."""
    modules = MODULES.get(CODE.get(level, level))
    if modules is None:
        return (*KERNELS, ALONE, METHOD, PYTHON)
    return tuple(name for name in KERNELS if KERNELS.module(name) in modules)
