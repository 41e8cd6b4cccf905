"""The NumPy language model against a slow one written from the published arithmetic, and against itself."""

import math

import numpy as np
import pytest

from sparseloom.models.graph import TernaryWeight
from sparseloom.models.zoo.checkpoint import expected_shapes
from sparseloom.models.zoo.matmulfree import CHUNK, MatmulFreeLM, choose, sigmoid

CONFIG = {"vocabulary": 13, "width": 8, "inner": 12, "layers": 3}
IDS = [3, 7, 0, 12, 7, 7, 1, 5, 9, 2]


def tiny(seed=0, embedding=1e-3):
    """A random model. Its embedding is small, so that the eps of the norms matters."""
    draw = np.random.default_rng(seed)
    matrices, others = expected_shapes(CONFIG)
    weights = {name: TernaryWeight(trits=draw.integers(-1, 2, shape).astype(np.int8), scale=draw.uniform(0.01, 0.3))
               for name, shape in matrices.items()}
    floats = {name: draw.uniform(0.5, 1.5, shape).astype(np.float32) for name, shape in others.items()}
    floats |= {name: draw.normal(size=value.shape).astype(np.float32) for name, value in floats.items() if "lower" in name}
    floats["embeddings.weight"] = draw.normal(size=(13, 8)).astype(np.float32) * np.float32(embedding)
    return MatmulFreeLM(weights, floats, CONFIG)


