"""Compile the kernels with Numba, ahead of time, into one shared library.

The only module of the runtime that imports Numba, with `lightrnn.kernels`; it runs when a wheel is
built and for `lightrnn build-kernels`, never while a model is loaded or run. Needs a linker
(`ld`, `ld.lld`, `cc`, `gcc` or `clang`), no C compiler.
"""

from __future__ import annotations

import importlib
import inspect
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lightrnn.errors import NativeError
from lightrnn.native import abi
from lightrnn.native.sources import checksum, source_hash

# LLVM features of the x86-64 levels, as their psABI document defines them.
_V3 = (
    "+sse,+sse2,+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+cx16,+sahf,"
    "+avx,+avx2,+bmi,+bmi2,+f16c,+fma,+lzcnt,+movbe,+xsave,+cx8,+fxsr,+mmx"
)
_V4 = _V3 + ",+avx512f,+avx512bw,+avx512cd,+avx512dq,+avx512vl"
FEATURES = {
    "v3": ("x86-64-v3", _V3),
    "v4": ("x86-64-v4", _V4),
    "v4vnni": ("x86-64-v4", _V4 + ",+avx512vnni"),
}
LINKERS = ("ld", "ld.lld", "cc", "gcc", "clang")


def build(destination: str | Path) -> Path:
    """Compile every kernel for each level, link, and put the sealed library at `destination`.

    The library appears under its name only when it is complete. Raises NativeError.
    """
    linker, destination = find_linker(), Path(destination)
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=".building-") as folder:
        objects = [Path(folder) / f"{level}.o" for level in abi.BUILT]
        with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
            list(pool.map(_compile_in_process, abi.BUILT, objects))
        library = Path(folder) / destination.name
        link(linker, objects, library)
        library.write_bytes(library.read_bytes() + checksum(library.read_bytes()))
        os.replace(library, destination)
    return destination


def find_linker() -> str:
    """The path of a linker. Raises NativeError where there is none."""
    for name in LINKERS:
        if path := shutil.which(name):
            return path
    raise NativeError(f"no linker found: install one of {', '.join(LINKERS)}")


