"""PTX to C: a kernel as a function that runs one thread until it waits for others.

Registers are kept as bits; each instruction takes and gives the type that its name ends with.
Approximate instructions are computed exactly, so results differ from a GPU's in the last places.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

_WIDTHS = {"pred": "u8", "b16": "u16", "b32": "u32", "f32": "u32", "b64": "u64", "f64": "u64"}
_SPECIAL = {
    "%tid.x": "t->number", "%ntid.x": "t->block->threads",
    "%ctaid.x": "t->block->number", "%nctaid.x": "grid_blocks",
}  # fmt: skip
_SPACES = ("global", "shared", "local")
_LINE = re.compile(r"(?:@(!?)%(\w+)\s+)?([a-z][\w.:]*)\s*(.*);$")
_SIGNS = {"add": "+", "sub": "-", "and": "&", "or": "|", "xor": "^", "mul": "*"}
_ORDERED = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_FUNCTIONS = {
    "ex2.approx.ftz": "flushed(exp2f(flushed({0})))", "ex2.approx": "exp2f({0})",
    "rcp.approx.ftz": "flushed(1 / flushed({0}))", "rcp.rn": "1 / {0}", "sqrt.rn": "sqrtf({0})",
    "neg": "-{0}", "not": "~{0}", "mov": "{0}", "add.rz": "toward_zero((f64){0} + (f64){1})",
    "div.rn": "{0} / {1}", "mul.rn": "{0} * {1}", "fma.rm": "down((f64){0} * (f64){1} + (f64){2})",
    "bfi": "inserted({0}, {1}, {2}, {3})", "copysign": "copysignf({1}, {0})",
    "max": "({0} > {1} ? {0} : {1})", "min": "({0} < {1} ? {0} : {1})",
    "div": "({1} ? {0} / {1} : 0)", "rem": "({1} ? {0} % {1} : 0)",
}  # fmt: skip


class UnknownPtxError(Exception):
    """Something in PTX that this module does not translate."""


def translate(name: str, ptx: str) -> str:
    """The C source of the kernel `name`, for `grid.h`; it defines `struct kernel kernel_NAME`."""
    return _Kernel(name, ptx).source()


class _Kernel:
    def __init__(self, name: str, ptx: str) -> None:
        self._name, self._waits = name, 0
        head, _, body = ptx.partition("\n{\n")
        self._params = re.findall(r"\.param \.\w+ (?:\.align \d+ )?(\w+)", head)
        self._tables = re.findall(
            r"^\.global \.align \d+ \.b8 (\w+)\[\d+\] = \{([^}]*)\};", head, re.MULTILINE
        )
        self._registers: list[str] = []
        self._local = 0
        self._body: list[str] = []
        for number, line in enumerate(body.splitlines(), head.count("\n") + 3):
            self._take(line.strip(), number)

    def source(self) -> str:
        tables = "".join(
            f"static const u8 {n}[] __attribute__((aligned(16))) = {{{v}}};\n"
            for n, v in self._tables
        )
        body = "\n".join(self._body)
        return (
            f'#include "grid.h"\n{tables}struct registers {{ {" ".join(self._registers)} }};\n'
            f"static enum state run(struct thread *t, const u64 *params) {{\n"
            f"struct registers *s = t->registers;\nswitch (t->at) {{ case 0:;\n{body}\n}}\n"
            f"return DONE;\n}}\n"
            f'const struct kernel kernel_{self._name} = {{"{self._name}", run,'
            f" sizeof(struct registers), {self._local}, {len(self._params)}}};\n"
        )

    def _take(self, line: str, number: int) -> None:
        line = line.partition("//")[0].strip()
        if not line or line in "{}" or line.startswith(".pragma"):
            return
        if line.endswith(":"):
            self._body.append(f"{line.lstrip('$')[:-1]}:;")
        elif line.startswith(".reg"):
            self._declare(line)
        elif line.startswith(".local"):
            self._local = int(line[line.index("[") + 1 : line.index("]")])
        else:
            found = _LINE.match(line)
            if found is None:
                raise UnknownPtxError(f"{self._name}, line {number}: {line}")
            self._add(found, number)

    def _declare(self, line: str) -> None:
        kind, name, count = re.match(r"\.reg \.(\w+)\s+%(\w+)(?:<(\d+)>)?;", line).groups()  # type: ignore[union-attr]
        self._registers.append(f"{_WIDTHS[kind]} {name}{f'[{count}]' if count else ''};")

    def _add(self, found: re.Match[str], number: int) -> None:
        negated, guard, name, text = found.groups()
        args = [a.strip() for a in re.findall(r"\{[^}]*\}|\[[^\]]*\]|[^,\s][^,]*", text)]
        try:
            code = self._instruction(name.split("."), args, number)
        except (KeyError, IndexError, ValueError) as error:
            raise UnknownPtxError(f"{self._name}, line {number}: {found[0]}: {error}") from None
        if guard:
            condition = self._bits(f"%{guard}")
            code = f"if ({'!' * len(negated)}{condition}) {{ {code} }}"
        self._body.append(code)

    # Operands

    def _bits(self, operand: str) -> str:
        """An operand as unsigned bits."""
        if operand in _SPECIAL:
            return _SPECIAL[operand]
        register = re.fullmatch(r"%([a-zA-Z]+)(\d*)", operand)
        if register:
            return f"s->{register[1]}[{register[2]}]" if register[2] else f"s->{register[1]}"
        if operand[:2].lower() in ("0f", "0d"):
            return f"0x{operand[2:]}ull"
        if operand == "lr_shared":
            return "0ull"
        if operand.startswith("__local_depot"):
            return "(u64)t->local"
        if re.fullmatch(r"-?\d+", operand):
            return f"(u64){operand}ll" if operand != str(-(2**63)) else "(1ull << 63)"
        if any(operand == table for table, _ in self._tables):
            return f"(u64){operand}"
        raise ValueError(f"operand {operand}")

    def _value(self, operand: str, kind: str) -> str:
        """An operand as a C value of a PTX type."""
        bits = self._bits(operand)
        if kind in ("f32", "f64"):
            return f"to_{kind}({bits})"
        if kind == "f16":
            return f"from_f16({bits})"
        return f"(({'u8' if kind == 'pred' else kind.replace('b', 'u')}){bits})"

    def _store(self, operand: str, kind: str, value: str) -> str:
        bits = f"bits_{kind}({value})" if kind in ("f32", "f64") else f"({self._c(kind)})({value})"
        return f"{self._bits(operand)} = {bits};"

    @staticmethod
    def _c(kind: str) -> str:
        return "u8" if kind == "pred" else kind.replace("b", "u")

    def _wait(self, state: str) -> str:
        self._waits += 1
        return f"t->at = {self._waits}; return {state}; case {self._waits}:;"

    # Instructions

    def _instruction(self, words: Sequence[str], args: Sequence[str], line: int) -> str:
        op, *more = words
        if op in ("ret", "trap"):
            return "return DONE;" if op == "ret" else f'fail(t, {line}, "a trap");'
        special: dict[str, Callable[[list[str], Sequence[str], int], str]] = {
            "ld": self._load, "st": self._write, "setp": self._compare, "cvt": self._convert,
            "cvta": self._same, "red": self._atomic, "atom": self._atomic, "cp": self._copy,
            "shfl": self._shuffle, "mad": self._multiply_add, "madc": self._multiply_add,
        }  # fmt: skip
        if op in special:
            return special[op](more, args, line)
        if op == "bra":
            return f"goto {args[0].lstrip('$')};"
        if op == "bar":
            return self._wait("AT_BARRIER")
        kind = more[-1]
        if op == "selp":
            a, b = (self._value(x, kind) for x in args[1:3])
            return self._store(args[0], kind, f"{self._bits(args[3])} ? {a} : {b}")
        if op in ("shl", "shr"):
            return self._shift(op, kind, args)
        values = [self._value(a, kind) for a in args[1:]]
        if op == "mul" and "wide" in more:
            wide = kind[0] + "64"
            return self._store(args[0], wide, f"({wide}){values[0]} * ({wide}){values[1]}")
        if op == "abs":
            return self._store(args[0], kind, f"fabsf({values[0]})")
        if op == "fma" and "rn" in more:
            return self._store(args[0], kind, "fmaf({}, {}, {})".format(*values))
        if op == "not" and kind == "pred":
            return self._store(args[0], kind, f"!{values[0]}")
        name = ".".join([op, *(w for w in more[:-1] if w != "lo")])
        if name in _FUNCTIONS:
            return self._store(args[0], kind, _FUNCTIONS[name].format(*values))
        return self._store(args[0], kind, f"{values[0]} {_SIGNS[name]} {values[1]}")

    def _shift(self, op: str, kind: str, args: Sequence[str]) -> str:
        width = int(kind[1:])
        value, count = self._value(args[1], kind), f"(u32){self._bits(args[2])}"
        if op == "shl":
            return self._store(args[0], kind, f"{count} < {width} ? {value} << ({count}) : 0")
        last = f"({value} >> {width - 1})" if kind[0] == "s" else "0"
        return self._store(args[0], kind, f"{count} < {width} ? {value} >> ({count}) : {last}")

    def _address(self, operand: str) -> str:
        base, sign, offset = re.fullmatch(r"\[([%\w]+)\s*([+-]?)(-?\d*)\]", operand).groups()  # type: ignore[union-attr]
        return f"{self._bits(base)} {sign or '+'} {offset or 0}"

    def _memory(self, more: Sequence[str]) -> tuple[str, str, int, bool]:
        """Space, type, elements of a vector, and whether it is read past the nearest cache."""
        known = {"cg", "nc", "gpu", "relaxed", "acquire", "release", "v2", "v4", *_SPACES}
        unknown = set(more[:-1]) - known
        if unknown:
            raise ValueError(f"unknown {', '.join(unknown)}")
        space = next((w for w in more if w in _SPACES), "global")
        count = next((int(w[1]) for w in more if w in ("v2", "v4")), 1)
        kind = "u" + more[-1][1:] if more[-1][0] in "fb" else more[-1]
        return space, kind, count, bool({"cg", "relaxed", "acquire"} & set(more))

    def _load(self, more: list[str], args: Sequence[str], line: int) -> str:
        if more[0] == "param":
            return f"{self._bits(args[0])} = params[{self._params.index(args[1].strip('[]'))}];"
        space, kind, count, fresh = self._memory(more)
        targets, table = args[0].strip("{}").split(","), bool(self._tables) and "nc" in more
        code, size = "", int(kind[1:]) // 8
        for k in range(len(targets)):
            checked = 0 if k or table else size * count
            place = f"{self._address(args[1])} + {k * size}"
            call = f"load_{space}_{kind}(t, {place}, {int(fresh)}, {checked}, {line})"
            code += f"{{ {kind} x{k} = {call}; "
        code += " ".join(f"{self._bits(v.strip())} = x{k};" for k, v in enumerate(targets))
        code += " }" * count
        return code + (self._wait("SPINS") if {"relaxed", "acquire"} & set(more) else "")

    def _write(self, more: list[str], args: Sequence[str], line: int) -> str:
        space, kind, count, _ = self._memory(more)
        code, size = "", int(kind[1:]) // 8
        for k, value in enumerate(args[1].strip("{}").split(",")):
            place = f"{self._address(args[0])} + {k * size}"
            checked = 0 if k else size * count
            bits = self._bits(value.strip())
            code += f"store_{space}_{kind}(t, {place}, {bits}, {checked}, {line}); "
        return code

    def _compare(self, more: list[str], args: Sequence[str], line: int) -> str:
        how, kind = more[0], more[-1]
        a, b = (self._value(x, kind) for x in args[1:3])
        unordered = f"({a} != {a} || {b} != {b})"
        if how == "nan":
            test = unordered
        elif how == "num":
            test = f"!{unordered}"
        elif how.endswith("u") and kind[0] == "f":
            test = f"{unordered} || {a} {_ORDERED[how[:-1]]} {b}"
        else:
            test = f"{a} {_ORDERED[how]} {b}"
            if kind[0] == "f" and how == "ne":
                test = f"!{unordered} && {test}"
        return self._store(args[0], "pred", test)

    def _convert(self, more: list[str], args: Sequence[str], line: int) -> str:
        *how, to, source = more
        value = self._value(args[1], source)
        rounding = {"rni": "rint", "rpi": "ceil", "rmi": "floor", "rzi": "trunc"}
        for word in how:
            if word in rounding:
                value = f"{rounding[word]}({value})"
            elif word == "sat":
                value = f"saturated({value})"
            elif word != "rn":
                raise ValueError(word)
        if to[0] in "su" and source[0] == "f":
            value = f"whole_{to}({value})"
        if to[0] in "su" and source[0] in "su":  # a register may be wider than the type
            return f"{self._bits(args[0])} = ({to}){value};"
        return self._store(args[0], to, value)

    def _same(self, more: list[str], args: Sequence[str], line: int) -> str:
        return f"{self._bits(args[0])} = {self._bits(args[1])};"

    def _atomic(self, more: list[str], args: Sequence[str], line: int) -> str:
        place, value = args[-2], self._bits(args[-1])
        if more[-2:] != ["add", "u64"]:
            raise ValueError(".".join(more))
        old = f"u64 was = load_global_u64(t, {self._address(place)}, 1, 8, {line});"
        new = f"store_global_u64(t, {self._address(place)}, was + {value}, 8, {line});"
        given = f"{self._bits(args[0])} = was;" if len(args) == 3 else ""
        return f"{{ {old} {new} {given} }}"

    def _copy(self, more: list[str], args: Sequence[str], line: int) -> str:
        if more == ["async", "wait_all"]:
            return "fetched(t);"
        if args[2] != "4":
            raise ValueError(args[2])
        return f"fetch(t, {self._address(args[0])}, {self._address(args[1])}, {line});"

    def _shuffle(self, more: list[str], args: Sequence[str], line: int) -> str:
        if more != ["sync", "bfly", "b32"] or args[3:] != ["31", "-1"]:
            raise ValueError(".".join(more))
        give = f"t->given = {self._bits(args[1])}; t->bit = {self._bits(args[2])};"
        return f"{give} {self._wait('AT_SHUFFLE')} {self._bits(args[0])} = t->got;"

    def _multiply_add(self, more: list[str], args: Sequence[str], line: int) -> str:
        a, b, c = (f"(u64)(u32){self._bits(x)}" for x in args[1:])
        if more == ["lo", "cc", "u32"]:
            total = f"(u64)(u32)({a} * {b}) + {c}"
            return f"{{ u64 x = {total}; {self._bits(args[0])} = x; t->carry = x >> 32; }}"
        if more == ["hi", "u32"]:
            return f"{self._bits(args[0])} = ({a} * {b} >> 32) + {c} + t->carry;"
        raise ValueError(".".join(more))
