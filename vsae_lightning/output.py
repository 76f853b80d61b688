"""Output whose reader goes away, as in `vsae fit | head`: an interruption like the others, not a lost run."""

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO


class Reader:
    """Whether somebody still reads what this process prints."""

    has_left = False


class _Pipe:
    """A stream to a pipe; when nobody reads any more, what is written goes nowhere."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            self._close()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._close()

    def _close(self) -> None:
        Reader.has_left = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())  # what the stream still holds goes there too
        os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def outliving_its_reader() -> Iterator[None]:
    """Within, a reader that goes away stops nothing by itself; see `Reader`."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_Pipe(stream) if _is_pipe(stream) else stream for stream in before)
    try:
        yield
        sys.stdout.flush()
    finally:
        sys.stdout, sys.stderr = before


def _is_pipe(stream: Any) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError, AttributeError):  # a stream of a test or a notebook has no file
        return False
