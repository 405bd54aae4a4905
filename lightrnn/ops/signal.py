"""Fourier transforms and the mel scale, as speech front-ends use them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lightrnn.errors import DataError, GraphError
from lightrnn.graph import Array, Dim, TensorType
from lightrnn.ops.arguments import axis_of, data_type, given, inferred, maybe, merged, scalar
from lightrnn.ops.registry import Case, Operator, Types, operator
from lightrnn.ops.reshaping import floats


def _complex(x: Array) -> Array:
    """[..., 1] real numbers as they are, [..., 2] as complex numbers; float16 as float32."""
    wide = x.astype(np.float32) if x.dtype == np.float16 else x
    return wide[..., 0] if x.shape[-1] == 1 else wide[..., 0] + 1j * wide[..., 1]


def _parts(x: Array) -> Array:
    """Real and imaginary parts along a new last axis."""
    return np.stack([x.real, x.imag], -1)


def _number(t: TensorType | None, what: str) -> int | None:
    """A whole number, where it is known. Raises GraphError for a float."""
    if t is None:
        return None
    if t.dtype.kind not in "iu":
        raise GraphError(f"{what} is {t.dtype.name}, expected int64")
    value = scalar(t, what)
    return None if value is None else int(value)


def _check_parts(t: TensorType, least: int, what: str) -> None:
    if t.shape is None:
        return
    if len(t.shape) < least or (t.shape[-1] not in (1, 2, None) and isinstance(t.shape[-1], int)):
        raise GraphError(f"{what} is {t}, expected a last axis of 1, or 2 for complex numbers")


@operator("DFT", inputs="input dft_length? axis?", outputs="output")
class DFT(Operator):
    """The discrete Fourier transform along an axis (ONNX DFT 20).

    input: [..., 1] real, or [..., 2] real and imaginary parts. onesided: only the half that a real
    signal's transform does not repeat; with `inverse` that half goes in, and a real signal out.
    """

    inverse: int = 0
    onesided: int = 0

    kinds = "f"
    rtol = 2e-6

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        x, size, where = given(inputs), maybe(inputs, 1), maybe(inputs, 2)
        _check_parts(x, 2, "input")
        if x.shape is None:
            return (TensorType(x.dtype, None),)
        parts = 1 if self.inverse and self.onesided else 2
        if self.onesided and isinstance(x.shape[-1], int) and x.shape[-1] != (3 - parts):
            raise GraphError(f"input is {x}, onesided takes a last axis of {3 - parts}")
        axis = -2 if where is None else _number(where, "axis")
        if axis is None:
            return (TensorType(x.dtype, (*[None] * (len(x.shape) - 1), parts)),)
        axis = axis_of(axis, len(x.shape))
        if axis == len(x.shape) - 1:
            raise GraphError("axis is the last one, which holds the parts of complex numbers")
        length: Dim = self._length(x.shape[axis]) if size is None else _number(size, "dft_length")
        if self.onesided and not self.inverse:
            length = length // 2 + 1 if isinstance(length, int) else None
        return (TensorType(x.dtype, (*x.shape[:axis], length, *x.shape[axis + 1 : -1], parts)),)

    def _length(self, size: Dim) -> Dim:
        if self.inverse and self.onesided:
            return 2 * (size - 1) if isinstance(size, int) else None
        return size

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        inferred(self, inputs)
        x, size, where = given(inputs), maybe(inputs, 1), maybe(inputs, 2)
        axis = axis_of(-2 if where is None else int(where.item()), x.ndim)
        length = self._length(x.shape[axis]) if size is None else int(size.item())
        if not isinstance(length, int) or length < 1:
            raise DataError(f"dft_length is {length}")
        signal = _complex(x)
        if self.inverse and self.onesided:
            return (np.asarray(np.fft.irfft(signal, length, axis)[..., None], x.dtype),)
        transform = np.fft.ifft if self.inverse else np.fft.rfft if self.onesided else np.fft.fft
        return (np.asarray(_parts(transform(signal, length, axis)), x.dtype),)

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        real, pairs = floats(rng, 2, 10, 3, 1), floats(rng, 2, 10, 3, 2)
        one = np.array(1)
        for name, x in (("real", real), ("complex", pairs)):
            yield Case(name, (x, None, one))
            yield Case(f"{name}, longer", (x, np.array(16), one))
            yield Case(f"{name}, shorter", (x, np.array(7), one))
        yield Case("last signal axis", (pairs,))
        yield Case("onesided", (real, None, one), {"onesided": 1})
        yield Case("onesided, odd", (real, np.array(9), one), {"onesided": 1})
        yield Case("inverse", (pairs, None, np.array(-3)), {"inverse": 1})
        yield Case("inverse, onesided", (pairs, None, one), {"inverse": 1, "onesided": 1})
        yield Case("float64", (pairs.astype(np.float64), None, one))


@operator("STFT", inputs="signal frame_step window? frame_length?", outputs="output")
class STFT(Operator):
    """Transforms of windowed frames: [N, L, 1 or 2] to [N, frames, bins, 2] (ONNX STFT 17)."""

    onesided: int = 1

    kinds = "f"
    rtol = 2e-6

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        signal, window = given(inputs), maybe(inputs, 2)
        _check_parts(signal, 3, "signal")
        step, length = _number(given(inputs, 1), "frame_step"), self._frame(inputs)
        if step is not None and step < 1:
            raise GraphError(f"frame_step is {step}")
        if window is not None and window.shape is not None:
            if len(window.shape) != 1:
                raise GraphError(f"window is {window}, expected rank 1")
            merged(window.shape[0], length, "sizes of the window and a frame,")
        if signal.shape is None:
            return (TensorType(signal.dtype, (None, None, None, 2)),)
        if self.onesided and signal.shape[-1] == 2:
            raise GraphError("onesided needs a real signal")
        frames: Dim = None
        if isinstance(length, int) and step is not None and isinstance(signal.shape[1], int):
            frames = max((signal.shape[1] - length) // step + 1, 0)
        bins = length // 2 + 1 if self.onesided and isinstance(length, int) else length
        bins = bins if isinstance(bins, int) else None
        return (TensorType(signal.dtype, (signal.shape[0], frames, bins, 2)),)

    def _frame(self, inputs: Types) -> Dim:
        """The length of a frame."""
        given_length, window, signal = maybe(inputs, 3), maybe(inputs, 2), given(inputs)
        if given_length is not None:
            return _number(given_length, "frame_length")
        shape, axis = (signal.shape, 1) if window is None else (window.shape, 0)
        return None if shape is None else shape[axis]

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        shape = inferred(self, inputs)[0].sizes
        signal, window = given(inputs), maybe(inputs, 2)
        step, length = int(given(inputs, 1).item()), self._frame_of(inputs)
        frames: Array = np.zeros((*shape[:2], length), signal.dtype)
        if shape[1]:
            values = _complex(signal)
            frames = np.lib.stride_tricks.sliding_window_view(values, length, 1)[:, ::step]
        framed = frames if window is None else frames * window
        transform = np.fft.rfft if self.onesided else np.fft.fft
        return (np.asarray(_parts(transform(framed, length, -1)), signal.dtype).reshape(shape),)

    def _frame_of(self, inputs: tuple[Array | None, ...]) -> int:
        length = self._frame([None if a is None else TensorType.of(a) for a in inputs])
        assert isinstance(length, int)
        return length

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        real, pairs, window = floats(rng, 2, 40, 1), floats(rng, 2, 40, 2), floats(rng, 16)
        step, length = np.array(8), np.array(16)
        yield Case("window", (real, step, window, length))
        yield Case("window alone", (real, step, window))
        yield Case("length alone", (real, np.array(7), None, length))
        yield Case("both sides", (real, step, window, length), {"onesided": 0})
        yield Case("complex", (pairs, step, window, length), {"onesided": 0})
        yield Case("float64", (real.astype(np.float64), step, window.astype(np.float64)))


_NAMES = ("num_mel_bins", "dft_length", "sample_rate")


@operator(
    "MelWeightMatrix",
    inputs="num_mel_bins dft_length sample_rate lower_edge_hertz upper_edge_hertz",
    outputs="output",
)
class MelWeightMatrix(Operator):
    """Triangles on the mel scale, [dft_length // 2 + 1, num_mel_bins] (ONNX 17)."""

    output_datatype: int = 1

    kinds = "i"

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        bands, length, rate = (_number(given(inputs, k), n) for k, n in enumerate(_NAMES))
        if min(1 if v is None else v for v in (bands, length, rate)) < 1:
            raise GraphError(f"{', '.join(_NAMES)} are {bands}, {length}, {rate}")
        bins = None if length is None else length // 2 + 1
        return (TensorType(data_type(self.output_datatype), (bins, bands)),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        (kind,) = inferred(self, inputs)
        bands, length, rate, low, high = (given(inputs, k).item() for k in range(5))
        low_mel, high_mel = (2595 * np.log10(1 + edge / 700) for edge in (low, high))
        mels = low_mel + np.arange(bands + 2) * (high_mel - low_mel) / (bands + 2)
        hertz = 700 * (10 ** (mels / 2595) - 1)
        edges = ((length + 1) * hertz // rate).astype(np.int64)
        if edges.max() > length // 2 or edges.min() < 0:
            raise DataError(f"edges from {low} to {high} Hz lie beyond half of {rate} Hz")
        weights = np.zeros(kind.sizes)
        for band in range(bands):
            left, centre, right = edges[band : band + 3]
            rising, falling = np.arange(left, centre + 1), np.arange(centre, right)
            weights[rising, band] = (rising - left) / (centre - left) if centre > left else 1
            weights[falling, band] = (right - falling) / max(right - centre, 1)
        return (weights.astype(kind.dtype),)

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        for bands, length, rate, low, high in (
            (8, 16, 8192, 0.0, 4096.0),
            (20, 128, 16000, 80.0, 7600.0),
        ):
            edges = np.array(low, np.float32), np.array(high, np.float32)
            sizes = tuple(np.array(n) for n in (bands, length, rate))
            yield Case(f"{bands} bands", (*sizes, *edges))
        yield Case("float64", (*sizes, *edges), {"output_datatype": 11})
