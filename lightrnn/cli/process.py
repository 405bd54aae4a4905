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
from contextlib import contextmanager, suppress
from types import FrameType

from lightrnn.cli.arguments import UsageError
from lightrnn.errors import LightRNNError

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


def guarded(run: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """Run a command; its exit status, whatever becomes of it.

    A reader of stdout that has gone away has what it wanted: that is quiet, and no failure.
    """
    with _warnings_on_stderr(), _termination_unwinds():
        try:
            status = run(args)
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
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    message = "; ".join(lines).replace(":; ", ": ")
    if isinstance(error, LightRNNError | OSError) and message:
        return message
    return f"unexpected {type(error).__name__}: {message} (--debug shows where)"


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
    """Let SIGTERM raise SystemExit, so that temporary files are removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def _give_up_unwritten() -> None:
    """Where stdout takes no more, keep the interpreter from trying again at exit."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, sys.stdout.fileno())
            os.close(null)
