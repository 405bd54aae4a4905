"""Wheel build: compile the kernels where that is possible, and name the wheel after them.

Kernels for GPUs are compiled where numba-cuda and its toolkit are installed, which they are not in
an isolated build; LIGHTRNN_CUDA=1 makes them a must, LIGHTRNN_CUDA=0 leaves them out.
"""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class KernelBuildHook(BuildHookInterface):  # type: ignore[misc]
    """Without Numba or a linker the wheel is built all the same, for NumPy semantics alone."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel":
            return
        sys.path.insert(0, self.root)
        library = self._compile(version == "editable")
        self._compile_for_gpus(os.environ.get("LIGHTRNN_CUDA", ""))
        if library is not None:
            build_data["tag"] = f"py3-none-{_platform_tag()}"
            build_data["pure_python"] = False

    def _compile(self, editable: bool) -> Path | None:
        """editable: whether a library that was built from these very sources will do."""
        if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
            return None
        from lightrnn.errors import NativeError
        from lightrnn.native import build
        from lightrnn.native.library import PACKAGED

        if editable and _is_current(PACKAGED):
            return Path(PACKAGED)
        Path(PACKAGED).unlink(missing_ok=True)
        try:
            return build.build(PACKAGED)
        except (ImportError, NativeError) as error:
            self.app.display_warning(f"no kernel library in this wheel: {error}")
            return None

    def _compile_for_gpus(self, wanted: str) -> None:
        """wanted: "1" or "0", or "" for what the environment can do."""
        from lightrnn.cuda import build
        from lightrnn.cuda.image import PACKAGED
        from lightrnn.errors import NativeError

        if wanted not in ("", "0", "1"):
            raise NativeError(f"LIGHTRNN_CUDA is {wanted!r}, expected 0 or 1")
        Path(PACKAGED).unlink(missing_ok=True)
        if wanted == "0":
            return
        try:
            build.build(PACKAGED)
        except (ImportError, NativeError) as error:
            if wanted:
                raise
            self.app.display_info(f"no GPU kernels in this wheel: {error}")


def _is_current(path: str) -> bool:
    from lightrnn.errors import NativeError
    from lightrnn.native.library import open_library

    try:
        return Path(path).exists() and open_library(path) is not None
    except NativeError:
        return False


def _platform_tag() -> str:
    """The library needs no C library; manylinux2014 is the oldest tag that installers know."""
    return "manylinux2014_x86_64"
