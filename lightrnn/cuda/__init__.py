"""The GPU backend: plans of the engine, run by kernels compiled ahead of time for NVIDIA GPUs."""
