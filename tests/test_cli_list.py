"""``sparseloom list``: names come from the rooms, so that a new engine or verb shows without a change here."""

import dataclasses
import json

import pytest

from sparseloom import cli
from sparseloom.models.spec.boards import BOARDS
from sparseloom.models.spec.engines import ENGINES
from sparseloom.models.spec.ternary import TernaryEngine
from sparseloom.models.zoo.registry import MODELS


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


def test_models_are_those_that_ship(asked):
    models = json.loads(asked("--json"))["models"]
    assert {name: entry["about"] for name, entry in models.items()} == {name: model.about for name, model in MODELS.items()} != {}


def test_defaults_of_an_engine(asked):
    fields = json.loads(asked("--json"))["engines"]["ternary_engine"]["fields"]
    assert fields["rows"] == {"value": TernaryEngine.rows} and fields["datapath"] == {"value": "tree"}
