"""ONNX models that other people trained, run by the golden interpreter and by onnxruntime: the error in float32 and in int8.

python benchmarks/onnx_models.py [MODEL...] [--json]

float: every operator in float32, integer products exact, as the file says. int8: the products of layers in an engine's arithmetic
(weights int8 for each row or as stored, activations int8 for each token, exact sums). int8 attention: the products of two values
too. engines: products on the golden sparse chain, attention (without a mask), norms and activations by the attention and vector
engines' golden models, integers throughout; their cycles are exact. node by node: every operator alone, on the inputs that
onnxruntime computed, where a code that is rounded the other way changes nothing else. Errors are against onnxruntime, rms ones
over the standard deviation of its output. Models are downloaded once (90, 15, 69 and 21 MB) or taken from the folder of wheels
that SPARSELOOM_WHEELS names. Picture and font are matplotlib's.
"""

import argparse
import json
import time
from collections import Counter
from pathlib import Path

import matplotlib
import numpy as np
import onnx
import onnxruntime
from PIL import Image, ImageDraw, ImageFont

from sparseloom.host.compiler import compile_graph
from sparseloom.host.golden import GoldenDevice
from sparseloom.host.runtime import Runtime
from sparseloom.models.golden.onnx_call import Call
from sparseloom.models.golden.onnx_engines import EngineOperations
from sparseloom.models.golden.onnx_int8 import Int8
from sparseloom.models.golden.onnx_run import KERNELS, run
from sparseloom.models.spec.sparse_chain import SparseChain
from sparseloom.models.zoo.onnx_models import ONNX_MODELS

CHAIN = SparseChain()
LIMIT = 1e-4  # of the float path's largest error, where no code can flip
NODE_LIMIT, FLIPS = 1e-5, 1e-4  # of one operator: its float error over its largest result, the part of its integers that differ
SIZE, PATCH_MEAN, PATCH_DEVIATION = 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HEIGHT, TEXT = 48, "From a model file to Verilog: 2,048 int8 MACs"
TOKENS, DECODED = 48, 12
DATA = Path(matplotlib.get_data_path())


def picture():
    """The photograph of a face, kept in proportion, padded to a square and normalised as the model was trained."""
    image = Image.open(DATA / "sample_data" / "grace_hopper.jpg").convert("RGB")
    scale = SIZE / max(image.size)
    image = image.resize([round(each * scale) for each in image.size], Image.Resampling.BILINEAR)
    canvas = Image.new("RGB", (SIZE, SIZE))
    canvas.paste(image, ((SIZE - image.width) // 2, (SIZE - image.height) // 2))
    pixels = (np.asarray(canvas, np.float32) / 255 - np.float32(PATCH_MEAN)) / np.float32(PATCH_DEVIATION)
    return {"input_image": np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], np.float32)}


def line():
    """A line of text, black on white, in the values that the recogniser expects."""
    font = ImageFont.truetype(str(DATA / "fonts" / "ttf" / "DejaVuSans.ttf"), 32)
    width = round(font.getlength(TEXT)) + 24
    image = Image.new("RGB", (width, HEIGHT), "white")
    ImageDraw.Draw(image).text((12, 4), TEXT, "black", font)
    return {"x": np.ascontiguousarray((np.asarray(image, np.float32) / 127.5 - 1).transpose(2, 0, 1)[None])}


def ids(count, most, seed=0):
    return np.random.default_rng(seed).integers(3, most, (1, count))


def sentence():
    return {"input_ids": ids(TOKENS, 30000), "attention_mask": np.ones((1, TOKENS), np.int64),
            "token_type_ids": np.zeros((1, TOKENS), np.int64)}


def question():
    return {"input_ids": ids(TOKENS, 32000), "attention_mask": np.ones((1, TOKENS), np.int64)}


def answer():
    """For the decoder; states as an encoder would give them."""
    states = np.random.default_rng(1).normal(scale=0.2, size=(1, TOKENS, 512)).astype(np.float32)
    return {"input_ids": ids(DECODED, 32000, 1), "encoder_attention_mask": np.ones((1, TOKENS), np.int64),
            "encoder_hidden_states": states}


def peak(graph, y):
    """Where the map of a picture is highest."""
    row, column = np.unravel_index(y[0, 0].argmax(), y.shape[2:])
    return f"peak {y.max():.3f} at row {row}, column {column}"


def read(graph, y):
    """The text of the best class at each place: repeated classes once, class 0 nothing."""
    characters = ["", *graph.metadata["properties"]["character"].split("\n"), " "]
    best = y[0].argmax(axis=-1)
    kept = [int(each) for at, each in enumerate(best) if each and (not at or each != best[at - 1])]
    return repr("".join(characters[each] if each < len(characters) else "?" for each in kept))


def top(graph, y):
    """The token that comes next at each place."""
    return "next tokens " + " ".join(str(each) for each in y[0].argmax(axis=-1))


def direction(graph, y):
    mean = y[0].mean(axis=0)
    return mean / np.linalg.norm(mean)


# model: (inputs, what is made of the output, whether the file rounds activations to codes, which may flip)
CASES = {
    "vit-s14": (picture, peak, False), "svtr-ocr": (line, read, False), "minilm-int8": (sentence, direction, False),
    "flan-t5-encoder": (question, direction, True), "flan-t5-decoder": (answer, top, True),
}  # fmt: skip


