"""What the command owes its caller: exit status, one-line errors, quiet ends."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType

from lightrnn.cli.arguments import UsageError
from lightrnn.cli.output import naming, printable
from lightrnn.errors import LightRNNError

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


def guarded(run: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """Run a command; its exit status, whatever becomes of it.

    A reader of stdout that has gone away has what it wanted: that is quiet, and no failure.
    """
    with _standard_streams(), _warnings_on_stderr(), _termination_unwinds():
        try:
            status = run(args)
            with naming("<stdout>"):
                sys.stdout.flush()
            return status
        except BrokenPipeError:
            return OK
        except KeyboardInterrupt:
            return INTERRUPTED
        except Exception as error:
            if args.debug:
                traceback.print_exc()
            print(f"lightrnn: error: {describe(error)}", file=sys.stderr)
            return USAGE if isinstance(error, UsageError) else FAILED
        finally:
            _give_up_unwritten()


def describe(error: Exception) -> str:
    """An error in one line."""
    if isinstance(error, OSError) and error.strerror:
        if error.filename is None:
            return error.strerror
        return f"{printable(str(error.filename)) or repr('')}: {error.strerror}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    message = printable("; ".join(lines).replace(":; ", ": "))
    if isinstance(error, LightRNNError | OSError) and message:
        return message
    return f"unexpected {type(error).__name__}: {message} (--debug shows where)"


@contextmanager
def _standard_streams() -> Iterator[None]:
    """Stand-ins for standard streams that are closed, so that no other file takes their place.

    Reading from and writing to them fails as it does in C; what is said on stderr is lost.
    """
    kinds = ("stdin", os.O_WRONLY, "r"), ("stdout", os.O_RDONLY, "w"), ("stderr", os.O_WRONLY, "w")
    with ExitStack() as stack:
        for name, flags, mode in kinds:
            if getattr(sys, name) is None:
                stream = stack.enter_context(open(os.open(os.devnull, flags), mode))
                setattr(sys, name, stream)
                stack.callback(setattr, sys, name, None)
        yield


@contextmanager
def _warnings_on_stderr() -> Iterator[None]:
    """Show what the library logs, from warnings up, each message once."""
    seen: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        known = message in seen
        seen.add(message)
        return not known

    logger = logging.getLogger("lightrnn")
    handler = logging.StreamHandler()
    handler.setLevel(logging.WARNING)
    handler.addFilter(is_new)
    handler.setFormatter(_Formatter())
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"lightrnn: {record.levelname.lower()}: {record.getMessage()}"


@contextmanager
def _termination_unwinds() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise SystemExit, so that temporary files are removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signals = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {s: signal.getsignal(s) for s in signals}
    for number, handler in before.items():
        if handler == signal.SIG_DFL:  # who ignores one, such as nohup, means it
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler == signal.SIG_DFL:
                signal.signal(number, handler)


def _give_up_unwritten() -> None:
    """Where stdout takes no more, keep the interpreter from trying again at exit."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, sys.stdout.fileno())
            os.close(null)
