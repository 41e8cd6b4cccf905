"""What the attention engine's document tells of cycles, asked of the closed form."""

import re

from sparseloom.models.spec.attention import Attention

ROW = re.compile(r"^\| (?:the same as )?((?:\w+=\d+,?)+) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|$", re.MULTILINE)


def test_the_table_of_cycles(root):
    rows = ROW.findall((root / "docs" / "attention.md").read_text())
    assert len(rows) == 4
    for text, *cells in rows:
        shape = {**{"d": 64}, **{key: int(value) for key, value in (pair.split("=") for pair in text.split(","))}}
        shape.setdefault("keys", 1024)
        if "causal" in shape:
            shape["causal"] = bool(shape["causal"])
        for score, cell in zip(("online", "two_pass", "shiftmax"), cells, strict=True):
            build = Attention(p=4, d_lanes=8, score=score, max_queries=1024)
            assert build.cycles(build.job(**shape)) == int(cell.replace(",", "")), (text, score)