def all_values(path, inputs):
    """Every value of the model as onnxruntime computes it, operator by operator."""
    proto = onnx.load(path)
    names = [name for node in proto.graph.node for name in node.output if name and node.op_type != "Constant"]
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(None, inputs), strict=True))


def node_by_node(graph, path, inputs):
    """How far each operator is from onnxruntime's on its inputs: floats over the largest of the result, integers by number."""
    values = dict(graph.nodes.constants) | inputs | all_values(path, inputs)
    worst, flipped, integers = 0.0, 0, 0
    for node in graph.nodes.nodes:
        call = Call(node, [values[name] if name else None for name in node.inputs], graph.nodes.opset, 1 << 28)
        with np.errstate(all="ignore"):
            found = KERNELS[node.op](call)
        for name, have in zip(node.outputs, found if isinstance(found, tuple) else (found,), strict=False):
            want, have = values[name] if name else have, np.asarray(have)
            if want.dtype.kind != "f":
                flipped, integers = flipped + int((have != want).sum()), integers + want.size
            elif want.size and np.isfinite(want).all():
                worst = max(worst, float(np.abs(have - want).max() / max(np.abs(want).max(), 1e-30)))
    return {"nodes": len(graph.nodes.nodes), "worst_float": worst, "integers": integers, "integers_that_differ": flipped}


def measure(name):
    make, meaning, flips = CASES[name]
    inputs, model = make(), ONNX_MODELS[name]
    graph = model.load()
    session = onnxruntime.InferenceSession(str(model.path), providers=["CPUExecutionProvider"])
    want, = session.run(None, inputs)
    int8 = Int8(graph)
    runtime, engines = Runtime(GoldenDevice(CHAIN), compile_graph(graph, CHAIN)), EngineOperations(graph)
    paths = {"float": {}, "int8": {"linear": int8.linear}, "int8 attention": {"linear": int8.linear, "product": int8.product},
             "engines": {"linear": runtime.linear, "operations": engines.operations}}
    row = {"model": name, "output": list(want.shape), "deviation": float(want.std()), "paths": {}}
    meant = meaning(graph, want)
    row["onnxruntime"] = meant if isinstance(meant, str) else ""
    for path, how in paths.items():
        began = time.monotonic()
        (have,) = run(graph, inputs, **how).values()
        seconds = time.monotonic() - began
        error = have.astype(np.float64) - want
        found = meaning(graph, have)
        row["paths"][path] = {
            "max_error": float(np.abs(error).max()), "rms_error": float(np.sqrt((error**2).mean()) / want.std()),
            "equal": float((have == want).mean()), "seconds": seconds,
            "meaning": found if isinstance(found, str) else f"cosine of mean vectors {float(found @ meant):.5f}",
        }  # fmt: skip
    cycles = Counter({"sparse_chain": sum(call.receipt.cycles for call in runtime.calls)})
    for each in engines.jobs:
        cycles[each.build.name] += each.build.cycles(each.job)
    row["cycles"], row["jobs"] = dict(cycles), len(runtime.calls) + len(engines.jobs)
    row["saturated"] = sum(each.saturated for each in engines.jobs)
    alone = row["node_by_node"] = node_by_node(graph, model.path, inputs)
    close = alone["worst_float"] <= NODE_LIMIT and alone["integers_that_differ"] <= FLIPS * alone["integers"]
    row["passed"] = close and (flips or row["paths"]["float"]["max_error"] <= LIMIT)
    row["basis"] = "measured"
    return row


def told(row):
    lines = [f"{row['model']}: output {row['output']}, deviation {row['deviation']:.3g}; {row['onnxruntime'] or 'a vector'}"]
    for path, found in row["paths"].items():
        lines.append(f"  {path:15} largest error {found['max_error']:.2e}, rms {found['rms_error']:.2e} of the deviation, "
                     f"{found['seconds']:.2f} s; {found['meaning']}")
    lines.append(f"  engines         {row['jobs']} operations, {row['saturated']} values clamped; cycles (exact, default builds) "
                 + ", ".join(f"{name} {count:,}" for name, count in row["cycles"].items()))
    alone = row["node_by_node"]
    lines.append(f"  node by node    {alone['nodes']} nodes: floats within {alone['worst_float']:.1e} of the largest, "
                 f"{alone['integers_that_differ']} of {alone['integers']:,} integers differ")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help=", ".join(CASES))
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    args = parser.parse_args()
    if unknown := [name for name in args.models if name not in CASES]:
        parser.error(f"MODEL must be one of {', '.join(CASES)}, got {unknown[0]!r}")
    rows = []
    for name in args.models or CASES:
        rows.append(measure(name))
        if not args.json:
            print(told(rows[-1]), "" if rows[-1]["passed"] else "\nABOVE ITS LIMIT", flush=True)
    if args.json:
        limits = {"float": LIMIT, "node": NODE_LIMIT, "flips": FLIPS}
        print(json.dumps({"limits": limits, "onnxruntime": onnxruntime.__version__, "rows": rows}))
    return int(not all(row["passed"] for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
