"""Every engine family against golden and its closed forms, on compiled Verilog."""

import pytest

from sparseloom.models.spec.attention import Attention
from sparseloom.models.spec.engines import ENGINES
from sparseloom.models.spec.nm_train import NmTrain
from sparseloom.models.spec.sparse_chain import SparseChain
from sparseloom.models.spec.ternary import TernaryEngine
from sparseloom.models.spec.vector import Vector
from sparseloom.models.spec.vector_job import FUNCTIONS
from sparseloom.sim.conformance import MODES, check_build, draw_builds

pytestmark = pytest.mark.rtl

WIDE = {
    "tree": TernaryEngine(rows=16, lanes=20, datapath="tree", max_k=1024, max_n=1024, max_m=2),
    "table": TernaryEngine(rows=16, lanes=20, datapath="table", max_k=1024, max_n=1024, max_m=2),
    "chains": SparseChain(max_k=1536, max_n=576, max_m=2),
    "slots": Attention(p=4, d_lanes=16, score="two_pass", max_queries=50, max_keys=60, max_heads=2),
    "rows": Vector(max_k=192, max_m=5),
    "array": NmTrain(rows=32, cols=2, slots=16, words=4, ws_rows=60, max_m=100, max_n=80, max_k=700),
}
NOT_DRAWN = [function for function in FUNCTIONS if function not in
             {build.function for build in draw_builds(Vector, 10, seed=2026)}]
"""The vector engine's functions that none of its random builds has."""


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("index", range(10))
def test_random_builds(name, index):
    build = draw_builds(ENGINES[name], 10, seed=2026)[index]
    seen = check_build(build, jobs=30, seed=index)
    assert seen.jobs == 30 * len(MODES) and seen.values > seen.jobs and seen.cycles > 30


@pytest.mark.parametrize("name", WIDE)
def test_wide_build(name):
    seen = check_build(WIDE[name], jobs=6, seed=5, modes=("free", "both"))
    assert seen.values > 0


@pytest.mark.parametrize("function", NOT_DRAWN)
def test_every_function_of_the_vector_engine(function):
    seen = check_build(Vector(function=function, lanes=3, max_m=4, max_k=25, narrow=True), jobs=30, seed=3)
    assert seen.values > 30


@pytest.mark.slow
@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("index", range(60))
def test_many_random_builds(name, index):
    build = draw_builds(ENGINES[name], 60, seed=7)[index]
    assert check_build(build, jobs=30, seed=100 + index).values > 0
