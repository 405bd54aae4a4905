"""The GPU backend on a GPU: all checks, then times against torch. `python -m bench.cuda`."""
