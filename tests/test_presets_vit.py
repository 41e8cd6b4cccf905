"""Whole images on presets: every multiply-accumulate is somewhere, cycles are the closed forms' sums, targets are met."""

import json

import pytest

from sparseloom import cli
from sparseloom.models.spec.vit_presets import VIT_PRESETS
from sparseloom.models.zoo.vit_shapes import M3VIT_TINY, SHAPES, VIT_T
from sparseloom.perfmodel.vit import VitMachine, block_steps, image_rows, image_steps

OURS = VIT_PRESETS["sparseloom-zcu102"]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("preset", VIT_PRESETS.values(), ids=VIT_PRESETS)
def test_an_image_is_all_there(preset, shape):
    machine = VitMachine.of(preset, shape)
    rows = image_rows(machine, shape)
    assert sum(row["macs"] for row in rows) == sum(shape.macs.values())
    assert sum(row["cycles"] for row in rows) == sum(step.build.cycles(step.job) for _, step in image_steps(machine, shape))
    peak = {"linear": machine.linear.tokens * machine.linear.rows * machine.linear.lanes,
            "attention": 2 * preset.modules.value * machine.attention.p * machine.attention.d_lanes}
    used = [row["macs"] / row["cycles"] / peak[row["where"]] for row in rows if row["macs"]]
    assert len(used) >= 6 and 0 < min(used) and max(used) <= 1


def test_blocks_by_hand():
    machine = VitMachine.of(OURS, M3VIT_TINY)
    dense, experts = (list(block_steps(machine, M3VIT_TINY, block)) for block in (0, 1))
    assert [step.name for step in dense] == ["norm 1", "query, key, value", "attention", "projection", "norm 2", "up", "down"]
    assert [step.name for step in experts[5:]] == ["gate logits", "gate", "experts up", "experts down"]
    assert dense[:5] == experts[:5]
    # 129 tokens by four are 33 groups; 6 steps of 32 columns; 36 tiles of 16 rows. A tile's stream: 2 beats, then 6 times 8.
    qkv = dense[1]
    assert qkv.build.compute_cycles(qkv.job) == 33 * 6 * 36 and qkv.weight_bytes == 36 * (2 + 6 * 8) * 64
    assert 1 < qkv.cycles / (33 * 6 * 36) < 1.02
    # Two passes over 33 groups of 129 keys, two steps a key, three heads.
    assert dense[2].cycles - 3 * (34 * 129 + 0) * 2 < 100
    up = experts[7]
    assert up.job.gelu and sum(up.job.counts) == 258 and up.weight_bytes == len(up.job.counts) * 24 * (2 + 6 * 8) * 64


def test_our_machine_is_as_fast_as_it_must_be():
    for shape, most in ((M3VIT_TINY, 6.0), (VIT_T, 8.0)):
        machine = VitMachine.of(OURS, shape)
        assert 1e3 * sum(row["cycles"] for row in image_rows(machine, shape)) / OURS.clock.value <= most
    assert machine.linear.beat_bytes * OURS.clock.value <= OURS.bandwidth.value


def test_the_verb_tells_images_beside_what_was_published(capsys):
    assert cli.main(["estimate", "--preset", "ubimoe-zcu102", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    rows = image_rows(VitMachine.of(VIT_PRESETS["ubimoe-zcu102"], M3VIT_TINY), M3VIT_TINY)
    cycles = sum(row["cycles"] for row in rows)
    assert found["m3vit_tiny_cycles"] == cycles and found["m3vit_tiny_ms"] == 1e3 * (cycles / 300e6)
    assert found["basis"]["m3vit_tiny_cycles"] == "exact" and found["basis"]["m3vit_tiny_ms"] == "assumed"
    assert found["assumed"] == ["bandwidth"] and {row["basis"] for row in found["published"]} == {"published"}
    assert {(row["system"], row["value"]) for row in found["published"]} >= {("UbiMoE", 25.76), ("Edge-MoE", 34.64)}
    assert cli.main(["estimate", "--preset", "ubimoe-zcu102"]) == 0
    text = capsys.readouterr().out
    assert "25.76" in text and "experts up" in text and "no residual additions" in text.replace("\n", " ")


@pytest.mark.parametrize("preset", VIT_PRESETS.values(), ids=VIT_PRESETS)
def test_the_document_quotes_what_is_computed(root, preset):
    cells = []
    for shape in SHAPES.values():
        rows = image_rows(VitMachine.of(preset, shape), shape)
        cycles, nbytes = (sum(row[key] for row in rows) for key in ("cycles", "weight_bytes"))
        cells += [f"{cycles:,}", f"{1e3 * max(cycles / preset.clock.value, nbytes / preset.bandwidth.value):.2f} ms"]
    assert f"| `{preset.name}` | {' | '.join(cells)} |" in (root / "docs" / "performance.md").read_text()


@pytest.mark.parametrize("words, line", [
    (["attention", "--preset", "ubimoe-zcu102"], "ENGINE: must be left out with --preset ubimoe-zcu102, got 'attention'"),
    (["--preset", "ubimoe-zcu102", "--shape", "m=1"], "--shape: must not come with --preset ubimoe-zcu102"),
    (["--preset", "edgemoe-zcu102", "--clock", "100"], "--clock: must not come with --preset"),
])
def test_bad_input_is_one_line(capsys, words, line):
    assert cli.main(["estimate", *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and line in err and err.startswith("error: ") and err.count("\n") == 1
