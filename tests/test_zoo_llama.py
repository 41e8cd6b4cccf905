"""The Llama forward pass against loops written from the definition, its hooks, its cache, and the files it refuses."""

import math

import gguf
import numpy as np
import pytest

from sparseloom.models.spec.errors import InputError
from sparseloom.models.zoo.llama import HEAD, KVCache, LlamaLM, watched

F32 = gguf.GGMLQuantizationType.F32
HEADS, KV_HEADS, WIDTH, INNER, LAYERS, BASE, EPS = 4, 2, 64, 96, 2, 1000.0, 1e-5
HEAD_WIDTH = WIDTH // HEADS
IDS = [1, 77, 3, 250, 299, 3, 12, 140]


@pytest.fixture(scope="module")
def model(tiny_llama):
    return LlamaLM.load(tiny_llama)


def stored(path):
    """The tensors as lists of Python floats."""
    return {t.name: gguf.dequantize(t.data, t.tensor_type).astype(float).tolist() for t in gguf.GGUFReader(path).tensors}


def dot(a, b):
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def times(matrix, x):
    return [dot(row, x) for row in matrix]


def norm(x, gain):
    root = math.sqrt(sum(v * v for v in x) / len(x) + EPS)
    return [v / root * g for v, g in zip(x, gain, strict=True)]


def interleaved(i):
    return 2 * i, 2 * i + 1


def halves(i):
    return i, i + HEAD_WIDTH // 2


