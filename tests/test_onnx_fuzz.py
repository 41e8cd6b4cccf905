"""Damaged ONNX files: each is read, described, loaded and run, or refused by one InputError line; nothing else may happen.

The files are damaged and read in processes of their own, under a limit of memory and of time. A case is its seed:

    python tests/test_onnx_fuzz.py SEED        reads one damaged file in this process, with a traceback
"""

import importlib.util
import random
import resource
import signal
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest

from sparseloom.host.compiler import outline
from sparseloom.host.families import engine_for
from sparseloom.models.golden.onnx_engines import EngineOperations
from sparseloom.models.golden.onnx_int8 import Int8
from sparseloom.models.golden.onnx_run import run as run_graph
from sparseloom.models.golden.onnx_workload import workload
from sparseloom.models.importers import describe, load
from sparseloom.models.importers.onnx_check import describe_operators
from sparseloom.models.importers.onnx_file import load_onnx
from sparseloom.models.spec.engines import ENGINES
from sparseloom.models.spec.errors import InputError

MEMORY = 256 << 20  # bytes that reading and running a file of a few KB may add to the process
SECONDS = 5  # for one file
LIMIT = 1 << 16  # elements of a value
INTEGERS = [0, 1, 2, 3, 127, 128, 255, 65535, (1 << 31) - 1, 1 << 31, 1 << 40, (1 << 63) - 1, -1, -2, -(1 << 31), -(1 << 63)]
TEXTS = ["", "x", "y", "w", "Relu", "Quant", "com.microsoft", "qonnx.custom_op.general", "../x", "a\nb", "\ud7ff", "q" * 2000]


