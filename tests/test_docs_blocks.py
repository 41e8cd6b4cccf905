"""Every ``bash`` and ``python`` block of the documents runs, each in an empty folder of its own, and exits with 0.

Other tags (``text``, ``console``) are not run. A comment ``<!-- slow -->`` or ``<!-- rtl -->`` on the line before a block
gives it that marker.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(?:^<!-- (?P<marks>[\w ]+) -->\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
RUN = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}
MARKS = {"slow", "rtl"}


def blocks(text):
    """``(line number, language, marks, code)`` of every fenced block that is to run."""
    for match in BLOCK.finditer(text):
        marks = set((match["marks"] or "").split())
        if match["language"] in RUN:
            yield text.count("\n", 0, match.start("code")), match["language"], marks & MARKS, match["code"]


def cases():
    for document in DOCUMENTS:
        for line, language, marks, code in blocks(document.read_text()):
            name = f"{document.relative_to(ROOT)}:{line}"
            yield pytest.param(language, code, id=name, marks=[getattr(pytest.mark, mark) for mark in sorted(marks)])


def outcome(language, code, folder):
    options = {"cwd": folder, "env": {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}}
    return subprocess.run([*RUN[language], code], **options, capture_output=True, text=True, stdin=subprocess.DEVNULL)


@pytest.mark.parametrize("language, code", list(cases()))
def test_block(language, code, tmp_path):
    done = outcome(language, code, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_blocks_are_found_with_their_marks():
    text = ("a\n```bash\ntrue\n```\n<!-- slow rtl -->\n```python\nx = 1\n```\n"
            "```text\nno\n```\n<!-- a note -->\n```bash\nfalse\n```\n")
    assert list(blocks(text)) == [
        (2, "bash", set(), "true\n"), (6, "python", {"slow", "rtl"}, "x = 1\n"), (13, "bash", set(), "false\n"),
    ]


@pytest.mark.parametrize("language, code", [("bash", "false\ntrue"), ("bash", "sparseloom no | cat"), ("python", "assert 0")])
def test_a_wrong_block_fails(language, code, tmp_path):
    assert outcome(language, code, tmp_path).returncode != 0
