"""Damaged model files: each either loads, with all its weights, or is refused by one InputError line; nothing else may happen.

The files are damaged and read in processes of their own, under a limit of memory and of time. A case is its kind and its seed:

    python tests/test_importers_fuzz.py KIND SEED        reads one damaged file in this process, with a traceback
"""

import json
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import gguf
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save

from sparseloom.models.formats import bitnet
from sparseloom.models.graph import GroupedWeight
from sparseloom.models.importers import describe, load
from sparseloom.models.importers.nm_file import save_nm
from sparseloom.models.spec.errors import InputError

FIXTURES = {"gptq": "gptq_act_order", "gptq_v2": "gptq_v2_3bit", "awq": "awq_gemm", "sparse": "ct_int8_sparse"}
QUANTISED = {"blocks": 3, "nm": 2, "gptq": 1, "gptq_v2": 1, "awq": 1, "sparse": 1}  # more kinds, with their engine layers
KINDS = ("gguf", "safetensors", "index", *QUANTISED)
MEMORY = 192 << 20  # bytes that reading a file of a few KB may add to the process
SECONDS = 3  # for one file
INTEGERS = [
    0,
    1,
    2,
    3,
    127,
    255,
    256,
    65535,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 40,
    (1 << 63) - 1,
    1 << 63,
    (1 << 64) - 1,
]
TOKENS = [
    b"0",
    b"-1",
    b"1e999",
    b"9" * 30,
    b"NaN",
    b"null",
    b"true",
    b"[]",
    b"{}",
    b'""',
    b"[" * 2000,
    b'"../../x"',
    b'"\\ud800"',
    b",",
]


