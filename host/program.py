"""Which machine a program is for."""

import hashlib
import json
from dataclasses import asdict

__all__ = ["build_digest"]

_DIGEST_DIGITS = 16


def build_digest(build):
    """Hexadecimal digest of an engine build: every parameter counts, so a program made for another build is told apart."""
    text = json.dumps({"engine": build.name, "build": asdict(build)}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_DIGITS]