def link(linker: str, objects: list[Path], library: Path) -> None:
    """Link objects into a shared library that depends on nothing."""
    options = ["-shared", "--gc-sections", "-z", "noexecstack", "--build-id=none", "-s"]
    if Path(linker).name in ("cc", "gcc", "clang"):
        options = ["-shared", "-nostdlib", "-Wl,--gc-sections,-z,noexecstack,--build-id=none,-s"]
    command = [linker, *options, "-o", str(library), *map(str, objects)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NativeError(f"linking failed: {done.stderr.strip() or done.stdout.strip()}")


def _compile_in_process(level: str, target: Path) -> None:
    """Compile one level in a process of its own: Numba fixes its target at import."""
    cpu, features = FEATURES[level]
    root = str(Path(__file__).resolve().parents[2])
    environment = {
        **os.environ,
        "LIGHTRNN_TARGET": level,
        "NUMBA_CPU_NAME": cpu,
        "NUMBA_CPU_FEATURES": features,
        "PYTHONPATH": os.pathsep.join([root, *sys.path]),
    }
    for name in ("NUMBA_DISABLE_JIT", "NUMBA_BOUNDSCHECK", "NUMBA_OPT", "NUMBA_DEBUGINFO"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "lightrnn.native.build", level, str(target)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise NativeError(f"compiling the kernels for {level} failed:\n{done.stderr.strip()}")


def compile_level(level: str) -> bytes:
    """The object code of all kernels for one level; this process must target it already."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()
    module = llvm.parse_assembly("")
    exported: list[str] = []
    for signature in abi.KERNELS.values():
        if signature.name not in abi.kernels_of(level):
            continue
        symbol = f"lr_{level}_{signature.name}"
        module.link_in(_kernel_module(signature, symbol))
        exported.append(symbol)
    from lightrnn.kernels.intrinsic import OUTLINED

    for symbol, (function, kind) in OUTLINED.items():
        module.link_in(_numba_module(function, kind, symbol))
    if abi.ALONE in abi.kernels_of(level):
        module.link_in(llvm.parse_assembly(_alone(level)))
        exported += [f"lr_{level}_{name}" for name in (abi.ALONE, abi.METHOD, abi.PYTHON)]
    if level == abi.LEVELS[0]:
        module.link_in(llvm.parse_assembly(_identity()))
        module.link_in(llvm.parse_assembly(_cpu()))
        exported += ["lr_abi", "lr_hash", "lr_level", "lr_use_tiles"]
    return _emit(module, level, exported)


def load_entry(signature: abi.Signature) -> Any:
    """The entry of a kernel as a Python function, its arguments checked against the ABI."""
    from lightrnn.kernels import simd

    module = importlib.import_module(f"lightrnn.kernels.{signature.module}")
    function = getattr(module, signature.name)
    wanted = [p.name for p in signature.parameters] + ["ith", "nth"]
    found = list(inspect.signature(function).parameters)
    if found != wanted:
        raise NativeError(f"kernel {signature.name}: parameters {found}, the ABI says {wanted}")
    scope = {signature.name: function, "at": simd.at, "as_float": simd.as_float}
    scope.update({kind: getattr(simd, kind) for kind in abi.POINTERS})
    exec(compile(signature.entry, f"<entry of {signature.name}>", "exec"), scope)
    return scope[f"entry_{signature.name}"]


def _kernel_module(signature: abi.Signature, symbol: str) -> Any:
    """LLVM module of one kernel, exported under `symbol`."""
    from numba import types
    from numba.extending import register_jitable

    entry = load_entry(signature)
    entry.__globals__[signature.name] = register_jitable(entry.__globals__[signature.name])
    kind = types.void(types.CPointer(types.int64), types.int64, types.int64)
    return _numba_module(entry, kind, symbol, whole=signature.module == "recurrent")


def _numba_module(function: Any, kind: Any, symbol: str, *, whole: bool = False) -> Any:
    """LLVM module of a Python function compiled by Numba, callable as `symbol`.

    whole: whether all that it calls becomes part of it, not only what LLVM finds worth that.
    """
    import llvmlite.binding as llvm
    from numba import cfunc

    from lightrnn.kernels.intrinsic import OUTLINED

    for name in OUTLINED:  # Numba links what it compiles at once; this is never called
        llvm.add_symbol(name, 1)
    compiled = cfunc(kind, error_model="numpy")(function)
    module = llvm.parse_assembly(compiled._library.get_llvm_str())
    inner = [
        f
        for f in module.functions
        if not f.is_declaration and function.__name__ in f.name and f.name.startswith("_Z")
    ]
    if len(inner) != 1:
        raise NativeError(f"{symbol}: found {[f.name for f in inner]} in its LLVM module")
    for f in module.functions if whole else inner:  # calls with many arguments copy them all
        if not f.is_declaration and f.name.startswith("_Z"):
            f.add_function_attribute("alwaysinline")
    module.link_in(llvm.parse_assembly(_shim(symbol, inner[0], _llvm_name(kind.return_type))))
    # Numba's modules share names of helpers with one meaning each; keep them apart all the same.
    for value in (*module.functions, *module.global_variables):
        if not value.is_declaration and value.name != symbol:
            value.linkage = "internal"
    return module


def _shim(symbol: str, inner: Any, result: str) -> str:
    """LLVM function with the plain signature of what Numba compiled.

    inner: Numba's function; its first two parameters are places for the result and for an error.
    """
    kinds = [str(a.type) for a in inner.arguments]
    given = ", ".join(f"{kind} %a{k}" for k, kind in enumerate(kinds[2:]))
    passed = ", ".join(["ptr %result", "ptr %error", *([given] if given else [])])
    end = "ret void" if result == "void" else f"%v = load {result}, ptr %result\n  ret {result} %v"
    return f"""
declare i32 @"{inner.name}"({", ".join(kinds)})
define {result} @{symbol}({given}) {{
  %result = alloca {"ptr" if result == "void" else result}
  %error = alloca ptr
  %status = call i32 @"{inner.name}"({passed})
  {end}
}}
"""


def _llvm_name(kind: Any) -> str:
    """The LLVM type of a result: void, or a vector."""
    return str(getattr(kind, "value", "void"))


def _alone(level: str) -> str:
    """The executor for one thread, as abi.ALONE and abi.METHOD describe it."""
    name = f"lr_{level}"
    return f"""
@{name}_as_pointer = internal global ptr null
@{name}_from_long = internal global ptr null
declare void @{name}_execute(ptr, i64, i64)
define i64 @{name}_{abi.ALONE}(ptr %args) {{
  call void @{name}_execute(ptr %args, i64 0, i64 1)
  %place = getelementptr i64, ptr %args, i64 {abi.STATUS}
  %status = load ptr, ptr %place
  %found = load i64, ptr %status
  ret i64 %found
}}
define ptr @{name}_{abi.METHOD}(ptr %self, ptr %none) {{
  %as_pointer = load ptr, ptr @{name}_as_pointer
  %args = call ptr %as_pointer(ptr %self)
  %found = call i64 @{name}_{abi.ALONE}(ptr %args)
  %from_long = load ptr, ptr @{name}_from_long
  %result = call ptr %from_long(i64 %found)
  ret ptr %result
}}
define void @{name}_{abi.PYTHON}(ptr %as_pointer, ptr %from_long) {{
  store ptr %as_pointer, ptr @{name}_as_pointer
  store ptr %from_long, ptr @{name}_from_long
  ret void
}}
"""


def _identity() -> str:
    """LLVM functions that say what the library is."""
    text = source_hash()
    data = "".join(f"\\{byte:02x}" for byte in text.encode())
    return f"""
@lr_hash_text = private constant [{len(text) + 1} x i8] c"{data}\\00"
define ptr @lr_hash() {{
  ret ptr @lr_hash_text
}}
define i64 @lr_abi() {{
  ret i64 {abi.ABI}
}}
"""


_NEEDS = (
    (("xcr", 0x6), ("b7", 1 << 3 | 1 << 5 | 1 << 8), ("ce", 1 << 5)),  # bmi1 avx2 bmi2, lzcnt
    (("xcr", 0xE6), ("b7", 1 << 16 | 1 << 17 | 1 << 28 | 1 << 30 | 1 << 31)),  # f dq cd bw vl
    (("c7", 1 << 11),),  # avx512_vnni
    (("a71", 1 << 5),),  # avx512_bf16
    (("xcr", 3 << 17), ("d7", 1 << 22 | 1 << 24 | 1 << 25)),  # amx_bf16 amx_tile amx_int8
)
"""Bits of words that cpuid and xgetbv give, by level; each needs those of the levels before too."""


def _cpu() -> str:
    """LLVM functions that say what this CPU can run.

    lr_level: how many of abi.LEVELS, by the CPU's features and the registers that the operating
    system saves. lr_use_tiles: ask Linux to let this process use the matrix unit's
    (Documentation/arch/x86/xstate.rst); 0 where it may.
    """
    words = "{i32,i32,i32,i32}"
    cpuid = (
        f'{words} asm sideeffect "cpuid", '
        '"={eax},={ebx},={ecx},={edx},{eax},{ecx},~{dirflag},~{fpsr},~{flags}"'
    )
    leaf1 = 1 << 12 | 1 << 22 | 1 << 27 | 1 << 28 | 1 << 29  # fma movbe osxsave avx f16c
    lines = []
    able, levels = "true", "0"
    for level, needs in enumerate(_NEEDS):
        for k, (word, bits) in enumerate(needs):
            name = f"{level}_{k}"
            lines += [
                f"%m{name} = and i32 %{word}, {bits}",
                f"%h{name} = icmp eq i32 %m{name}, {bits}",
                f"%a{name} = and i1 {able}, %h{name}",
            ]
            able = f"%a{name}"
        lines += [
            f"%z{level} = zext i1 {able} to i64",
            f"%n{level} = add i64 {levels}, %z{level}",
        ]
        levels = f"%n{level}"
    checks = "\n  ".join(lines)
    permit, tile_data = 0x1023, 18  # ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    return f"""
define i64 @lr_level() {{
  %l1 = call {cpuid}(i32 1, i32 0)
  %c1 = extractvalue {words} %l1, 2
  %m1 = and i32 %c1, {leaf1}
  %ok1 = icmp eq i32 %m1, {leaf1}
  br i1 %ok1, label %saved, label %none
saved:
  %x = call {{i32,i32}} asm sideeffect "xgetbv", "={{eax}},={{edx}},{{ecx}}"(i32 0)
  %xcr = extractvalue {{i32,i32}} %x, 0
  %l7 = call {cpuid}(i32 7, i32 0)
  %b7 = extractvalue {words} %l7, 1
  %c7 = extractvalue {words} %l7, 2
  %d7 = extractvalue {words} %l7, 3
  %l71 = call {cpuid}(i32 7, i32 1)
  %a71 = extractvalue {words} %l71, 0
  %le = call {cpuid}(i32 -2147483647, i32 0)
  %ce = extractvalue {words} %le, 2
  {checks}
  ret i64 {levels}
none:
  ret i64 0
}}
define i64 @lr_use_tiles() {{
  %found = call i64 asm sideeffect "syscall",
    "={{rax}},{{rax}},{{rdi}},{{rsi}},~{{rcx}},~{{r11}},~{{memory}}"(
    i64 158, i64 {permit}, i64 {tile_data})
  ret i64 %found
}}
"""


def _emit(module: Any, level: str, exported: list[str]) -> bytes:
    import llvmlite.binding as llvm

    cpu, features = FEATURES[level]
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=cpu, features=features, opt=3, reloc="pic", codemodel="default"
    )
    for value in (*module.functions, *module.global_variables):
        if not value.is_declaration and value.name not in exported:
            value.linkage = "internal"
    passes = llvm.create_new_module_pass_manager()
    passes.add_always_inliner_pass()
    passes.add_sroa_pass()
    passes.add_simplify_cfg_pass()
    passes.add_global_dead_code_eliminate_pass()
    tuning = llvm.create_pipeline_tuning_options()
    passes.run(module, llvm.create_pass_builder(machine, tuning))
    return bytes(machine.emit_object(module))


if __name__ == "__main__":
    Path(sys.argv[2]).write_bytes(compile_level(sys.argv[1]))