@cache
def originals():
    """Sound files by kind: (content, length of the part that tells the rest where it is)."""
    trits = np.random.default_rng(0).integers(-1, 2, (8, 256), np.int8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "m")
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_array("tokens", ["a", "bc", "d"])
        writer.add_array("numbers", [1, 2, 3])
        writer.add_float32("eps", 1e-5)
        writer.add_custom_alignment(32)
        for name, qtype in (("a.weight", gguf.GGMLQuantizationType.TQ1_0), ("b.weight", gguf.GGMLQuantizationType.TQ2_0)):
            writer.add_tensor(name, gguf.quantize(trits * np.float32(0.5), qtype), raw_dtype=qtype)
        writer.add_tensor("norm", np.ones(16, np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        gguf_file, gguf_header = path.read_bytes(), gguf.GGUFReader(path).data_offset
    packed = bitnet.pack(trits[:, :32]).tobytes()
    header = {
        "__metadata__": {"quantization_config": json.dumps({"quant_method": "bitnet", "linear_class": "bitlinear"})},
        "a.weight": {"dtype": "U8", "shape": [2, 32], "data_offsets": [0, 64]},
        "a.weight_scale": {"dtype": "F32", "shape": [1], "data_offsets": [64, 68]},
        "a.bias": {"dtype": "BF16", "shape": [7], "data_offsets": [68, 82]},
    }
    text = json.dumps(header).encode()
    safetensors_file = struct.pack("<Q", len(text)) + text + packed + struct.pack("<f", 3.0) + bytes(14)
    index = json.dumps(
        {"metadata": {"total_size": 82}, "weight_map": {name: "shard" for name in header if name[0] == "a"}}
    ).encode()
    return {
        "gguf": (gguf_file, gguf_header),
        "safetensors": (safetensors_file, 8 + len(text)),
        "index": (index, len(index)),
        "blocks": gguf_blocks(),
        "nm": nm_container(),
    } | {kind: fixture(case) for kind, case in FIXTURES.items()}


def gguf_blocks():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "m")
        writer = gguf.GGUFWriter(path, "llama")
        for name in ("Q4_0", "Q4_1", "Q8_0"):
            kind = gguf.GGMLQuantizationType[name]
            writer.add_tensor(name, gguf.quantize(np.ones((4, 64), np.float32), kind), raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path.read_bytes(), gguf.GGUFReader(path).data_offset


def nm_container():
    rng = np.random.default_rng(1)
    mask = np.tile(np.arange(8) % 4 < 2, (64, 4))
    parts = {"scale": np.ones((64, 4), np.float32), "scale_group": 8, "bits": 4}
    codes = np.where(mask, rng.integers(0, 16, mask.shape), 0).astype(np.uint8)
    order = rng.permutation(32).astype(np.int32)
    weights = {"a": GroupedWeight(codes=codes, mask=mask, nnz=2, group=4, **parts),
               "b": GroupedWeight(codes=codes, zero=np.ones((64, 4), np.uint8), order=order, **parts)}  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        save_nm(Path(folder, "m"), weights)
        return with_header(Path(folder, "m").read_bytes())


def fixture(case):
    """A fixture's tensors with its config in the metadata; scales in float32, since NumPy has no bfloat16."""
    folder = Path(__file__).parent / "fixtures" / "quantised" / case
    config = json.loads((folder / "config.json").read_text())["quantization_config"]
    with safe_open(folder / "model.safetensors", "numpy") as file:
        scale = "proj.weight_scale"
        tensors = {name: file.get_tensor(name) for name in file.keys() if name != scale}
        if scale in file.keys():
            tensors[scale] = np.ones(file.get_slice(scale).get_shape(), np.float32)
    return with_header(save(tensors, {"quantization_config": json.dumps(config)}))


def with_header(data):
    return data, 8 + int.from_bytes(data[:8], "little")


def truncate(data, at, rng):
    return data[: rng.choice([at, rng.randrange(len(data) + 1)])]


def flip(data, at, rng):
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :] if at < len(data) else data


def inflate(data, at, rng):
    size = rng.choice([1, 2, 4, 8])
    value = (rng.choice(INTEGERS) + rng.choice([-1, 0, 0, 1])) % (1 << 8 * size)
    return data[:at] + value.to_bytes(size, "little") + data[at + size :]


def splice(data, at, rng):
    other = originals()[rng.choice(KINDS)][0]
    start = rng.randrange(len(other))
    return data[:at] + other[start : start + rng.randrange(1, 64)] + data[at + rng.choice([0, 0, rng.randrange(64)]) :]


def token(data, at, rng):
    return data[:at] + rng.choice(TOKENS) + data[at + rng.choice([0, 1, 2, 8]) :]


def rewrite(data, at, rng):
    """Another value, or another key, somewhere in a JSON header, or JSON text in its metadata, that stays JSON."""
    prefix = 8 if data[8:9] == b"{" else 0
    try:
        size = int.from_bytes(data[:prefix], "little") if prefix else len(data)
        root = json.loads(data[prefix : prefix + size])
    except ValueError:
        return data
    metadata = root.get("__metadata__") if isinstance(root, dict) else None
    texts = {}
    for key, value in metadata.items() if isinstance(metadata, dict) else ():
        try:
            texts[key] = json.loads(value)
        except (TypeError, ValueError):
            pass
    if texts:
        metadata |= texts
    places = [(root, key) for key in root]
    for node, key in places:
        if isinstance(node[key], dict | list):
            places += [(node[key], k) for k in (node[key] if isinstance(node[key], dict) else range(len(node[key])))]
    if not places:
        return data
    node, key = rng.choice(places)
    number = rng.choice(
        [*INTEGERS, -1, 0.5, True, None, "x", "../x", [], {}, [0, 0], "F32", "F4", "I64", "shard", *range(4, 90, 7)]
    )
    if isinstance(node, dict) and rng.random() < 0.3:
        node[rng.choice(["a.weight", "a.bias", "b", "../b", "", "__metadata__"])] = node.pop(key)
    elif isinstance(node[key], int) and rng.random() < 0.5:
        node[key] += rng.choice([-4, -1, 1, 4, 64])
    else:
        node[key] = number
    for key in texts:
        if key in metadata:
            metadata[key] = json.dumps(metadata[key])
    text = json.dumps(root).encode()
    return len(text).to_bytes(8, "little")[:prefix] + text + data[prefix + size :]


def damaged(kind, seed):
    """The bytes of a case: one to four injuries, most of them in the header."""
    rng = random.Random(f"{kind} {seed}")
    data, header = originals()[kind]
    injuries = [truncate, flip, flip, inflate, inflate, splice]
    if kind not in ("gguf", "blocks"):
        injuries = rng.choice([[*injuries, token, token], [rewrite]])
    for _ in range(rng.choice([1, 1, 2, 4])):
        if data:
            at = rng.randrange(header if rng.random() < 0.6 else len(data)) % len(data)
            data = rng.choice(injuries)(data, at, rng)
    return data


def read_case(kind, seed, folder):
    """ "loaded", or "refused"; raises whatever else happens."""
    path = Path(folder, "model")
    path.write_bytes(damaged(kind, seed))
    Path(folder, "shard").write_bytes(originals()["safetensors"][0])
    try:
        describe(path)
        for layer in load(path, i2_s="x86").on("engine"):
            layer.weight.load()
        return "loaded"
    except InputError as error:
        if "\n" in str(error) or len(str(error)) > 1000:
            raise ValueError(f"not one line: {error}") from error
        return "refused"
    finally:
        path.unlink()


PLANTS = {
    "exception": lambda: {}["x"],
    "hang": lambda: signal.pause(),
    "stuck": lambda: (signal.setitimer(signal.ITIMER_REAL, 0), signal.pause()),
    "memory": lambda: bytearray(1 << 30),
    "crash": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "none": lambda: None,
}


def out_of_time(*_):
    raise TimeoutError(f"more than {SECONDS} s")


def worker(kind, first, count, plant):
    """Reads cases and prints a line before and after each; ``plant`` is done at the third, to try the harness itself."""
    originals()
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
                if seed == first + 2:
                    PLANTS[plant]()
                outcome = read_case(kind, seed, folder)
            except Exception as error:
                outcome = f"{type(error).__name__}: {error}".replace("\n", " ")
            signal.setitimer(signal.ITIMER_REAL, 0)
            print(outcome, flush=True)


def run(kind, first, count, plant="none", seconds=None):
    """``(outcomes by seed, failures)`` of a worker process; a failure is the seed and what became of it."""
    command = [sys.executable, __file__, "worker", kind, str(first), str(count), plant]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds or 60 + count * SECONDS)
        output, end = done.stdout, f"the process ended with {done.returncode} {done.stderr[-300:]}"
    except subprocess.TimeoutExpired as error:
        output, end = (error.stdout or b"").decode(), "the process had to be killed"
    cases = [line.partition(" ") for line in output.splitlines()]
    outcomes = {int(seed): outcome.strip() or end for seed, _, outcome in cases}
    if len(outcomes) < count and end not in outcomes.values():
        outcomes[first + len(outcomes)] = end
    return outcomes, {f"{kind} {seed}": what for seed, what in outcomes.items() if what not in ("loaded", "refused")}


