"""Arrays by name in .npz files."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from typing import BinaryIO

import numpy as np

from lightrnn.errors import InputError
from lightrnn.graph import Array


def read_arrays(path: str) -> dict[str, Array]:
    """All arrays of a file, none of them pickled. Raises InputError."""
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise InputError(f"{path}: one array, expected arrays by name in an .npz file")
        with archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not an .npz file of plain arrays: {error}") from None


def write_arrays(file: BinaryIO, arrays: Mapping[str, Array]) -> None:
    """Write arrays under any names, as np.load reads them."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
