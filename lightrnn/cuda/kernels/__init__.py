"""Sources of the GPU kernels, one function for each of `native.abi.KERNELS` that a GPU runs."""
