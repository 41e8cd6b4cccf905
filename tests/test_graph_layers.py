"""Layers, weights and graphs: what they hold, what they refuse, and that nothing is read before it is asked for."""

import numpy as np
import pytest

from sparseloom.models.graph import Graph, Layer, StoredWeight, TernaryWeight

TRITS = np.array([[1, 0, -1], [0, 1, 1]], np.int8)


def linear(name="a", weight=None, **changes):
    weight = TernaryWeight(trits=TRITS, scale=0.5) if weight is None else weight
    return Layer(**{"name": name, "op": "linear", "shape": (2, 3), "format": "TQ2_0", "nbytes": 6, "weight": weight} | changes)


def vector(name="v"):
    return Layer(name=name, op="vector", shape=(4,), format="F32", nbytes=16, reason="stays on the host")


def test_a_weight_in_memory():
    weight = TernaryWeight(trits=TRITS, scale=np.float32(0.5))
    assert (weight.kind, weight.n, weight.k, weight.nbytes, weight.load() is weight) == ("ternary", 2, 3, 6, True)
    assert type(weight.scale) is float


@pytest.mark.parametrize(
    "trits, scale, kind, text",
    [
        (TRITS.astype(np.int16), 1.0, TypeError, "trits must be an int8 array"),
        (TRITS * np.int8(2), 1.0, ValueError, "trits must be -1, 0 or"),
        (TRITS, -1.0, ValueError, "scale must be finite and not negative, got -1.0"),
        (TRITS, np.nan, ValueError, "scale must be finite"),
    ],
)
def test_weights_that_are_refused(trits, scale, kind, text):
    with pytest.raises(kind, match=text):
        TernaryWeight(trits=trits, scale=scale)


def test_a_stored_weight_is_read_when_it_is_loaded_and_each_time():
    reads = []

    def read():
        reads.append(1)
        return TernaryWeight(trits=TRITS, scale=1.0)

    weight = StoredWeight(kind="ternary", format="TQ2_0", n=2, k=3, nbytes=6, read=read)
    graph = Graph(name="g", layers=[linear(weight=weight)])
    assert reads == [] and (graph["a"].n, graph["a"].k) == (2, 3)
    assert np.array_equal(graph["a"].weight.load().trits, TRITS) and len(reads) == 1
    weight.load()
    assert len(reads) == 2


def test_a_stored_weight_must_be_what_it_said():
    weight = StoredWeight(kind="ternary", format="x", n=3, k=2, nbytes=6, read=lambda: TernaryWeight(trits=TRITS, scale=1.0))
    with pytest.raises(ValueError, match=r"read must return a ternary weight \[3, 2\], got ternary \[2, 3\]"):
        weight.load()
    with pytest.raises(ValueError, match="n must be 1"):
        StoredWeight(kind="ternary", format="x", n=0, k=2, nbytes=6, read=None)
    with pytest.raises(TypeError, match="k must be an integer"):
        StoredWeight(kind="ternary", format="x", n=1, k=2.5, nbytes=6, read=None)


def test_where_layers_run():
    quantised = Layer(name="q", op="linear", shape=(2, 2), format="Q4_1", nbytes=3, reason="no engine takes Q4_1 weights")
    experts = Layer(name="e", op="other", shape=(2, 2, 2), format="F32", nbytes=32, reason="no matrix")
    graph = Graph(name="g", layers=[linear(), vector(), quantised, experts])
    assert [layer.runs_on for layer in graph.layers] == ["engine", "host", "unsupported", "unsupported"]
    assert [layer.name for layer in graph.on("unsupported")] == ["q", "e"] and graph.on("host") == (graph["v"],)
    assert (quantised.n, quantised.k) == (2, 2)
    with pytest.raises(ValueError, match="where must be one of engine, host, unsupported, got 'gpu'"):
        graph.on("gpu")


@pytest.mark.parametrize(
    "changes, kind, text",
    [
        ({"op": "conv"}, ValueError, "op must be one of linear, embedding, vector, convolution, other, got 'conv'"),
        (
            {"shape": (3, 2)},
            ValueError,
            r"layer a: a weight \[2, 3\] must be of a linear layer of that shape, got linear \(3, 2\)",
        ),
        ({"op": "embedding"}, ValueError, "layer a: a weight .* got embedding"),
        ({"shape": (2, 3.0)}, TypeError, "shape must be an integer"),
        ({"nbytes": -1}, ValueError, "nbytes must be 0"),
    ],
)
def test_layers_that_are_refused(changes, kind, text):
    with pytest.raises(kind, match=text):
        linear(**changes)


def test_a_layer_without_a_weight_says_why():
    with pytest.raises(ValueError, match="layer b: reason must be given when there is no weight"):
        Layer(name="b", op="vector", shape=(4,), format="F32", nbytes=16)
    with pytest.raises(ValueError, match="layer v: n and k are defined for linear layers, this is vector"):
        vector().n  # noqa: B018


def test_graphs():
    graph = Graph(name="g", layers=[linear(), vector()], metadata={"x": 1})
    assert graph["v"].op == "vector" and graph.layers[0].name == "a"
    with pytest.raises(KeyError):
        graph["z"]
    with pytest.raises(TypeError):
        graph.metadata["x"] = 2
    with pytest.raises(ValueError, match="layer names must be unique, got 'a' twice"):
        Graph(name="g", layers=[linear(), vector(), linear()])
