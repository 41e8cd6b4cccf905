"""Files that cannot be trusted: mapped into memory, read through bounds, with names that are checked."""

import json
import os
import stat
import struct

import numpy as np

from ..spec.errors import InputError

__all__ = ["Cursor", "check_name", "map_file", "parse_json"]

MAX_NAME = 1024


def map_file(path):
    """The file as a read-only uint8 array, paged in as it is touched; InputError unless it is a regular file with content."""
    try:
        info = os.stat(path)
        if not stat.S_ISREG(info.st_mode):
            raise InputError(path, "file", "be a regular file", stat.filemode(info.st_mode))
        if not info.st_size:
            raise InputError(path, "file", "have content", "0 bytes")
        return np.asarray(np.memmap(path, np.uint8, "r"))
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(path, "file", "be readable", getattr(error, "strerror", None) or str(error)) from None


def check_name(name, where, field):
    """``name`` if it is safe as a key and as a file name; InputError if it is empty, too long, unprintable, or climbs out."""
    parts = name.replace("\\", "/").split("/")
    if not 0 < len(name) <= MAX_NAME or not name.isprintable() or "" in parts or ".." in parts or "." in parts:
        rule = f"be 1..{MAX_NAME} printable characters without empty, '.' or '..' path components"
        raise InputError(where, field, rule, name)
    return name


def parse_json(text, where, field):
    """The JSON object in ``text`` (str, or UTF-8 bytes); InputError for anything else and for a key given twice."""

    def unique(pairs):
        result = {}
        for key, value in pairs:
            if key in result:
                raise InputError(where, field, "give each key once", key)
            result[key] = value
        return result

    try:
        value = json.loads(text if isinstance(text, str) else bytes(text).decode(), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(where, field, "be JSON", str(error).partition("\n")[0]) from None
    if not isinstance(value, dict):
        raise InputError(where, field, "be a JSON object", type(value).__name__)
    return value


class Cursor:
    """Reads little-endian fields from ``data`` (uint8 array) one after another, never past its end."""

    U32, U64 = struct.Struct("<I"), struct.Struct("<Q")

    def __init__(self, data, where):
        self._view = memoryview(data)
        self._where = where
        self.pos = 0

    @property
    def left(self):
        return len(self._view) - self.pos

    def skip(self, count, field):
        """Moves on by ``count`` bytes and returns where they began; InputError if the file ends before."""
        if count > self.left:
            rule = f"end within the file of {len(self._view)} bytes"
            raise InputError(self._where, field, rule, f"{count} bytes at offset {self.pos}")
        self.pos += count
        return self.pos - count

    def unpack(self, form, field):
        """The one value of ``form``, a struct.Struct."""
        return form.unpack_from(self._view, self.skip(form.size, field))[0]

    def u32(self, field):
        return self.unpack(self.U32, field)

    def u64(self, field):
        return self.unpack(self.U64, field)

    def count(self, field, limit, item_bytes):
        """A u64 number of items of at least ``item_bytes`` each that are to follow: at most ``limit``, and no more than fit."""
        value = self.u64(field)
        if value > limit:
            raise InputError(self._where, field, f"be at most {limit}", value)
        if value * item_bytes > self.left:
            raise InputError(self._where, field, f"fit in the {self.left} bytes that follow", value)
        return value

    def text(self, field, limit):
        """A string of at most ``limit`` bytes behind its u64 length; InputError unless it is UTF-8."""
        size = self.count(f"length of {field}", limit, 1)
        start = self.skip(size, field)
        raw = bytes(self._view[start : self.pos])
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise InputError(self._where, field, "be UTF-8", raw) from None
