"""Every error that lightrnn raises on purpose.

LightRNNError
├── FormatError            a file is not a valid .lrnn file
├── GraphError             a model's graph breaks a rule: operator, attribute, type, order
│   └── UnsupportedError   the model asks for something that lightrnn does not compute
├── InputError             what the caller passed does not fit the model
├── DataError              a value met while running is out of range (a token id, an index)
├── ConversionError        a model could not be converted
│   └── VerificationError  a converted model disagrees with its source
├── NativeError            the kernel library cannot be loaded, built or trusted
├── DeviceError            a GPU is not there, or failed
│   └── DeviceMemoryError  a GPU is out of memory; nothing is lost but the run
└── TextError              a tokenizer, task or text file is not usable
"""


class LightRNNError(Exception):
    """The root of every error raised by lightrnn."""


class FormatError(LightRNNError, ValueError):
    """A file is not a valid .lrnn file."""


class GraphError(LightRNNError, ValueError):
    """A graph breaks a rule; the message names the node."""


class UnsupportedError(GraphError):
    """An operator, attribute value or type that lightrnn does not compute."""


class InputError(LightRNNError, ValueError):
    """Arguments of a call do not fit the model: names, dtypes, ranks or sizes."""


class DataError(LightRNNError, ValueError):
    """A value met at run time is out of range; the message names the node."""


class ConversionError(LightRNNError, ValueError):
    """A source model could not be converted."""


class VerificationError(ConversionError):
    """A converted model and its source give different results.

    report: what was compared, where both ran; else None.
    """

    def __init__(self, message: str, report: object | None = None) -> None:
        super().__init__(message)
        self.report = report


class NativeError(LightRNNError, RuntimeError):
    """The kernel library cannot be loaded, built or trusted."""


class DeviceError(LightRNNError, RuntimeError):
    """A GPU, its driver, its package or its kernels are missing, or it failed."""


class DeviceMemoryError(DeviceError):
    """A GPU is out of memory; the model and the process go on."""


class TextError(LightRNNError, ValueError):
    """A tokenizer, task or text input is not usable."""
