"""The figures that the sparse chain's page quotes, computed anew: a change that moves one must move the page."""

import re

from sparseloom.models.spec.sparse_chain import SparseChain
from sparseloom.models.spec.sparse_cycles import words

SPEED_UP = re.compile(r"([\d.]+) times faster")


def test_the_table_of_cycles(root):
    build, dense, speed_ups = SparseChain(), None, 0
    rows = re.findall(r"^\| (k=\d\S+) \| (.*) \|$", (root / "docs" / "sparse_chain.md").read_text(), re.MULTILINE)
    assert len(rows) > 8
    for shape, cells in rows:
        values = dict(pair.split("=") for pair in shape.split(","))
        job = build.job(**{key: int(value) if value.isdecimal() else value for key, value in values.items()})
        cycles = build.cycles(job)
        useful = build.useful_fraction(job, cycles)
        *figures, verdict = cells.split(" | ")
        fractions = [f"{100 * useful[name]:.2f} %" for name in ("stream", "compute")]
        assert figures == [f"{cycles:,}", f"{words(build, job):,}", *fractions], shape
        dense = cycles if values.keys() == {"k", "n", "m"} else dense
        for times in SPEED_UP.findall(verdict):
            assert times == f"{dense / cycles:.2f}", shape
            speed_ups += 1
    assert speed_ups > 1


def test_widths(root):
    text = (root / "docs" / "sparse_chain.md").read_text()
    widths = [SparseChain(max_k=k).acc_width for k in (4096, 1 << 15)]
    assert f"{widths[0]} bits for `max_k` = 4096, {widths[1]} for 32768" in text
    assert f"a scale for every 32 of them: {SparseChain().activation_record.bits} bits by\ndefault" in text