def reference(model, ids, mutant=None):
    """Logits by loops in double precision, token by token. ``mutant`` names one deliberate deviation."""
    eps = 1e-8 if mutant == "eps" else 1e-6
    f64 = {name: value.astype(float).tolist() for name, value in model.floats.items()}
    layers, width = CONFIG["layers"], CONFIG["width"]

    def norm(x, gain):
        rms = math.sqrt(sum(v * v for v in x) / len(x) + eps)
        return [v / rms * g for v, g in zip(x, gain, strict=True)]

    def bit_linear(name, x):
        x = norm(x, f64[f"{name}.norm.weight"])
        s_x = 127 / max(max(abs(v) for v in x), 1e-5)
        codes = [max(-128, min(127, round(v * s_x))) for v in x]
        weight = model.layers[f"{name}.weight"]
        return [sum(q * int(t) for q, t in zip(codes, row, strict=True)) / s_x * weight.scale for row in weight.trits]

    def logistic(v):
        return 1 / (1 + math.exp(-v))

    def silu(v):
        return v * logistic(v)

    p = [[math.exp(f64[f"lower_bounds.{n}"][j]) for j in range(width)] for n in range(layers)]
    share = [[p[n][j] / sum(row[j] for row in p) for j in range(width)] for n in range(layers)]
    bounds = [[sum(share[m][j] for m in range(n + 1)) - share[0][j] for j in range(width)] for n in range(layers)]
    memory, logits = [[0.0] * width for _ in range(layers)], []
    for token in ids:
        x = f64["embeddings.weight"][token]
        for n in range(layers):
            at = f"layers.{n}"
            y = norm(x, f64[f"{at}.attn_norm.weight"])
            f = [logistic(v) for v in bit_linear(f"{at}.attn.f_proj", y)]
            if n > 0 and mutant != "no lower bound":
                f = [b + (1 - b) * v for b, v in zip(bounds[n], f, strict=True)]
            i = [silu(v) * (1 - g) for v, g in zip(bit_linear(f"{at}.attn.i_proj", y), f, strict=True)]
            h = memory[n] = [a * b + c for a, b, c in zip(f, memory[n], i, strict=True)]
            g = bit_linear(f"{at}.attn.g_proj", y)
            if mutant == "norm on h":
                o = [a * silu(b) for a, b in zip(norm(h, f64[f"{at}.attn.g_norm.weight"]), g, strict=True)]
            else:
                o = [a * silu(b) for a, b in zip(norm(g, f64[f"{at}.attn.g_norm.weight"]), h, strict=True)]
            x = [a + b for a, b in zip(x, bit_linear(f"{at}.attn.o_proj", o), strict=True)]
            both = bit_linear(f"{at}.mlp.gate_proj", norm(x, f64[f"{at}.mlp_norm.weight"]))
            gate, up = both[: len(both) // 2], both[len(both) // 2 :]
            if mutant == "gate and up exchanged":
                gate, up = up, gate
            z = bit_linear(f"{at}.mlp.down_proj", [silu(a) * b for a, b in zip(gate, up, strict=True)])
            x = [a + b for a, b in zip(x, z, strict=True)]
        logits.append(bit_linear("lm_head", norm(x, f64["norm.weight"])))
    return np.array(logits)


@pytest.mark.parametrize("seed", range(4))
def test_forward_equals_the_slow_reference(seed):
    model = tiny(seed)
    expected = reference(model, IDS)
    # float32 against float64 through 21 products: relative rounding of about 1e-7 each, no code on a tie for these seeds.
    np.testing.assert_allclose(model.forward(IDS), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("mutant", ["eps", "no lower bound", "norm on h", "gate and up exchanged"])
def test_the_reference_tells_the_traps_apart(mutant):
    model = tiny()
    wrong = reference(model, IDS, mutant)
    assert np.abs(model.forward(IDS) - wrong).max() > 0.01 * np.abs(wrong).max()


def recorded(model, parts):
    """(products by layer, logits, last state) of the ids in consecutive ``parts``."""
    products = {name: [] for name in model.layers}

    def matmul(name, codes):
        assert codes.dtype == np.int8 and codes.shape[1] == model.layers[name].k
        products[name].append(model.product(name, codes))
        return products[name][-1]

    state, logits = model.state(), []
    for part in parts:
        out, state = model.step(part, state, matmul)
        logits.append(out)
    return {name: np.concatenate(rows) for name, rows in products.items()}, np.concatenate(logits), state


@pytest.mark.parametrize("cuts", [range(1, len(IDS)), (4,), (1, 9)])
def test_one_chunk_equals_token_by_token(cuts):
    model = tiny(1, embedding=1.0)
    whole, logits, state = recorded(model, [IDS])
    bounds = [0, *cuts, len(IDS)]
    products, stepped, last = recorded(model, [IDS[a:b] for a, b in zip(bounds, bounds[1:], strict=False)])
    assert set(products) == set(model.layers) and all(len(rows) == len(IDS) for rows in whole.values())
    for name, rows in whole.items():
        assert np.array_equal(rows, products[name]), name
    # Each row is computed by itself, but NumPy's vectorised exp may differ in the last bit with the position of an element.
    np.testing.assert_allclose(stepped, logits, rtol=1e-6)
    np.testing.assert_allclose(last, state, rtol=1e-6, atol=1e-9)


def test_the_hook_sees_every_layer_once_in_order():
    model, seen = tiny(2), []
    model.step(IDS, model.state(), lambda name, codes: seen.append(name) or model.product(name, codes))
    assert seen == list(model.layers) and len(seen) == 6 * CONFIG["layers"] + 1


def test_the_hook_decides_the_products():
    model = tiny(2)
    zero = model.forward(IDS, matmul=lambda name, codes: np.zeros((len(codes), model.layers[name].n), np.int32))
    assert np.array_equal(zero, np.zeros((len(IDS), CONFIG["vocabulary"]), np.float32))
    assert np.abs(model.forward(IDS)).max() > 0


def test_the_default_product_is_exact_at_the_extremes():
    k = 3000
    trits = np.stack([np.ones(k, np.int8), -np.ones(k, np.int8), np.random.default_rng(0).integers(-1, 2, k).astype(np.int8)])
    model = tiny()
    model = MatmulFreeLM({**model.layers, "wide": TernaryWeight(trits=trits, scale=1.0)}, model.floats, CONFIG)
    codes = np.random.default_rng(1).integers(-128, 128, (3, k), np.int8)
    codes[:2] = [[-128], [127]]
    got = model.product("wide", codes)
    assert got.dtype == np.int32
    assert got.tolist() == [[sum(int(a) * int(b) for a, b in zip(x, w, strict=True)) for w in trits] for x in codes]


def test_perplexity_is_the_definition_and_forward_chunks_change_nothing():
    model = tiny(3, embedding=1.0)
    ids = np.random.default_rng(5).integers(0, CONFIG["vocabulary"], CHUNK + 40)
    logits = model.step(ids, model.state())[0].astype(float)
    np.testing.assert_allclose(model.forward(ids), logits, rtol=1e-5, atol=1e-5)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    nll = [-math.log(p[t, ids[t + 1]]) for t in range(len(ids) - 1)]
    assert model.perplexity(ids) == pytest.approx(math.exp(sum(nll) / len(nll)), rel=1e-5)


def test_sampling_repeats_with_its_seed_and_greedy_is_the_argmax():
    model = tiny(1, embedding=1.0)
    first, again, other = (list(model.generate(IDS, 30, 1.0, seed)) for seed in (7, 7, 8))
    assert first == again != other and len(first) == 30
    greedy, ids = list(model.generate(IDS, 5)), list(IDS)
    for _ in range(5):
        ids.append(int(np.argmax(model.forward(ids)[-1])))
    assert greedy == ids[len(IDS) :]


def test_draws_follow_the_softmax():
    logits, draw = np.array([0.0, 1.0, -50.0, 2.0], np.float32), np.random.default_rng(0)
    counts = np.bincount([choose(logits, 0.5, draw) for _ in range(20000)], minlength=4) / 20000
    expected = np.exp(2.0 * logits) / np.exp(2.0 * logits).sum()
    np.testing.assert_allclose(counts, expected, atol=4 * math.sqrt(0.25 / 20000))


@pytest.mark.parametrize("prompt, temperature", [([], 0.0), ([1], -1.0), ([1], math.nan)])
def test_generate_refuses(prompt, temperature):
    with pytest.raises(ValueError, match="must not be empty and temperature not negative"):
        next(tiny().generate(prompt, 1, temperature))


def test_sigmoid_has_no_overflow():
    with np.errstate(all="raise", under="ignore"):
        got = sigmoid(np.array([-1e4, -1.0, 0.0, 1.0, 1e4], np.float32))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, [0, 1 / (1 + math.e), 0.5, math.e / (1 + math.e), 1], rtol=1e-6)
