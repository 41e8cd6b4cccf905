"""``estimate --preset`` of N:M training: the model's figures beside bound and published ones, and what was published of it."""

import json

import pytest

from sparseloom import cli
from sparseloom.models.spec.boards import BOARDS
from sparseloom.models.spec.nm_presets import NM_PRESETS
from sparseloom.perfmodel.published.nm import published
from sparseloom.perfmodel.published.rows import KINDS
from sparseloom.perfmodel.training import TrainingMachine, compare, step_groups
from sparseloom.perfmodel.training_tables import TABLES


def test_published_rows_say_what_they_are():
    rows = published()
    assert len(rows) == 6 and {row.kind for row in rows} <= set(KINDS)
    assert all(row.source == "arXiv:2309.13015" and "2:8" in row.covers and row.confidence == "primary" for row in rows)
    (speedup,) = published(metric="training_speedup_over_dense")
    (loss,) = published(metric="accuracy_loss")
    assert (speedup.value, speedup.unit, loss.value) == (1.75, "x", 0.56)


def test_the_board_and_what_nobody_published():
    board = BOARDS["vcu1525"]
    assert board.bandwidth.value == 4 * 64 / 8 * 2400e6 and (board.clock.value, board.clock.basis) == (200e6, "assumed")
    sat, ours = NM_PRESETS["sat-vcu1525"], NM_PRESETS["sparseloom-vcu1525"]
    assert sat.assumed == ["clock", "engines", "rows", "cols", "update_lanes"] and ours.assumed == ["clock"]
    pes = [preset.engines.value * preset.rows.value * preset.cols.value for preset in (sat, ours)]
    assert pes == [1024, 1024]


@pytest.mark.parametrize("name", NM_PRESETS)
def test_the_verb_tells_the_model_beside_bound_and_published(capsys, name):
    assert cli.main(["estimate", "--preset", name, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    for table in TABLES.values():
        step, key = compare(TrainingMachine.of(NM_PRESETS[name]), table, 2, 8), table.name.replace("-", "_")
        assert found[f"{key}_speedup"] == step["speedup"] and found[f"{key}_speedup_bound"] == step["speedup_bound"]
        assert found[f"{key}_sparse_array_cycles"] == step["sparse_array_cycles"]
        assert found[f"{key}_sparse_ms"] == 1e3 * step["sparse_seconds"]
        assert found["basis"][f"{key}_sparse_array_cycles"] == "exact" and found["basis"][f"{key}_speedup"] == "assumed"
    assert found["speedup_limit"] == 2.0 and found["assumed"] == NM_PRESETS[name].assumed
    assert {row["basis"] for row in found["published"]} == {"published"} and found["published"][0]["value"] == 1.75
    assert found["preset"]["rows"]["value"] == found["builds"]["array"]["rows"] == 32
    assert cli.main(["estimate", "--preset", name]) == 0
    text = capsys.readouterr().out
    assert "1.75" in text and f"{found['deit_s_speedup']:.3f}x" in text and f"{found['resnet18_speedup_bound']:.3f}x" in text
    assert "no norms" in text.replace("\n", " ") and "gains more than 2x" in text


@pytest.mark.parametrize("preset", NM_PRESETS.values(), ids=NM_PRESETS)
def test_the_document_quotes_what_is_computed(root, preset):
    text, machine, cells = " ".join((root / "docs" / "performance.md").read_text().split()), TrainingMachine.of(preset), []
    for table in TABLES.values():
        step = compare(machine, table, 2, 8)
        cells += [f"{step['sparse_array_cycles']:,}", f"{step['speedup']:.2f}x of {step['speedup_bound']:.2f}x",
                  f"{100 * step['sparse_of_bound']:.1f} %"]
    assert f"| `{preset.name}` | {' | '.join(cells)} |" in text
    if preset.name == "sparseloom-vcu1525":
        four, sixteen = (", ".join(f"{compare(machine, table, *pattern)['speedup']:.2f}x" for table in TABLES.values())
                         for pattern in ((2, 4), (2, 16)))
        assert f"At 2:4 `{preset.name}` gains {four} on the three networks, at 2:16 {sixteen}." in text


def test_memory_limits_no_product_of_the_networks_with_pixels():
    """What the document says of windows that are read anew."""
    for preset in NM_PRESETS.values():
        machine = TrainingMachine.of(preset, reuse=False)
        for name in ("resnet18", "deit-s"):
            placed = [one for stage, _ in step_groups(machine, TABLES[name], 2, 8) for one in stage]
            slow = [one.product for one in placed if one.bytes / machine.bandwidth > one.cycles / machine.clock]
            assert len(placed) > 60 and not slow


@pytest.mark.parametrize("words, line", [
    (["nm_train", "--preset", "sat-vcu1525"], "ENGINE: must be left out with --preset sat-vcu1525, got 'nm_train'"),
    (["--preset", "sat-vcu1525", "--shape", "m=1"], "--shape: must not come with --preset sat-vcu1525"),
    (["--preset", "sat-vcu1525", "--board", "vcu1525"], "--board: must not come with --preset"),
])
def test_bad_input_is_one_line(capsys, words, line):
    assert cli.main(["estimate", *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and line in err and err.startswith("error: ") and err.count("\n") == 1
