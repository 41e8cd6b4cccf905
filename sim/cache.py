"""The cache of builds: the house's own, and the key of the sources that a build is made of."""

import sys
from functools import cache
from pathlib import Path

from sparseloom.models.cache import cache_folder, cache_size, cached, clear_cache, digest

__all__ = ["cached", "cache_folder", "cache_size", "clear_cache", "digest", "source_digest"]

_PACKAGE = "sparseloom"


@cache
def source_digest(*packages):
    """Key of the Python and C++ sources of packages, named relative to the project: ``"hdl"``, ``"models.spec"``..."""
    parts = []
    for package in packages:
        module = sys.modules.get(f"{_PACKAGE}.{package}") or __import__(f"{_PACKAGE}.{package}", fromlist=["_"])
        root = Path(module.__file__).parent
        for path in sorted(root.rglob("*")):
            if path.suffix in (".py", ".h", ".cpp", ".vlt"):
                parts += [package, path.relative_to(root).as_posix(), path.read_bytes()]
    return digest(*parts)
