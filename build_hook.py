"""Wheel build: compile the kernel library where that is possible, and name the wheel after it."""

from __future__ import annotations

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
        library = self._compile()
        if library is not None:
            build_data["tag"] = f"py3-none-{_platform_tag()}"
            build_data["pure_python"] = False

    def _compile(self) -> Path | None:
        if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
            return None
        sys.path.insert(0, self.root)
        from lightrnn.errors import NativeError
        from lightrnn.native import build
        from lightrnn.native.library import PACKAGED

        Path(PACKAGED).unlink(missing_ok=True)
        try:
            return build.build(PACKAGED)
        except (ImportError, NativeError) as error:
            self.app.display_warning(f"no kernel library in this wheel: {error}")
            return None


def _platform_tag() -> str:
    """The library needs no C library; manylinux2014 is the oldest tag that installers know."""
    return "manylinux2014_x86_64"
