"""``sparseloom list``: names come from the rooms, so that a new engine or verb shows without a change here."""

import dataclasses
import importlib
import json

import pytest

from sparseloom import cli
from sparseloom.models.spec.engines import ENGINES
from sparseloom.models.spec.ternary import TernaryEngine

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


@dataclasses.dataclass(frozen=True)
class Board:
    """A board of this test."""

    luts: int
    clock_hz: float
    basis: dict


def test_a_preset_shows_the_basis_of_each_field(asked, monkeypatch):
    board = Board(luts=100, clock_hz=3e8, basis={"luts": "published", "clock_hz": "assumed"})
    registry = list_module._registry
    planted = {"BOARDS": {"b1": board}}
    monkeypatch.setattr(list_module, "_registry", lambda module, name: planted.get(name) or registry(module, name))
    assert json.loads(asked("--json"))["boards"] == {"b1": {"about": "A board of this test.", "fields": {
        "luts": {"value": 100, "basis": "published"}, "clock_hz": {"value": 3e8, "basis": "assumed"}}}}
    assert [line.split() for line in asked("-v").splitlines() if "luts" in line] == [["luts", "100", "(published)"]]


def test_defaults_of_an_engine(asked):
    fields = json.loads(asked("--json"))["engines"]["ternary_engine"]["fields"]
    assert fields["rows"] == {"value": TernaryEngine.rows} and fields["datapath"] == {"value": "tree"}
