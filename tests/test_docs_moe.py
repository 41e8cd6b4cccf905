"""What the pages of the linear engine and of vision transformers quote is what the closed forms say."""

import re

import pytest

from sparseloom.models.spec.moe_linear import MoeLinear
from sparseloom.models.spec.vit_presets import VIT_PRESETS
from sparseloom.models.zoo.vit_shapes import M3VIT_TINY, VIT_T
from sparseloom.perfmodel.cost.kernels import cost, measured
from sparseloom.perfmodel.vit import VitMachine, image_rows

PRESET = VIT_PRESETS["sparseloom-zcu102"]
BUILD = MoeLinear(tokens=4, rows=16, lanes=32, beat_bytes=64, max_m=197)
PARTS = ("norm", "gate", "linear", "attention")


def test_the_linear_engines_cycles(root):
    text = (root / "docs" / "moe_linear.md").read_text()
    rows = re.findall(r"^\| (m=\S+) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|$", text, re.MULTILINE)
    assert len(rows) == 4
    for shape, *figures in rows:
        job = BUILD.job(**{key: int(value) for key, value in (pair.split("=") for pair in shape.split(","))})
        want = [BUILD.cycles(job), BUILD.compute_cycles(job), BUILD.beats("w", job)]
        assert [int(figure.replace(",", "")) for figure in figures] == want, shape


def images():
    for shape in (M3VIT_TINY, VIT_T):
        rows = image_rows(VitMachine.of(PRESET, shape), shape)
        yield sum(row["cycles"] for row in rows), sum(row["macs"] for row in rows)


def taken():
    machine = VitMachine.of(PRESET, M3VIT_TINY, target="dsp48e2")
    return sum((cost(getattr(machine, part)) for part in PARTS[1:]), start=cost(getattr(machine, PARTS[0])))


def test_images(root):
    (small, small_macs), (large, large_macs) = images()
    whole = taken()
    page, readme = ((root / name).read_text() for name in ("docs/moe_vit.md", "README.md"))
    ms = [f"{cycles / 300e3:.2f} ms" for cycles in (small, large)]
    assert f"| cycles, RTL and closed form | {small:,} | {large:,} |" in page
    assert f"| at 300 MHz | {ms[0]} | {ms[1]} |" in page and all(one in readme for one in ms)
    share = [f"{macs / cycles / whole.dsp:.2f}" for cycles, macs in ((small, small_macs), (large, large_macs))]
    assert f"| {share[0]} | {share[1]} |" in page
    for text in (f"{whole.dsp:,}", f"{whole.lut:,}"):
        assert text in page and text in readme


def test_the_machine_fits_its_budget():
    whole = taken()
    assert whole.dsp <= 1850 and whole.lut <= 123_000 and whole.basis == "yosys"


@pytest.mark.parametrize("row", measured(), ids=lambda row: row["engine"])
def test_measured_rows_say_how(row):
    assert row["family"] == "xcup" and row["tool"].startswith("Yosys") and "synth_xilinx" in row["command"]
