"""Packaging: every folder with Python in it is a listed package, and no room can be imported under its bare name."""

import subprocess
import sys
import tomllib

import pytest

ROOMS = ("models", "hdl", "perfmodel", "host", "sim", "fpga")


def unlisted(root, packages):
    """Packages that exist as folders and are missing from ``packages``."""
    found = set()
    for top in ("sparseloom", *ROOMS):
        for path in (root / top).rglob("*.py"):
            parts = path.relative_to(root).parent.parts
            if "templates" in parts:  # files to write beside the Verilog, not ours to run
                continue
            found.add(".".join(parts if top == "sparseloom" else ("sparseloom", *parts)))
    return found - set(packages)


@pytest.fixture
def packages(root):
    return tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]


def test_every_package_is_listed(root, packages):
    assert unlisted(root, packages) == set()
    assert unlisted(root, packages[1:]) == {packages[0]}


def test_every_package_has_an_init(root, packages):
    rooms = [name.removeprefix("sparseloom.") for name in packages]
    rooms = [room if room.split(".")[0] in ROOMS else f"sparseloom.{room}" for room in rooms if room != "sparseloom"]
    assert [room for room in rooms if not (root / room.replace(".", "/") / "__init__.py").is_file()] == []


@pytest.mark.parametrize("room", ROOMS)
def test_a_bare_name_is_refused(root, room):
    run = subprocess.run([sys.executable, "-c", f"import {room}"], cwd=root, capture_output=True, text=True)
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1] == (
        f"ImportError: import this package as sparseloom.{room}: under a bare name it would be a second copy")


def test_every_pin_is_in_the_lock(root):
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    lock = dict(line.split("==") for line in (root / "requirements.lock").read_text().splitlines() if "==" in line)
    wanted = project["dependencies"] + [
        line for tier, lines in project["optional-dependencies"].items() if tier != "train" for line in lines]
    names = [line.split(";")[0].split("[")[0].split("=")[0].split(">")[0].strip() for line in wanted]
    assert [name for name in names if name not in lock and name != "sparseloom"] == []
    assert len(names) > 15
