"""``sparseloom list``: names come from the rooms, so that a new engine or verb shows without a change here."""

import json

import pytest

from sparseloom import cli
from sparseloom.models.spec.engines import ENGINES


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
