"""Built and downloaded things kept by key: a folder for each, complete or absent, shared by any number of processes."""

import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

__all__ = ["cached", "cache_folder", "cache_size", "clear_cache", "digest"]

_PACKAGE = "sparseloom"
_KEY_DIGITS = 32


def cache_folder():
    """Where builds and downloads are kept: ``SPARSELOOM_CACHE``, or the platform's cache folder."""
    named = os.environ.get("SPARSELOOM_CACHE")
    if named:
        return Path(named).absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / _PACKAGE
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / _PACKAGE


def digest(*parts):
    """A key out of texts and bytes; different lists of parts give different keys."""
    whole = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode()
        whole.update(len(data).to_bytes(8, "little") + data)
    return whole.hexdigest()[:_KEY_DIGITS]


def cached(kind, key, make):
    """The folder of ``key`` among the things of ``kind``; if absent, ``make(folder)`` fills it first.

    ``make`` works in a temporary folder that takes its place only when it returns: a failure leaves nothing behind.
    Of several processes that want the same key one makes it and the others wait.
    """
    folder = cache_folder() / kind / key
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_suffix(".lock")):
        if folder.is_dir():
            return folder
        for left in folder.parent.glob(f"{key}.*.part"):  # a killed process's: who holds the lock is alone in making this
            shutil.rmtree(left)
        work = Path(tempfile.mkdtemp(prefix=f"{key}.", suffix=".part", dir=folder.parent))
        try:
            make(work)
            work.chmod(0o755)
            work.rename(folder)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
    return folder


@contextmanager
def _locked(path):
    """Hold the lock file ``path``, which stays; the system drops the lock of a process that dies."""
    with open(path, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def cache_size():
    """``(entries, bytes)`` in the cache."""
    folder = cache_folder()
    entries = [entry for entry in folder.glob("*/*") if entry.is_dir() and not entry.name.endswith(".part")]
    return len(entries), sum(path.stat().st_size for entry in entries for path in entry.rglob("*") if path.is_file())


def clear_cache():
    """Remove every entry. Programs that have one open keep it until they end."""
    for kind in cache_folder().glob("*"):
        if kind.is_dir():
            shutil.rmtree(kind)
