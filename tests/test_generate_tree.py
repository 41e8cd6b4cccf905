"""The folder that ``generate`` writes: the same every time, complete, free of the machine it was made on, whole or absent."""

import ast
import io
import json
import os
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import yaml

from sparseloom.cli import main
from sparseloom.fpga import package
from sparseloom.fpga.flows import render
from sparseloom.fpga.package import deliverable, write_tree
from sparseloom.hdl.bus.kernel_spec import KernelSpec
from sparseloom.models.spec.sparse_chain import SparseChain
from sparseloom.models.spec.ternary import TernaryEngine

pytestmark = pytest.mark.rtl

NAME = "tiny"
BUILDS = {
    "ternary": TernaryEngine(rows=2, lanes=5, max_k=32, max_n=16, max_m=2, requantise=True, statistics=True),
    "sparse": SparseChain(chains=2, window=16, codebook=True, max_k=150, max_n=9, max_m=3),
}
ARGUMENTS = ["ternary_engine", "--set=rows=2", "--set=lanes=5", "--set=max_k=32,max_n=16,max_m=2", "--set=requantise=true",
             "--set=statistics=true", "--bus", "y=4", "--name", NAME]
SPARSE_ARGUMENTS = ["sparse_chain", "--set=chains=2", "--set=window=16,codebook=true", "--set=max_k=150,max_n=9,max_m=3",
                    "--bus=y=4", "--name", NAME, "--vectors=12"]


def files_of(family):
    """Those of the sparse chain with so many vectors that each format and sparsity comes up."""
    return deliverable(KernelSpec(build=BUILDS[family], bus_bytes={"y": 4}), NAME, count=12 if family == "sparse" else 6)


@pytest.fixture(scope="module")
def ternary():
    return files_of("ternary")


@pytest.fixture(scope="module")
def sparse():
    return files_of("sparse")


@pytest.fixture(params=BUILDS)
def family(request):
    return request.param


@pytest.fixture
def files(family, request):
    return request.getfixturevalue(family)


