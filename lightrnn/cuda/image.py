"""Find and check the archive of compiled GPU kernels, and pick the image for a chip."""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from functools import cached_property

from lightrnn.errors import DeviceError, NativeError
from lightrnn.native import abi, library

FILE_NAME = "lightrnn_cuda.zip"
_FOLDER = os.path.dirname(os.path.realpath(__file__))
PACKAGED = os.path.join(_FOLDER, FILE_NAME)
INDEX, ABI_KEY, HASH_KEY = "index.json", "abi", "sources"
TOOLKIT_KEY, KERNELS_KEY = "toolkit", "kernels"
_REMEDY = "run `lightrnn build-kernels --cuda`, or install lightrnn again"


class Images:
    """An archive of kernels, whole and of these sources.

    path: its file. resources: for each symbol, for each target, registers, shared bytes, stack
    bytes and bytes spilled.
    """

    def __init__(self, path: str) -> None:
        """Open an archive. Raises NativeError where it is damaged, or built from other sources."""
        self.path = path
        try:
            self._archive = zipfile.ZipFile(path)
            self._index = json.loads(self._archive.read(INDEX))
        except (OSError, zipfile.BadZipFile, KeyError, ValueError, zlib.error) as error:
            raise NativeError(f"{path}: cannot be read: {error}; {_REMEDY}") from None
        if self._index.get(ABI_KEY) != abi.ABI:
            raise NativeError(
                f"{path}: ABI {self._index.get(ABI_KEY)}, expected {abi.ABI}; {_REMEDY}"
            )
        if self._index.get(HASH_KEY) != source_hash():
            raise NativeError(f"{path}: built from other kernel sources; {_REMEDY}")

    @property
    def resources(self) -> dict[str, dict[str, dict[str, int]]]:
        found: dict[str, dict[str, dict[str, int]]] = self._index[KERNELS_KEY]
        return found

    @property
    def toolkit(self) -> dict[str, str]:
        """Versions of the packages that compiled the kernels."""
        found: dict[str, str] = self._index[TOOLKIT_KEY]
        return found

    @cached_property
    def targets(self) -> tuple[tuple[int, int], ...]:
        """Compute capabilities that there are cubins for, oldest first."""
        names = {n.split("/")[0] for n in self._archive.namelist() if n.startswith("sm_")}
        return tuple(sorted((int(n[3:-1]), int(n[-1])) for n in names))

    def code(self, symbol: str, capability: tuple[int, int]) -> tuple[bytes, str]:
        """A kernel for a chip, and what it is: "cubin" or "ptx".

        A cubin runs on chips of its major version from its own minor version on; PTX is for chips
        that there is no cubin for. Raises NativeError for a chip too old.
        """
        fitting = [t for t in self.targets if t[0] == capability[0] and t[1] <= capability[1]]
        if fitting:
            major, minor = fitting[-1]
            return self._read(f"sm_{major}{minor}/{symbol}.cubin"), "cubin"
        if not self.targets or capability < self.targets[0]:
            raise NativeError(
                f"{self.path}: no kernels for compute capability {capability[0]}.{capability[1]},"
                f" expected {'.'.join(map(str, self.targets[0]))} or newer"
            )
        return self._read(f"ptx/{symbol}.ptx"), "ptx"

    def _read(self, name: str) -> bytes:
        try:
            return self._archive.read(name)
        except (KeyError, OSError, zipfile.BadZipFile, zlib.error) as error:
            raise NativeError(f"{self.path}: {name}: {error}; {_REMEDY}") from None


class Image:
    """The kernels of an archive for one chip."""

    def __init__(self, images: Images, capability: tuple[int, int]) -> None:
        self.images, self.capability = images, capability

    def code(self, symbol: str) -> tuple[bytes, str]:
        """A kernel, and what it is: "cubin" or "ptx". Raises NativeError."""
        return self.images.code(symbol, self.capability)


def find_image(capability: tuple[int, int]) -> Image:
    """The kernels for a chip. Raises DeviceError where none are compiled, NativeError as `load`."""
    images = load()
    if images is None:
        raise DeviceError(
            "no GPU kernels are compiled: pip install 'lightrnn[cuda-kernels]', then run"
            " `lightrnn build-kernels --cuda`"
        )
    return Image(images, capability)


def load() -> Images | None:
    """The packaged archive, else the user's cached one, else None. Raises NativeError."""
    if os.path.exists(PACKAGED):
        return Images(PACKAGED)
    cached = cached_path()
    if cached is not None and os.path.exists(cached):
        library.check_private(cached)
        return Images(cached)
    return None


def cached_path() -> str | None:
    """Where `lightrnn build-kernels --cuda` puts an archive; None for a user without a home."""
    beside = library.cached_path()
    return None if beside is None else os.path.join(os.path.dirname(beside), FILE_NAME)


def source_files() -> list[str]:
    """Paths of the files that the archive depends on."""
    kernels = os.path.join(_FOLDER, "kernels")
    names = sorted(name for name in os.listdir(kernels) if name.endswith(".py"))
    native = os.path.join(os.path.dirname(_FOLDER), "native", "abi.py")
    rules = sorted(n for n in os.listdir(_FOLDER) if n.startswith("launch") and n.endswith(".py"))
    own = [os.path.join(_FOLDER, name) for name in ("build.py", "grid.py", *rules)]
    return [*(os.path.join(kernels, name) for name in names), *own, native]


def source_hash() -> str:
    """Checksum of the kernel sources, the ABI, the launch rules and the builder, in hexadecimal."""
    total, size = 0, 0
    for path in source_files():
        with open(path, "rb") as file:
            data = os.path.basename(path).encode() + b"\0" + file.read() + b"\0"
        total, size = zlib.crc32(data, total), size + len(data)
    return f"{total:08x}{size:08x}"
