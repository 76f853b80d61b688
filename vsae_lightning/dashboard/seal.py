"""A seal on a report: that this user's machine wrote every file in it, so that pages of a stranger are made anew.

A report is scripts, and its data are too. The seal is an HMAC (RFC 2104) over the names, sizes and hashes of all files,
by a key that is in no run folder. A report with a broken seal, or none, is no error: it is written anew.
"""

import hashlib
import hmac
import json
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

from vsae_lightning.files import record, write_json

SEAL = "seal.json"
KEY_BYTES = 32
MAX_SEAL_BYTES = 50_000_000  # some hundred thousand files


def write_seal(folder: Path) -> None:
    """Seal what is in a report now; without a place for the key, it stays without a seal."""
    (folder / SEAL).unlink(missing_ok=True)
    key, sizes = _key(make=True), _sizes(folder)
    if key is not None and sizes is not None:
        files = {name: record(folder / name) for name in sizes}
        write_json(folder / SEAL, {"files": files, "mac": _mac(key, files)})


def is_sealed(folder: Path) -> bool:
    """Whether this user's machine wrote every file of a report, and nobody has changed, added or removed one since.

    Only regular files are opened; no link is followed, and nothing is hashed but what has the size that was sealed.
    """
    key, sizes = _key(make=False), _sizes(folder)
    files = _sealed_files(folder, key) if key is not None and sizes is not None else None
    if files is None or {name: one["size"] for name, one in files.items()} != sizes:
        return False
    with suppress(OSError):
        return all(record(folder / name) == one for name, one in files.items())
    return False


def _sealed_files(folder: Path, key: bytes) -> dict[str, Any] | None:
    """What the seal says of every file, if it is by this key."""
    path = folder / SEAL
    try:
        state = path.lstat()
        if not stat.S_ISREG(state.st_mode) or state.st_size > MAX_SEAL_BYTES:
            return None
        seal = json.loads(path.read_text(encoding="utf-8"))
        files, mac = seal["files"], str(seal["mac"])
        is_ours = hmac.compare_digest(mac.encode(), _mac(key, files).encode())
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return files if is_ours else None


def _mac(key: bytes, files: Any) -> str:
    return hmac.new(key, json.dumps(files, sort_keys=True).encode(), hashlib.sha256).hexdigest()


def _sizes(folder: Path) -> dict[str, int] | None:
    """The size of every file but the seal, by its name from the folder; None where not all are regular files."""
    found: dict[str, int] = {}
    waiting = [folder]
    try:
        if folder.is_symlink():
            return None
        while waiting:
            for entry in os.scandir(waiting.pop()):
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))
                elif entry.is_file(follow_symlinks=False):
                    found[Path(entry.path).relative_to(folder).as_posix()] = entry.stat(follow_symlinks=False).st_size
                else:
                    return None
    except OSError:
        return None
    found.pop(SEAL, None)
    return found


def _key(make: bool) -> bytes | None:
    """The secret key of this user, which is made at its first use; None where there is none."""
    path = _key_path()
    if path is None:
        return None
    if make:
        with suppress(OSError):
            _make_key(path)
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return None
    with os.fdopen(handle, "rb") as file:
        state = os.fstat(handle)
        others = state.st_mode & 0o077 if hasattr(os, "getuid") else 0  # of Windows, modes say nothing
        is_own = stat.S_ISREG(state.st_mode) and (not hasattr(os, "getuid") or state.st_uid == os.getuid())
        key = file.read(KEY_BYTES + 1) if is_own and not others else b""
    return key if len(key) == KEY_BYTES else None


def _key_path() -> Path | None:
    base = os.environ.get("XDG_STATE_HOME") or ""
    try:
        place = Path(base) if Path(base).is_absolute() else Path.home() / ".local" / "state"
    except RuntimeError:  # a container whose user has no home
        return None
    return place / "vsae_lightning" / "report.key"


def _make_key(path: Path) -> None:
    """Whole from the first moment on that it has its name, and never in the place of another."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
        with suppress(FileExistsError):  # another process was first
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