def read_tree(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_another_process_writes_the_same_bytes(family, files, tmp_path):
    environment = {**os.environ, "PYTHONHASHSEED": "77", "TZ": "Asia/Tokyo"}
    arguments = SPARSE_ARGUMENTS if family == "sparse" else ARGUMENTS
    run = subprocess.run([Path(sys.executable).with_name("sparseloom"), "generate", *arguments, "-o", "deep/er/out", "--json"],
                         cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout)
    assert result["name"] == NAME and result["files"] == sorted(files)
    assert read_tree(tmp_path / "deep" / "er" / "out") == files
    assert os.listdir(tmp_path / "deep" / "er") == ["out"]


def test_no_trace_of_the_machine(files, root):
    for name, content in files.items():
        assert str(root).encode() not in content and os.path.expanduser("~").encode() not in content, name
        assert not re.search(rb"\b20[2-9]\d-\d\d-\d\d\b", content), name
    assert all(content for content in files.values()) and len(files) > 25


def test_every_file_that_is_named_is_there(files):
    assert files["filelist.f"].decode().split() == [f"rtl/{NAME}.v"]
    core = yaml.safe_load(files[f"{NAME}.core"].decode().removeprefix("CAPI=2:\n"))
    named = [path for group in core["filesets"].values() for path in group["files"]]
    assert len(named) == 3 and set(named) <= set(files)
    assert core["targets"]["lint"]["toplevel"] == NAME
    for entry in json.loads(files["vectors/vectors.json"]):
        assert {f"vectors/{path}" for side in ("send", "expect") for path in entry[side].values()} <= set(files)
    top = re.search(rf"^module {NAME} *\((.*?)\);", files[f"rtl/{NAME}.v"].decode(), re.MULTILINE | re.DOTALL)[1]
    ports = [port.strip() for port in top.split(",")]
    assert sorted(re.findall(r"^\| `(\w+)`", files["ports.md"].decode(), re.MULTILINE)) == sorted(ports)
    assert "{{" not in "".join(content.decode() for path, content in files.items() if not path.endswith((".npz", ".v")))


def test_the_bench_needs_no_sparseloom(files):
    """What a stranger has to install is what its README says: cocotb, cocotbext-axi, Verilator."""
    imported = set()
    for path in ("sim/run.py", "sim/kernel_bench.py"):
        for node in ast.walk(ast.parse(files[path])):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
                imported |= {name.partition(".")[0] for name in names}
    assert imported - set(sys.stdlib_module_names) == {"cocotb", "cocotb_tools", "cocotbext"}


def arrays_of(files):
    return np.load(io.BytesIO(files["vectors/vectors.npz"]))


def test_vectors_are_the_definition(ternary):
    """Results recomputed with plain integers from the arrays; the beats of the bus decoded by hand."""
    files, arrays = ternary, arrays_of(ternary)
    entries = json.loads(files["vectors/vectors.json"])
    assert len(entries) == 6
    for index, entry in enumerate(entries):
        job, x, w, y = entry["job"], *(arrays[f"job{index}_{name}"].astype(int) for name in ("in_x", "in_w", "out_y"))
        acc = [[sum(int(a) * int(b) for a, b in zip(token, row, strict=True)) for row in w] for token in x]
        if not job["requantise"]:
            assert y.tolist() == acc
        assert arrays[f"job{index}_out_absmax"].tolist() == [max(map(abs, row)) for row in acc]
        assert [int(value) for value in arrays[f"job{index}_out_squares"]] == [sum(value**2 for value in row) for row in acc]
        words = [int(line, 16) for line in files[f"vectors/job{index}_y.hex"].decode().split()]
        # 2 results of 32 bits above a row of 20 and a token of 5: 12 bytes, 3 beats of 4.
        seen = np.zeros_like(y)
        for low, middle, high in zip(words[::3], words[1::3], words[2::3], strict=True):
            record = low | middle << 32 | high << 64
            row, token = record & 0xFFFFF, record >> 20 & 31
            for lane in range(min(2, job["n"] - row)):
                value = record >> (25 + 32 * lane) & 0xFFFFFFFF
                seen[token, row + lane] = value - (value >> 31 << 32)
        assert np.array_equal(seen, y)
        assert len(files[f"vectors/job{index}_w.hex"].split()) == -(-job["n"] // 2) * -(-job["k"] // 5)


def sparse_result(job, operands, token, row):
    """y[token, row] of a job of the sparse chain, in Python integers and an exact fraction."""
    total = 0
    for column in range(job["k"]):
        group = column // job["scale_group"] if job["scale_group"] else 0
        x_group = column // job["x_group"] if job["x_group"] else 0
        code, x = int(operands["codes"][row, column]), int(operands["x"][token, column])
        if not operands["mask"][row, column]:
            continue
        zero = int(operands["zero"][row, group]) if "zero" in operands else 1 << job["bits"] - 1
        weight = int(operands["codebook"][code]) if job["codebook"] else code - zero
        offset = int(operands["offset"][row, group]) if "offset" in operands else 0
        total += x * (weight * int(operands["scale"][row, group]) + offset) * int(operands["x_scale"][token, x_group])
    # Python rounds a fraction half to even.
    return max(-(1 << 31), min((1 << 31) - 1, round(Fraction(total, 1 << job["shift"]))))


def test_sparse_vectors_are_the_definition(sparse):
    """As above: results recomputed, the beats decoded by hand."""
    arrays, compared, kinds = arrays_of(sparse), 0, set()
    entries = json.loads(sparse["vectors/vectors.json"])
    for index, entry in enumerate(entries):
        job, start = entry["job"], f"job{index}_in_"
        operands = {name.removeprefix(start): arrays[name] for name in arrays if name.startswith(start)}
        y = [[sparse_result(job, operands, token, row) for row in range(job["n"])] for token in range(job["m"])]
        assert arrays[f"job{index}_out_y"].tolist() == y
        words = [int(line, 16) for line in sparse[f"vectors/job{index}_y.hex"].decode().split()]
        seen = {}
        # 2 results of 32 bits above a row of 18 and a token of 8: 12 bytes, 3 beats of 4.
        for low, middle, high in zip(words[::3], words[1::3], words[2::3], strict=True):
            record = low | middle << 32 | high << 64
            row, token = record & 0x3FFFF, record >> 18 & 0xFF
            for chain in range(2):
                value = record >> (26 + 32 * chain) & 0xFFFFFFFF
                seen[token, row + chain] = value - (value >> 31 << 32)
        assert {place: value for place, value in seen.items() if place[1] < job["n"]} == {
            (token, row): y[token][row] for token in range(job["m"]) for row in range(job["n"])}
        assert all(value == 0 for (_, row), value in seen.items() if row >= job["n"])
        compared += len(seen)
        kinds |= {job["header"], *(["codebook"] * job["codebook"]), *(["N:M"] * (job["nnz"] < job["group"])),
                  *(["blocks"] * (job["block"] > 0))}
    assert compared > 100 and kinds == {"scale", "affine", "zero", "levels", "codebook", "N:M", "blocks"}


@pytest.mark.parametrize("extra, said", [
    (["--set=lanes=7"], "lanes"), (["--set=wings=2"], "wings"), (["--bus=q=4"], "'q'"), (["--bus=w=3"], "power of two"),
    (["--bus=w=wide"], "integer"), (["--bus=w=256"], "128"), (["--queue=3"], "power of two"), (["--name=A-b"], "identifier"),
    (["--name=../x"], "identifier"), (["--vectors=0"], "vectors"),
])
def test_bad_arguments_write_nothing(extra, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = [argument for argument in ARGUMENTS if argument.partition("=")[2].partition("=")[0] != "lanes"]
    assert main(["generate", *arguments, *extra, "-o", "out"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and said in err
    assert os.listdir(tmp_path) == []


def test_an_unknown_engine_is_refused(tmp_path, capsys):
    assert main(["generate", "warp_engine", "-o", str(tmp_path / "out")]) == 2
    assert "ternary_engine" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_folder_in_use_is_refused_or_replaced_whole(tmp_path):
    files = {"a/b.txt": b"new"}
    (tmp_path / "out").mkdir()
    write_tree(files, tmp_path / "out")
    with pytest.raises(ValueError, match="be empty or absent .* got '1 entries'"):
        write_tree({"c": b""}, tmp_path / "out")
    assert read_tree(tmp_path / "out") == files
    write_tree({"c": b"other"}, tmp_path / "out", force=True)
    assert read_tree(tmp_path) == {"out/c": b"other"}
    with pytest.raises(ValueError, match="be a folder"):
        write_tree(files, tmp_path / "out" / "c", force=True)


def test_a_failure_leaves_what_was_there(tmp_path, monkeypatch):
    write_tree({"old": b"1"}, tmp_path / "out")
    real = os.replace

    def fail_once(source, target):
        if Path(source).name == "new":
            raise OSError("full")
        real(source, target)

    monkeypatch.setattr(package.os, "replace", fail_once)
    with pytest.raises(OSError, match="full"):
        write_tree({"new": b"2"}, tmp_path / "out", force=True)
    assert read_tree(tmp_path) == {"out/old": b"1"}


def test_a_template_with_an_unknown_key_is_refused():
    assert render("a {{x}} {{{y}}}", {"x": 1, "y": 2}) == "a 1 {2}"
    with pytest.raises(KeyError):
        render("{{z}}", {"x": 1})
