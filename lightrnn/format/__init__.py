"""The .lrnn file: reading trusts nothing, writing is deterministic."""

from lightrnn.format.container import contents
from lightrnn.format.model_file import VERSION, ModelFile, dumps, read, write

__all__ = ["VERSION", "ModelFile", "contents", "dumps", "read", "write"]
