"""Every engine family against golden and its closed forms, on compiled Verilog."""

import pytest

from sparseloom.models.spec.engines import ENGINES
from sparseloom.models.spec.ternary import TernaryEngine
from sparseloom.sim.conformance import MODES, check_build, draw_builds

pytestmark = pytest.mark.rtl

WIDE = [TernaryEngine(rows=16, lanes=20, datapath=datapath, max_k=1024, max_n=1024, max_m=2) for datapath in ("tree", "table")]


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("index", range(10))
def test_random_builds(name, index):
    build = draw_builds(ENGINES[name], 10, seed=2026)[index]
    seen = check_build(build, jobs=30, seed=index)
    assert seen.jobs == 30 * len(MODES) and seen.values > seen.jobs and seen.cycles > 30


@pytest.mark.parametrize("build", WIDE, ids=lambda build: build.datapath)
def test_wide_build(build):
    seen = check_build(build, jobs=6, seed=5, modes=("free", "both"))
    assert seen.values > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("index", range(60))
def test_many_random_builds(name, index):
    build = draw_builds(ENGINES[name], 60, seed=7)[index]
    assert check_build(build, jobs=30, seed=100 + index).values > 0
