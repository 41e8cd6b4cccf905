"""Calibration texts, cut into windows of tokens, and the check that they share nothing with an evaluation passage."""

import re
from pathlib import Path

import numpy as np

from sparseloom.models.spec.errors import InputError

__all__ = ["DEFAULT_TEXTS", "WINDOW", "shared_run", "read_texts", "windows_of"]

FOLDER = Path(__file__).parent / "data"
DEFAULT_TEXTS = tuple(FOLDER / f"{name}.txt" for name in ("apache-2.0", "mpl-2.0", "artistic-1.0", "cc0-1.0", "self-generated"))
"""What ships: ``data/README.md`` says where each is from. None belongs to the GPL family, whose texts share sentences."""
WINDOW = 512
RUN = 8  # words in a row that make a shared passage
DOCUMENT = "\f"  # separates the documents of one file


def read_texts(paths):
    """The documents of UTF-8 text files, those of one file being separated by form feeds. InputError for an unreadable file."""
    documents = []
    for path in paths:
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(path, "text", "be readable UTF-8", getattr(error, "strerror", None) or "other bytes") from None
        documents += [part.strip("\n") for part in text.split(DOCUMENT) if part.strip()]
    return documents


def windows_of(documents, encode, count, seed, window=WINDOW):
    """``count`` windows of ``window`` ids each, drawn by ``seed`` from all disjoint windows of the documents one after another.

    ``encode(text) -> ids``. InputError if the documents have fewer.
    """
    ids = np.concatenate([np.asarray(encode(text), np.int64) for text in documents]) if documents else np.zeros(0, np.int64)
    every = ids[: len(ids) // window * window].reshape(-1, window)
    if len(every) < count:
        raise InputError("calibration", "texts", f"have {count} windows of {window} tokens", len(every))
    chosen = np.sort(np.random.Generator(np.random.PCG64(seed)).permutation(len(every))[:count])
    return [every[i] for i in chosen]


def shared_run(documents, other, run=RUN):
    """The first ``run`` words in a row that a document shares with the text ``other``, case and punctuation aside; or None."""
    there = set(runs(other, run))
    return next((" ".join(words) for text in documents for words in runs(text, run) if words in there), None)


def runs(text, run):
    words = re.findall(r"[a-z0-9']+", text.lower())
    return [tuple(words[i : i + run]) for i in range(len(words) - run + 1)]
