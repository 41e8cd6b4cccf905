"""What the page of the training array quotes is what its closed form says."""

import re

from sparseloom.models.spec.nm_train import NmTrain

BUILD = NmTrain(rows=16, cols=16, words=2)


def test_the_arrays_cycles(root):
    text = (root / "docs" / "nm_train.md").read_text()
    rows = re.findall(r"^\| (m=\S+) \| ([\d,]+) \| ([\d.]+) % \|$", text, re.MULTILINE)
    assert len(rows) == 5
    for shape, cycles, share in rows:
        pairs = dict(pair.split("=") for pair in shape.split(","))
        job = BUILD.job(**{key: value if key == "dataflow" else int(value) for key, value in pairs.items()})
        want = BUILD.cycles(job)
        assert int(cycles.replace(",", "")) == want, shape
        assert share == f"{100 * BUILD.useful_fraction(job, want)['compute']:.1f}", shape
