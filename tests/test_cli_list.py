"""``sparseloom list``: names come from the rooms, so that a new engine or verb shows without a change here."""

import dataclasses
import importlib
import json
import sys

import pytest

import sparseloom
from sparseloom import cli
from sparseloom.models.spec.boards import BOARDS
from sparseloom.models.spec.engines import ENGINES
from sparseloom.models.spec.ternary import TernaryEngine
from sparseloom.models.zoo.registry import MODELS

list_module = importlib.import_module("sparseloom.verbs.list")


@pytest.fixture
def asked(capsys):
    def ask(*words):
        assert cli.main(["list", *words]) == 0
        return capsys.readouterr().out

    return ask


def test_json_has_every_engine_and_verb(asked):
    result = json.loads(asked("--json"))
    assert set(result["engines"]) == set(ENGINES) != set()
    assert {"doctor", "list"} <= set(result["verbs"])
    assert [(section, name) for section, entries in result.items() for name, entry in entries.items() if not entry["about"]] == []


def test_text_shows_fields_only_when_asked(asked):
    short, long = asked(), asked("-v")
    assert "ternary_engine" in short and "lanes" in long
    assert len(long.splitlines()) > len(short.splitlines())


def test_every_figure_of_a_board_shows_its_basis(asked):
    boards = json.loads(asked("--json"))["boards"]
    assert set(boards) == set(BOARDS) != set()
    for name, board in BOARDS.items():
        assert boards[name]["fields"]["clock"] == dataclasses.asdict(board.clock)
        assert boards[name]["fields"]["part"] == {"value": board.part}
    assert f"({BOARDS['kv260'].clock.basis}: " in asked("-v")


def test_devices_are_those_of_the_front_door(asked):
    devices = json.loads(asked("--json"))["devices"]
    assert set(devices) == set(sparseloom.DEVICES) >= {"golden", "sim"}


def test_a_device_without_its_tier_tells_how_to_add_it(asked, monkeypatch):
    monkeypatch.setitem(sparseloom.DEVICES, "sim", ("sim.device", "SimDevice"))
    monkeypatch.delitem(sys.modules, "sparseloom.sim.device", raising=False)
    monkeypatch.setitem(sys.modules, "sparseloom.sim.runner", None)
    monkeypatch.setattr(list_module, "command_for_module", lambda name: f"add {name}")
    assert json.loads(asked("--json"))["devices"]["sim"] == {"about": "not installed: add sparseloom.sim.runner"}


def test_models_are_those_that_ship(asked):
    models = json.loads(asked("--json"))["models"]
    assert {name: entry["about"] for name, entry in models.items()} == {name: model.about for name, model in MODELS.items()} != {}


def test_defaults_of_an_engine(asked):
    fields = json.loads(asked("--json"))["engines"]["ternary_engine"]["fields"]
    assert fields["rows"] == {"value": TernaryEngine.rows} and fields["datapath"] == {"value": "tree"}
