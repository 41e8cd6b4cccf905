"""The named passages that perplexities are measured on: which text, which tokens of it, in windows of which length.

Perplexities compare only within one passage and one tokenizer. The texts ship with the package, in the folder ``texts``.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from sparseloom.models.spec.errors import InputError

__all__ = ["PASSAGES", "Passage"]

FOLDER = Path(__file__).parent / "texts"
TEXTS = {"gpl-3.txt": "3972dc9744f6499f0f9b2dbf76696f2ae7ad8af9b23dde66d6af86c9dfb36986"}


@dataclass(frozen=True, kw_only=True)
class Passage:
    """Tokens ``first`` to ``first + tokens - 1`` of a text that is tokenised whole, without a start token, in disjoint windows.

    Each window of ``window`` tokens is one sequence of its own: its first token is context only and is not predicted.
    """

    text: str
    first: int
    tokens: int
    window: int

    def windows(self, encode):
        """The windows as lists of ids, the last one perhaps shorter. ``encode(text) -> ids`` is the model's.

        InputError if the text is not as it shipped or has too few tokens.
        """
        data = (FOLDER / self.text).read_bytes()
        found = hashlib.sha256(data).hexdigest()
        if found != TEXTS[self.text]:
            raise InputError(self.text, "sha256", f"be {TEXTS[self.text]}", found)
        ids = list(encode(data.decode()))
        end = self.first + self.tokens
        if len(ids) < end:
            raise InputError(self.text, "tokens", f"be {end} at least", len(ids))
        return [ids[at : min(at + self.window, end)] for at in range(self.first, end, self.window)]


PASSAGES = {
    "gpl-3-512": Passage(text="gpl-3.txt", first=0, tokens=512, window=512),
    "gpl-3-2048": Passage(text="gpl-3.txt", first=0, tokens=2048, window=512),
}
