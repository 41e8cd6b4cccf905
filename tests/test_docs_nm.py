"""What the pages of N:M training quote is what closed forms and the stored benchmark say."""

import json
import re

from sparseloom.models.spec.nm_presets import NM_PRESETS
from sparseloom.models.spec.nm_train import NmTrain
from sparseloom.perfmodel.training import TrainingMachine, compare
from sparseloom.perfmodel.training_tables import TABLES

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


def test_trainings(root):
    """Accuracies and cycles of the README are those that the benchmark stored, as are the figure's."""
    found, text = json.loads((root / "docs" / "figures" / "nm_training.json").read_text()), (root / "README.md").read_text()
    dense, sparse = (found["rows"][name] for name in ("dense", "bdwp 2:8"))
    assert f"{100 * dense['mean']:.2f} %; {100 * sparse['mean']:.2f} %" in text and found["epochs"] == 12
    assert f"| {dense['step_cycles']:,}; {sparse['step_cycles']:,} cycles" in text
    assert len(dense["right"]) == len(sparse["right"]) == 5


def test_whole_networks(root):
    text, machine = (root / "README.md").read_text(), TrainingMachine.of(NM_PRESETS["sparseloom-vcu1525"])
    for name, about in (("resnet18", "ResNet-18"), ("deit-s", "DeiT-S")):
        row = compare(machine, TABLES[name], 2, 8)
        figures = f"{row['speedup']:.2f}x, {row['speedup_bound']:.2f}x, {row['sparse_of_bound']:.1%}".replace("%", " %")
        assert re.search(rf"^\| {about}, batch {row['batch']}.*\| {re.escape(figures)} \|", text, re.MULTILINE), figures
