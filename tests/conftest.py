"""What the tests share: where the repository is, what it tracks, and Hypothesis drawing the same cases every time."""

import gc
import importlib.util
import json
import subprocess
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import settings

settings.register_profile("house", deadline=None, derandomize=True)
settings.load_profile("house")


@pytest.fixture(scope="session")
def root():
    """The repository's root folder."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def tracked(root):
    """Every file that git tracks (and that has not been deleted since), as paths relative to the root."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True, text=True).stdout
    files = [Path(name) for name in listing.split("\0") if name and (root / name).is_file()]
    assert len(files) > 20
    return files


@pytest.fixture(scope="module", autouse=True)
def _collected():
    """Run the destructors, in which Amaranth complains of forgotten submodules, before the next file's tests."""
    yield
    gc.collect()


TINY_LLAMA = {
    "llama.block_count": 2, "llama.context_length": 64, "llama.embedding_length": 64, "llama.feed_forward_length": 96,
    "llama.attention.head_count": 4, "llama.attention.head_count_kv": 2, "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "llama.rope.freq_base": 1000.0, "llama.rope.dimension_count": 16, "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "smollm", "tokenizer.ggml.eos_token_id": 2,
}
CONTROL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def tiny_tokens():
    """Keys of a byte-level BPE of 300 tokens, three of them control tokens."""
    from sparseloom.models.zoo import MODELS
    from sparseloom.models.zoo.tokenizer import train_tokenizer

    model = json.loads(train_tokenizer(MODELS["kjv-matmulfree"].heldout, 300 - len(CONTROL_TOKENS)).to_str())["model"]
    tokens = CONTROL_TOKENS + sorted(model["vocab"], key=model["vocab"].get)
    return {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.merges": [" ".join(pair) for pair in model["merges"]],
            "tokenizer.ggml.token_type": [3 if token in CONTROL_TOKENS else 1 for token in tokens]}


def tiny_tensors():
    """Seeded tensors of the tiny model by name: ``(float32 array, GGML type)``."""
    draw, kinds = np.random.default_rng(7), gguf.GGMLQuantizationType
    shapes = {"attn_q": (64, 64), "attn_k": (32, 64), "attn_v": (32, 64), "attn_output": (64, 64), "ffn_gate": (96, 64),
              "ffn_up": (96, 64), "ffn_down": (64, 96)}
    tensors = {"token_embd.weight": (draw.normal(size=(300, 64)), kinds.Q8_0)}
    for block in range(2):
        for name, shape in shapes.items():
            tensors[f"blk.{block}.{name}.weight"] = (draw.normal(size=shape) * 1.5 / np.sqrt(shape[1]), kinds.Q4_1)
    for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "blk.1.attn_norm", "blk.1.ffn_norm", "output_norm"):
        tensors[f"{name}.weight"] = (draw.normal(1, 0.2, 64), kinds.F32)
    return {name: (value.astype(np.float32), kind) for name, (value, kind) in tensors.items()}


def write_gguf(path, arch, keys, tensors):
    """A GGUF file by the third-party writer: keys by the Python type of their value, tensors quantised by the third party."""
    writer = gguf.GGUFWriter(path, arch)
    add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string, list: writer.add_array}
    for key, value in keys.items():
        add[type(value)](key, value)
    for name, (value, kind) in tensors.items():
        writer.add_tensor(name, gguf.quantize(value, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="session")
def write_llama():
    """``write(path, arch, keys, tensors)``: the tiny Llama model with other keys and tensors; None leaves one out."""
    tokens = tiny_tokens()

    def write(path, arch="llama", keys=(), tensors=()):
        keys, tensors = {**TINY_LLAMA, **tokens, **dict(keys)}, {**tiny_tensors(), **dict(tensors)}
        return write_gguf(path, arch, {k: v for k, v in keys.items() if v is not None},
                          {k: v for k, v in tensors.items() if v is not None})

    return write


@pytest.fixture(scope="session")
def tiny_llama(write_llama, tmp_path_factory):
    """A GGUF file of a Llama model with seeded weights: 2 layers, width 64, 4 query and 2 key/value heads, 300 tokens."""
    return write_llama(tmp_path_factory.mktemp("llama") / "tiny.gguf")


@pytest.fixture(scope="session")
def onnx_tools():
    """The module ``onnx_models`` beside this file: small ONNX models, and their results by onnxruntime."""
    spec = importlib.util.spec_from_file_location("onnx_models", Path(__file__).with_name("onnx_models.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
