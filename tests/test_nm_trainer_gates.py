"""Training on simulated gates: every loss, weight and momentum has the bits of the golden training, every job its cycles."""

import json
from dataclasses import replace

import numpy as np
import pytest

from sparseloom import cli
from sparseloom.host.train.data import load_data
from sparseloom.host.train.device import GoldenDevice
from sparseloom.host.train.network import load_network
from sparseloom.host.train.trainer import Recipe, Trainer
from sparseloom.models.spec.errors import InputError
from sparseloom.models.spec.nm_load import NmLoad
from sparseloom.sim.train_device import SMALL, SimTrainDevice

pytestmark = pytest.mark.rtl
ENGINES = {"nm_train", "nm_prune", "nm_update", "nm_load"}


def side_by_side(recipe, steps, network="digits-small"):
    """Train on both devices; the ledger of the gates."""
    network, data = load_network(network), load_data("shipped")
    golden = Trainer(network, data, GoldenDevice(SMALL), recipe)
    with SimTrainDevice() as device:
        simulated = Trainer(network, data, device, recipe)
        one, other = golden.start(), simulated.start()
        first = one.weights
        for _ in range(steps):
            one, other = golden.advance(one), simulated.advance(other)
            assert one.losses == other.losses
            for part in ("weights", "momentum"):
                for name, mine in getattr(one, part).items():
                    assert np.array_equal(mine.view(np.uint32), getattr(other, part)[name].view(np.uint32)), (part, name)
    assert len(set(one.losses)) == steps and all(not np.array_equal(first[name], w) for name, w in one.weights.items())
    ledger, wanted = device.ledger, golden.device.ledger
    assert {key[0] for key in ledger.entries} == ENGINES and set(ledger.entries) == set(wanted.entries)
    for key, entry in ledger.entries.items():
        assert entry.compared > entry.jobs and entry.wrong == entry.off == 0, key
        assert (entry.jobs, entry.cycles) == (wanted.entries[key].jobs, wanted.entries[key].cycles), key
    return ledger


def test_twenty_steps():
    ledger = side_by_side(Recipe(batch=4), 20)
    assert {key[3] for key in ledger.entries if key[0] == "nm_train"} >= {"1:1 os", "1:1 ws", "2:8 os"}
    assert {key[3] for key in ledger.entries if key[0] == "nm_load"} == {"rows", "columns", "transposed"}


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [
    Recipe(batch=4, scheme="dense"), Recipe(batch=5, nnz=1, group=4, pruned_decay=0.01, weight_decay=0.001),
    Recipe(batch=3, nnz=2, group=16, rule="lion", lr=0.001, scheme="forward"), Recipe(batch=4, nnz=4, group=8, scheme="backward"),
])
def test_twenty_steps_of_other_recipes(recipe):
    side_by_side(recipe, 20)


def test_a_fault_in_the_gates_is_found(monkeypatch):
    from sparseloom.sim import checked_run

    def flipped(build, job, outputs):
        results = collect(build, job, outputs)
        if build.name == "nm_train" and job.narrow:
            results["y"] = results["y"] ^ 0x40
        return results

    collect = checked_run.collect
    monkeypatch.setattr(checked_run, "collect", flipped)
    network, data = load_network("digits-small"), load_data("shipped")
    golden = Trainer(network, data, GoldenDevice(SMALL), Recipe(batch=4))
    with SimTrainDevice() as device:
        simulated = Trainer(network, data, device, Recipe(batch=4))
        assert golden.advance(golden.start()).losses != simulated.advance(simulated.start()).losses
    total = device.ledger.total("nm_train")
    narrow = [entry for key, entry in device.ledger.entries.items() if key[0] == "nm_train" and entry.wrong]
    # Every result that passes between layers, each time: outputs of three layers, input gradients of three.
    assert len(narrow) == 6 and total.wrong == 4 * (4 * 4 * 16 + 2 * 2 * 16 + 32 + 4 * 4 * 16 + 64 + 32) and total.off == 0


def test_the_verb(capsys):
    code = cli.main(["train", "digits-small", "--device", "sim", "--batch", "4", "--steps", "1", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert code == 0 and found["wrong"] == found["jobs_off"] == 0 < found["compared"]
    assert found["array_cycles"] == found["step_cycles"] and found["cycles"] == found["predicted_cycles"]
    assert found["basis"]["cycles"] == "rtl" and found["basis"]["predicted_cycles"] == "exact" and found["held_out_right"] >= 0
    capsys.readouterr()
    assert cli.main(["train", "digits-small", "--batch", "4", "--steps", "1", "--json"]) == 0
    golden = json.loads(capsys.readouterr().out)
    assert golden["losses"] == found["losses"] and golden["held_out_right"] == found["held_out_right"]


def test_a_training_moves_from_golden_models_to_gates(capsys, tmp_path):
    path = tmp_path / "t.safetensors"
    words = ["train", "digits-small", "--batch", "4", "--json"]
    assert cli.main([*words, "--steps", "3", "--checkpoint", str(path)]) == 0
    capsys.readouterr()
    assert cli.main(["train", "--resume", "--checkpoint", str(path), "--device", "sim", "--steps", "5", "--json"]) == 0
    moved = json.loads(capsys.readouterr().out)
    assert cli.main([*words, "--steps", "5"]) == 0
    assert json.loads(capsys.readouterr().out)["losses"] == moved["losses"] and moved["steps_now"] == 2


def test_a_network_too_large_for_the_gates_is_refused():
    with pytest.raises(InputError, match="digits: products must fit the array, got 'm must be 1..1024, got 3136'"):
        Trainer(load_network("digits"), load_data("shipped"), SimTrainDevice(), Recipe())


def test_a_batch_too_large_for_the_gates_is_refused(capsys):
    code = cli.main(["train", "digits-small", "--device", "sim", "--batch", "65", "--steps", "1"])
    assert code == 2 and "digits-small: products must fit the array, got 'm must be 1..1024, got 1040'" in capsys.readouterr().err


def test_a_map_too_large_for_the_loader_is_refused():
    machine = replace(SMALL, loader=NmLoad(words=1, rows=16, slots=4, map_words=64))
    trainer = Trainer(load_network("digits-small"), load_data("shipped"), GoldenDevice(machine), Recipe(batch=4))
    with pytest.raises(InputError, match="conv1, forward: jobs must fit the build of nm_load, got 'the map must fit"):
        trainer.advance(trainer.start())