def check(kind, first, count):
    outcomes, failures = run(kind, first, count)
    assert failures == {} and len(outcomes) == count, f"python {Path(__file__).name} KIND SEED shows one: {failures}"
    tally = [list(outcomes.values()).count(what) for what in ("loaded", "refused")]
    assert min(tally) > 0, f"loaded, refused: {tally}"


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files(kind):
    check(kind, 0, 120)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(10))
@pytest.mark.parametrize("kind", KINDS)
def test_ten_thousand_damaged_files(kind, block):
    check(kind, 1000 + 340 * block, 340)


@pytest.mark.parametrize("kind", KINDS)
def test_the_originals_are_sound(kind, tmp_path):
    content = originals()[kind][0]
    (tmp_path / "model").write_bytes(content)
    (tmp_path / "shard").write_bytes(originals()["safetensors"][0])
    engine = load(tmp_path / "model").on("engine")
    rows = [layer.weight.load().n for layer in engine]
    assert rows == ([8, 8] if kind == "gguf" else [7]) if kind not in QUANTISED else len(rows) == QUANTISED[kind]


@pytest.mark.parametrize(
    "plant, told",
    [
        ("exception", "KeyError"),
        ("hang", "TimeoutError"),
        ("memory", "MemoryError"),
        ("crash", "ended with -11"),
        ("stuck", "killed"),
    ],
)
def test_the_harness_sees_what_it_must(plant, told):
    _, failures = run("gguf", 0, 4, plant, seconds=3 if plant == "stuck" else None)
    assert list(failures) == ["gguf 2"] and told in failures["gguf 2"]


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        worker(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
    else:
        with tempfile.TemporaryDirectory() as place:
            print(read_case(sys.argv[1], int(sys.argv[2]), place))