def slow(weights, ids, pair=interleaved, kv_head=lambda head: head // (HEADS // KV_HEADS)):
    """Logits [m, vocabulary] by scalar loops: one position after the other, one head after the other."""

    def turn(x, position):
        x = list(x)
        for i in range(HEAD_WIDTH // 2):
            a, b = pair(i)
            angle = position * BASE ** (-2 * i / HEAD_WIDTH)
            x[a], x[b] = x[a] * math.cos(angle) - x[b] * math.sin(angle), x[a] * math.sin(angle) + x[b] * math.cos(angle)
        return x

    def split(x):
        return [x[at : at + HEAD_WIDTH] for at in range(0, len(x), HEAD_WIDTH)]

    keys, values, logits = [[] for _ in range(LAYERS)], [[] for _ in range(LAYERS)], []
    for position, token in enumerate(ids):
        x = weights["token_embd.weight"][token]
        for layer in range(LAYERS):
            w = {name.removeprefix(f"blk.{layer}.").removesuffix(".weight"): value for name, value in weights.items()}
            h = norm(x, w["attn_norm"])
            keys[layer].append([turn(k, position) for k in split(times(w["attn_k"], h))])
            values[layer].append(split(times(w["attn_v"], h)))
            mixed = []
            for head, q in enumerate(split(times(w["attn_q"], h))):
                q, kv = turn(q, position), kv_head(head)
                scores = [math.exp(dot(q, k[kv]) / math.sqrt(HEAD_WIDTH)) for k in keys[layer]]
                mixed += [sum(s * v[kv][d] for s, v in zip(scores, values[layer], strict=True)) / sum(scores)
                          for d in range(HEAD_WIDTH)]
            x = [a + b for a, b in zip(x, times(w["attn_output"], mixed), strict=True)]
            h = norm(x, w["ffn_norm"])
            gate, up = times(w["ffn_gate"], h), times(w["ffn_up"], h)
            h = [g / (1 + math.exp(-g)) * u for g, u in zip(gate, up, strict=True)]
            x = [a + b for a, b in zip(x, times(w["ffn_down"], h), strict=True)]
        logits.append(times(weights.get("output.weight", weights["token_embd.weight"]), norm(x, weights["output_norm.weight"])))
    return np.array(logits)


def test_the_forward_pass_is_the_definition(model, tiny_llama):
    expected = slow(stored(tiny_llama), IDS)
    logits = model.forward(IDS)
    assert logits.dtype == np.float32 and logits.shape == (len(IDS), 300)
    assert np.abs(expected).max() > 5
    np.testing.assert_allclose(logits, expected, atol=2e-4)


@pytest.mark.parametrize("other", [{"pair": halves}, {"kv_head": lambda head: head % KV_HEADS}])
def test_another_order_of_pairs_or_heads_would_show(model, tiny_llama, other):
    wrong = slow(stored(tiny_llama), IDS[:4], **other)
    assert np.abs(model.forward(IDS[:4])[1:] - wrong[1:]).max() > 0.1


def test_a_head_of_its_own_is_used(write_llama, tmp_path):
    head = np.random.default_rng(0).normal(size=(300, 64)).astype(np.float32)
    path = write_llama(tmp_path / "m.gguf", tensors={HEAD: (head, F32)})
    np.testing.assert_allclose(LlamaLM.load(path).forward(IDS[:3]), slow(stored(path), IDS[:3]), atol=2e-4)


@pytest.mark.parametrize("cuts", [[1] * 8, [8], [5, 1, 2], [3, 3, 1, 1]])
def test_steps_through_the_cache_are_the_whole_pass(model, cuts):
    cache, rows, at = KVCache(model.config), [], 0
    for count in cuts:
        rows.append(model.step(IDS[at : at + count], cache))
        at += count
        assert cache.length == at
    np.testing.assert_allclose(np.concatenate(rows), model.forward(IDS), atol=2e-4)


def test_chunks_do_not_show(model, monkeypatch):
    whole = model.forward(IDS)
    monkeypatch.setattr("sparseloom.models.zoo.llama.CHUNK", 3)
    np.testing.assert_allclose(model.forward(IDS), whole, atol=2e-4)


def test_the_last_row_alone(model):
    seen = []
    last = model.step(IDS, KVCache(model.config), watched(lambda name, x: seen.append((name, x.shape)), model.product), last=True)
    assert last.shape == (1, 300) and seen[-1] == (HEAD, (1, 64)) and seen[-2] == ("blk.1.ffn_down.weight", (8, 96))
    np.testing.assert_allclose(last[0], model.forward(IDS)[-1], atol=2e-4)


def test_every_product_goes_through_the_hook_in_order(model):
    seen = []
    logits = model.forward(IDS, watched(lambda name, x: seen.append((name, x.dtype, x.shape)), model.product))
    assert np.array_equal(logits, model.forward(IDS))
    assert tuple(name for name, *_ in seen) == model.products and len(seen) == 7 * LAYERS + 1
    block = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"]
    assert model.products[:7] == tuple(f"blk.0.{name}.weight" for name in block)
    assert {(dtype, shape[0]) for _, dtype, shape in seen} == {(np.dtype(np.float32), len(IDS))}
    assert [shape[1] for _, _, shape in seen] == [model.weights[name].shape[1] for name in model.products]
    silent = model.forward(IDS, lambda name, x: np.zeros((len(x), model.weights[name].shape[0]), np.float32))
    assert not silent.any()  # nothing but products reaches the logits


def test_the_input_of_a_product_is_what_its_layer_sees(model):
    seen = {}
    model.forward(IDS, watched(seen.__setitem__, model.product))
    x = model.embed(IDS)
    h = x / np.sqrt((x.astype(np.float64) ** 2).mean(axis=-1, keepdims=True) + EPS) * model.weights["blk.0.attn_norm.weight"]
    for part in "qkv":
        np.testing.assert_allclose(seen[f"blk.0.attn_{part}.weight"], h, rtol=1e-5)
    gate, up = (seen["blk.0.ffn_up.weight"] @ model.weights[f"blk.0.ffn_{part}.weight"].T for part in ("gate", "up"))
    np.testing.assert_allclose(seen["blk.0.ffn_down.weight"], gate / (1 + np.exp(-gate)) * up, rtol=1e-4, atol=1e-5)


def test_blocks_one_by_one_are_a_step(model):
    cache, x = KVCache(model.config), model.embed(IDS)
    for number in range(LAYERS):
        x = model.block(number, x, cache)
    assert np.array_equal(model.head(x), model.forward(IDS))


def test_replaced_weights_are_a_hook_and_leave_the_model_alone(model):
    name = "blk.1.ffn_up.weight"
    other, before = np.full_like(model.weights[name], 0.25), model.forward(IDS)
    changed = model.replaced({name: other})
    by_hook = model.forward(IDS, lambda product, x: x @ other.T if product == name else model.product(product, x))
    assert np.array_equal(changed.forward(IDS), by_hook) and not np.array_equal(by_hook, before)
    assert np.array_equal(model.forward(IDS), before)
    head = model.replaced({HEAD: np.zeros_like(model.weights[HEAD])})
    assert not head.forward(IDS).any() and np.array_equal(head.embed(IDS), model.embed(IDS))


@pytest.mark.parametrize("weights", [{"blk.2.ffn_up.weight": np.zeros((96, 64))}, {"blk.0.ffn_up.weight": np.zeros((64, 96))},
                                     {"output_norm.weight": np.zeros(64)}])
def test_replacements_that_fit_nowhere_are_refused(model, weights):
    with pytest.raises(ValueError, match="weights must have a product's name and shape"):
        model.replaced(weights)


def test_generation_is_greedy_and_ends_at_the_end_token(model):
    ids, expected = list(IDS), []
    for _ in range(6):
        expected.append(int(model.forward(ids)[-1].argmax()))
        ids.append(expected[-1])
    assert list(model.generate(IDS, 6)) == expected
    ending = LlamaLM(model.config, model.weights, {"tokenizer.ggml.eos_token_id": expected[2]})
    assert list(ending.generate(IDS, 6)) == expected[: expected.index(expected[2]) + 1]


def test_drawn_ids_depend_on_the_seed_alone(model):
    first, again, other = (list(model.generate(IDS, 8, 2.0, seed)) for seed in (1, 1, 2))
    assert first == again != other


def test_the_context_is_a_limit(model):
    assert model.forward([5] * 64).shape == (64, 300)
    with pytest.raises(ValueError, match="ids must be 1..64 more tokens, got 65"):
        model.forward([5] * 65)
    with pytest.raises(ValueError, match="got 0"):
        model.step([], KVCache(model.config))
    with pytest.raises(ValueError, match="prompt must not be empty"):
        next(model.generate([], 1))


def test_the_tokenizer_of_the_file(model):
    text = "And in 1611 there was <|im_end|>\n\u2603"
    ids = model.encode(text)
    assert model.decode(ids) == text and ids.count(2) == 1
    tokens = model.metadata["tokenizer.ggml.tokens"]
    assert [tokens[i] for i in model.encode("161 1")] == ["1", "6", "1", "\u0120", "1"]  # digits one by one
    assert len(model.encode("the LORD")) < len("the LORD")


MATRIX = "blk.1.attn_k.weight"


@pytest.mark.parametrize("change, word", [
    ({"arch": "qwen2"}, "general.architecture must be llama, got 'qwen2'"),
    ({"keys": {"llama.rope.scaling.type": "yarn"}}, "rope.scaling.type must be absent or none, got 'yarn'"),
    ({"keys": {"llama.block_count": None}}, "llama.block_count must be a positive number, got None"),
    ({"keys": {"llama.block_count": 1 << 21}}, "llama.block_count must be a positive number"),
    ({"keys": {"llama.attention.layer_norm_rms_epsilon": None}}, "layer_norm_rms_epsilon must be a positive number"),
    ({"keys": {"llama.attention.head_count": 3}}, "must divide into query heads"),
    ({"keys": {"llama.attention.head_count_kv": 3}}, "must divide into query heads"),
    ({"keys": {"llama.rope.dimension_count": 8}}, "rope.dimension_count must be the heads' width 16, got 8"),
    ({"keys": {"llama.block_count": 3}}, r"blk.2.attn_q.weight must have the shape \(64, 64\), got None"),
    ({"tensors": {MATRIX: None}}, r"blk.1.attn_k.weight must have the shape \(32, 64\), got None"),
    ({"tensors": {MATRIX: (np.zeros((64, 64), np.float32), F32)}}, r"must have the shape \(32, 64\), got \(64, 64\)"),
    ({"tensors": {MATRIX: (np.full((32, 64), np.nan, np.float32), F32)}}, "attn_k.weight must hold finite numbers"),
    ({"tensors": {"token_embd.weight": None}}, "must have the shape"),
    ({"tensors": {"rope_freqs.weight": (np.ones(8, np.float32), F32)}}, "rope_freqs.weight must be a tensor of this arch"),
])
def test_files_it_cannot_run_are_refused(write_llama, tmp_path, change, word):
    path = write_llama(tmp_path / "m.gguf", **change)
    with pytest.raises(InputError, match=word) as caught:
        LlamaLM.load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keys, word", [
    ({"tokenizer.ggml.model": "llama"}, "tokenizer.ggml.model must be gpt2, got 'llama'"),
    ({"tokenizer.ggml.pre": "qwen2"}, "tokenizer.ggml.pre must be smollm, got 'qwen2'"),
    ({"tokenizer.ggml.token_type": [1, 1]}, "tokens must be distinct and have a type each"),
    ({"tokenizer.ggml.tokens": ["a"] * 300}, "tokens must be distinct"),
    ({"tokenizer.ggml.tokens": None}, "tokens must be distinct"),
    ({"tokenizer.ggml.merges": ["a zzzzz"]}, "merges must join tokens of the list"),
    ({"tokenizer.ggml.merges": ["a"]}, "merges must join tokens of the list"),
])
def test_tokenizers_it_cannot_run_are_refused(write_llama, tmp_path, keys, word):
    model = LlamaLM.load(write_llama(tmp_path / "m.gguf", keys=keys))
    with pytest.raises(InputError, match=word):
        model.encode("a")


def test_a_file_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(b"not a model at all")
    with pytest.raises(InputError, match="file must be GGUF"):
        LlamaLM.load(path)