@cache
def tools():
    spec = importlib.util.spec_from_file_location("onnx_models", Path(__file__).with_name("onnx_models.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def originals():
    """Sound models, each with several of the forms that are recognised."""
    node, make, draw = tools().node, tools().make_model, np.random.default_rng(0)
    w = draw.normal(size=(8, 8)).astype(np.float32)
    codes = draw.integers(-100, 100, (8, 8)).astype(np.int8)
    x = {"x": ("float32", (2, 8))}
    block = [node("LayerNormalization", ["x", "g", "h"], ["n"]), *[node("MatMul", ["n", "w"], [each]) for each in "qkv"],
             node("Transpose", ["k"], ["kt"], perm=[1, 0]), node("MatMul", ["q", "kt"], ["s"]), node("Mul", ["s", "c"], ["t"]),
             node("Softmax", ["t"], ["p"]), node("MatMul", ["p", "v"], ["a"]), node("Gemm", ["a", "w", "g"], ["m"], transB=1),
             node("Mul", ["m", "r"], ["e0"]), node("Erf", ["e0"], ["e1"]), node("Add", ["e1", "one"], ["e2"]),
             node("Mul", ["m", "e2"], ["e3"]), node("Mul", ["e3", "half"], ["e4"]), node("Add", ["e4", "x"], ["y"])]
    numbers = {name: np.float32(value) for name, value in (("c", 0.35), ("r", 0.7071), ("one", 1), ("half", 0.5))}
    integer = [node("DynamicQuantizeLinear", ["x"], ["xq", "xs", "xz"]), node("MatMulInteger", ["xq", "q", "xz", "z"], ["i"]),
               node("Cast", ["i"], ["f"], to=1), node("Mul", ["xs", "s"], ["t"]), node("Mul", ["f", "t"], ["d"]),
               node("QuantizeLinear", ["d", "ys", "yz"], ["yq"]), node("DequantizeLinear", ["yq", "ys", "yz"], ["e"]),
               node("DequantizeLinear", ["q", "sc", "zc"], ["wq"], axis=0), node("MatMul", ["e", "wq"], ["y"])]
    quant = [node("Quant", ["x", "s", "z", "b"], ["xq"], domain=tools().QONNX, narrow=1, rounding_mode="HALF_UP"),
             node("Quant", ["w", "s", "z", "b"], ["wq"], domain=tools().QONNX, signed=1),
             node("BipolarQuant", ["w", "s"], ["wb"], domain="finn.custom_op.general"), node("MatMul", ["xq", "wq"], ["a"]),
             node("MatMul", ["a", "wb"], ["y"])]
    maps = [node("Conv", ["x", "p", "g"], ["a"], strides=[2, 2], kernel_shape=[2, 2]),
            node("Conv", ["a", "k"], ["b"], pads=[1, 1, 1, 1], auto_pad="NOTSET"),
            node("MaxPool", ["b"], ["c"], kernel_shape=[2, 2]), node("Resize", ["c", "", "r"], ["d"], mode="linear"),
            node("Shape", ["d"], ["e"]), node("Slice", ["e", "o", "t"], ["f"]), node("Concat", ["f", "m"], ["h"], axis=0),
            node("Reshape", ["d", "h"], ["i"]), node("Gather", ["i", "o"], ["j"], axis=1),
            node("Expand", ["j", "u"], ["l"]), node("Pad", ["l", "v"], ["y"])]
    i64 = {name: np.array(value, np.int64) for name, value in (("o", [0]), ("t", [1]), ("m", [-1]), ("u", [1, 4, 1]),
                                                               ("v", [0, 0, 0, 0, 1, 0]))}
    return [
        make(block, x, ["y"], {"w": w, "g": w[0], "h": w[1], **numbers}),
        make(integer, x, ["y"], {"q": codes, "z": np.int8(3), "s": np.float32(0.1), "ys": np.float32(0.2), "yz": np.uint8(9),
                                 "sc": np.abs(w[0]), "zc": codes[0]}, as_nodes=True),
        make(quant, x, ["y"], {"w": w, "s": np.float32(0.5), "z": np.float32(0), "b": np.float32(2)}),
        make(maps, {"x": ("float32", (1, 2, 4, 4))}, ["y"], {
            "p": w.reshape(8, 2, 2, 2), "g": w[0], "k": w[:4, :, None, None] * np.ones((3, 3), np.float32),
            "r": np.float32([1, 1, 2, 2]), **i64}),
    ]  # fmt: skip


def flip(data, rng):
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def truncate(data, rng):
    return data[: rng.randrange(len(data) + 1)]


def splice(data, rng):
    other, at = rng.choice(originals()), rng.randrange(len(data))
    start = rng.randrange(len(other))
    return data[:at] + other[start : start + rng.randrange(1, 64)] + data[at + rng.choice([0, 0, rng.randrange(64)]) :]


def repeat(data, rng):
    at = rng.randrange(len(data))
    return data[:at] + data[at : at + rng.randrange(1, 40)] * rng.choice([2, 30]) + data[at:]


def messages(message):
    """The message and all within it."""
    found = [message]
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for each in value if isinstance(value, list) or hasattr(value, "append") or hasattr(value, "add") else [value]:
                found += messages(each)
    return found


def rewrite(data, rng):
    """Another value of a field, a field more or less, somewhere in the message, which stays a message."""
    try:
        model = onnx.ModelProto.FromString(data)
    except Exception:
        return data
    message = rng.choice(messages(model))
    field = rng.choice(message.DESCRIPTOR.fields)
    present = getattr(message, field.name)
    repeated = hasattr(present, "extend")
    if field.type == field.TYPE_MESSAGE:
        if repeated and len(present) and rng.random() < 0.7:
            if rng.random() < 0.5:
                del present[rng.randrange(len(present))]
            else:
                present.add().CopyFrom(rng.choice(list(present)))
        else:
            message.ClearField(field.name)
        return model.SerializeToString()
    values = {field.CPPTYPE_STRING: [each.encode() for each in TEXTS] if field.type == field.TYPE_BYTES else TEXTS,
              field.CPPTYPE_FLOAT: [0.0, -1.0, 1e30, float("nan"), float("inf")],
              field.CPPTYPE_DOUBLE: [0.0, float("nan")]}.get(field.cpp_type, [*INTEGERS, *range(24)])
    if repeated and len(present) and rng.random() < 0.7:
        at = rng.randrange(len(present))
        attempt(lambda: present.__setitem__(at, rng.choice(values)) if rng.random() < 0.7 else present.__delitem__(at))
    elif repeated:
        attempt(lambda: present.append(rng.choice(values)))
    else:
        attempt(lambda: setattr(message, field.name, rng.choice(values)))
    return model.SerializeToString()


def attempt(change):
    try:
        change()
    except (ValueError, TypeError):  # a value that the field cannot have
        pass


def damaged(seed):
    """The bytes of a case: one to six injuries."""
    rng = random.Random(seed)
    data = rng.choice(originals())
    injuries = rng.choice([[flip, splice, truncate, repeat, flip], [rewrite], [rewrite], [rewrite]])
    for _ in range(rng.choice([1, 1, 2, 3, 6])):
        if data:
            data = rng.choice(injuries)(data, rng)
    return data


def read_case(seed, folder):
    """ "ran", "loaded" (then the interpreter refused) or "refused"; raises whatever else happens."""
    path, done = Path(folder, "model"), "refused"
    content = damaged(seed)
    path.write_bytes(content)
    try:
        if seed % 2:
            describe(path, float_weights="int8")
            graph = load(path, float_weights="int8")
        else:  # also what does not begin like a model
            graph = load_onnx(path, np.frombuffer(content, np.uint8), "int8")
        for layer in graph.on("engine"):
            layer.weight.load()
        describe_operators(graph.nodes)
        outline(graph, ENGINES[engine_for(graph)]())
        done = "loaded"
        inputs = {}
        for value in graph.nodes.inputs:
            sizes = [size if isinstance(size, int) and size < 64 else 1 for size in value.shape or ()]
            inputs[value.name] = np.ones(sizes, value.dtype)
        int8 = Int8(graph)
        run_graph(graph, inputs, limit=LIMIT)
        run_graph(graph, inputs, linear=int8.linear, coded=int8.coded, product=int8.product, limit=LIMIT)
        workload(graph, inputs, operations=EngineOperations(graph).operations, limit=LIMIT)
        return "ran"
    except InputError as error:
        if "\n" in str(error) or len(str(error)) > 3000:
            raise ValueError(f"not one line: {error}") from error
        return done
    finally:
        path.unlink()


def out_of_time(*_):
    raise TimeoutError(f"more than {SECONDS} s")


def worker(first, count):
    """Reads cases and prints a line before and after each."""
    originals()
    onnx.ModelProto.FromString(originals()[0])
    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, out_of_time)
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(first, first + count):
            print(seed, end=" ", flush=True)
            signal.setitimer(signal.ITIMER_REAL, SECONDS)
            try:
                outcome = read_case(seed, folder)
            except Exception as error:
                outcome = f"{type(error).__name__}: {error}".replace("\n", " ")
            signal.setitimer(signal.ITIMER_REAL, 0)
            print(outcome, flush=True)


def check(first, count):
    command = [sys.executable, __file__, "worker", str(first), str(count)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60 + count * SECONDS)
    cases = [line.partition(" ") for line in done.stdout.splitlines()]
    outcomes = {int(seed): outcome.strip() for seed, _, outcome in cases}
    tally = {what: list(outcomes.values()).count(what) for what in ("ran", "loaded", "refused")}
    failures = {seed: what for seed, what in outcomes.items() if what not in tally}
    assert not done.returncode, f"the process ended with {done.returncode} after {list(outcomes)[-1:]}: {done.stderr[-300:]}"
    assert failures == {} and len(outcomes) == count, f"python {Path(__file__).name} SEED shows one: {failures}"
    assert min(tally.values()) > 0, tally


def test_the_originals_are_sound_and_agree_with_onnxruntime(tmp_path):
    for content in originals():
        (tmp_path / "m").write_bytes(content)
        graph = load(tmp_path / "m")
        x = np.random.default_rng(1).normal(size=graph.nodes.inputs[0].shape).astype(np.float32)
        y, = run_graph(graph, {"x": x}).values()
        assert np.isfinite(y).all() and y.size
        if not any(node.domain for node in graph.nodes.nodes):
            # float32 sums in another order than onnxruntime's: seven digits, a few of them lost to cancellation.
            np.testing.assert_allclose(y, tools().reference(content, {"x": x})[0], rtol=1e-5, atol=1e-5)


def test_damaged_files():
    check(0, 300)


def test_a_product_that_lost_an_operand(tmp_path):
    """Seed 23354: scores times one value, before a softmax."""
    assert read_case(23354, tmp_path) == "loaded"


@pytest.mark.slow
@pytest.mark.parametrize("block", range(10))
def test_ten_thousand_damaged_files(block):
    check(1000 + 1000 * block, 1000)


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        worker(int(sys.argv[2]), int(sys.argv[3]))
    else:
        with tempfile.TemporaryDirectory() as place:
            print(read_case(int(sys.argv[1]), place))
