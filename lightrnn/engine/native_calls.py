"""The executor as functions of Python: short calls that keep the GIL, long ones that give it up."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache, partial

from lightrnn.native.abi import ALONE, METHOD, PYTHON
from lightrnn.native.library import Library

Call = Callable[[int], int]
"""Runs the executor with the arguments at an address; returns the status, zero if all is well."""


def keeping_gil(library: Library) -> Call:
    """The executor, called without letting other Python threads run: for short programs."""
    return ctypes.PYFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(library.addresses[ALONE])


def releasing_gil(library: Library) -> Call:
    """The executor, called while other Python threads may run."""
    return ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(library.addresses[ALONE])


class _MethodDef(ctypes.Structure):
    """CPython's PyMethodDef, a part of its stable ABI."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


_NO_ARGUMENTS = 4
_defined: list[_MethodDef] = []
"""Every definition, for good: its functions read it at each call."""


@cache
def binder(library: Library) -> Callable[[int], Callable[[], int]]:
    """What binds `keeping_gil` to an address, as a builtin function where Python has those.

    ctypes takes longer over a call than the smallest models do.
    """
    python = getattr(ctypes, "pythonapi", None)
    if python is None:
        call = keeping_gil(library)
        return lambda address: partial(call, address)
    used = (python.PyLong_AsVoidPtr, python.PyLong_FromLong)
    kinds = ctypes.c_void_p, ctypes.c_void_p
    use = ctypes.CFUNCTYPE(None, *kinds)(library.addresses[PYTHON])
    use(*(ctypes.cast(function, ctypes.c_void_p) for function in used))
    method = _MethodDef(b"run", library.addresses[METHOD], _NO_ARGUMENTS, None)
    _defined.append(method)
    kinds_of_new = ctypes.POINTER(_MethodDef), ctypes.py_object, ctypes.py_object
    new = ctypes.PYFUNCTYPE(ctypes.py_object, *kinds_of_new)(("PyCFunction_NewEx", python))
    return lambda address: new(ctypes.byref(method), address, None)
