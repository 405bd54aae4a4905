"""Arrays by name in .npz files."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from typing import BinaryIO

import numpy as np

from lightrnn.errors import InputError
from lightrnn.graph import Array


def read_arrays(path: str) -> dict[str, Array]:
    """All arrays of a file, none of them pickled. Raises InputError, OSError."""
    with open(path, "rb") as file:
        try:
            return _arrays(file)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        except Exception as error:  # zipfile, zlib and NumPy raise many kinds for a damaged file
            raise InputError(f"{path}: not an .npz file of plain arrays: {error}") from error


def _arrays(file: BinaryIO) -> dict[str, Array]:
    archive = np.load(file, allow_pickle=False)
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise InputError("one array, expected arrays by name in an .npz file")
    with archive:
        arrays = {name: archive[name] for name in archive.files}
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise InputError(f"{name!r} is not an array")
    return arrays


def write_arrays(file: BinaryIO, arrays: Mapping[str, Array]) -> None:
    """Write arrays under any names, as np.load reads them."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
