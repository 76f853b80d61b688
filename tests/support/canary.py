"""What Python itself reports while a command works: imports, processes, files written or removed, connections."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
EXECUTION = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "pty.spawn"}
REMOVAL = {"os.remove", "os.rmdir", "os.rename", "shutil.rmtree", "os.truncate"}
MAKING = {"os.mkdir", "os.symlink", "os.link", "os.chmod", "os.chown"}
NETWORK = {"socket.connect", "socket.getaddrinfo", "socket.sendto"}


class Event(NamedTuple):
    """One event of `sys.audit`: its name, and its first arguments as text."""

    name: str
    arguments: tuple[str, ...]


class Log(list[Event]):
    """The events of one command, in order."""

    def named(self, *names: str) -> list[tuple[str, ...]]:
        """The arguments of every event of these names."""
        return [event.arguments for event in self if event.name in names]

    @property
    def imported(self) -> set[str]:
        """The modules that were asked for, and the names of the files whose code was executed."""
        return {arguments[0] for arguments in self.named("import", "exec")}

    @property
    def started(self) -> list[tuple[str, ...]]:
        """The programs that were started."""
        return self.named(*EXECUTION)

    @property
    def connected(self) -> list[tuple[str, ...]]:
        """Addresses that were looked up or called."""
        return self.named(*NETWORK)

    def changed(self) -> set[Path]:
        """The paths that were opened for writing, made, moved or removed."""
        found = self.named("open", *REMOVAL, *MAKING)
        return {Path(path).absolute() for arguments in found for path in arguments if not path.isdigit()}


_open_logs: list[Log] = []
_installed: list[bool] = []


@contextmanager
def watching() -> Iterator[Log]:
    """Within, every event of this process goes into the log."""
    if not _installed:
        sys.addaudithook(_hear)  # which cannot be taken back
        _installed.append(True)
    log = Log()
    _open_logs.append(log)
    try:
        yield log
    finally:
        _open_logs.remove(log)


def _hear(name: str, arguments: tuple[Any, ...]) -> None:
    if not _open_logs:
        return
    if name == "open":
        path, _, flags = arguments
        if isinstance(path, str | bytes) and isinstance(flags, int) and flags & WRITES:
            _note(name, (os.fsdecode(path),))
    elif name == "import":
        _note(name, (str(arguments[0]),))
    elif name == "exec":  # importlib.import_module makes no event "import"
        _note(name, (Path(getattr(arguments[0], "co_filename", "")).stem,))
    elif name in EXECUTION | NETWORK:
        _note(name, tuple(str(argument) for argument in arguments[:2]))
    elif name in REMOVAL | MAKING:
        count = 2 if name in ("os.rename", "os.link") else 1
        paths = arguments[1:2] if name == "os.symlink" else arguments[:count]
        _note(name, tuple(os.fsdecode(path) for path in paths if isinstance(path, str | bytes | os.PathLike)))


def _note(name: str, arguments: tuple[str, ...]) -> None:
    for log in _open_logs:
        log.append(Event(name, arguments))
