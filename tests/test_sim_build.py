"""What a build costs, and that it is paid once."""

import os
import resource

import pytest

from sparseloom.hdl.engines import component
from sparseloom.hdl.export import export
from sparseloom.models.spec.ternary import MAX_LANES, TernaryEngine
from sparseloom.sim.build import OPTIMISATIONS, design_of, library, verilate
from sparseloom.sim.toy import Toy, toy_design

pytestmark = pytest.mark.rtl

TYPICAL = TernaryEngine(rows=4, lanes=20, max_k=1024, max_n=1024)
WIDEST = [TernaryEngine(rows=MAX_LANES // 40, lanes=40, datapath=datapath, requantise=True, statistics=True)
          for datapath in ("tree", "table")]


def cpu_seconds():
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSELOOM_CACHE", str(tmp_path))


def test_typical_build_takes_at_most_15_seconds_once(empty_cache):
    start = cpu_seconds()
    path = library(TYPICAL)
    built = cpu_seconds()
    assert path.exists() and built - start <= 15
    written = os.stat(path).st_mtime_ns
    assert library(TYPICAL) == path and os.stat(path).st_mtime_ns == written
    assert cpu_seconds() - built < 0.5


@pytest.mark.slow
def test_each_optimisation_has_a_library_of_its_own():
    build = Toy()
    assert len({library(build, design=toy_design(build), opt=opt) for opt in OPTIMISATIONS}) == len(OPTIMISATIONS) > 1


def test_unknown_optimisation_is_refused():
    with pytest.raises(ValueError, match="opt must be one of quick, fast, got 'best'"):
        library(Toy(), design=toy_design(Toy()), opt="best")


@pytest.mark.slow
@pytest.mark.parametrize("build", WIDEST, ids=lambda build: build.datapath)
def test_conversion_of_the_widest_beat_takes_less_than_a_minute(build, tmp_path):
    start = cpu_seconds()
    verilate(export(component(build), build.name), tmp_path / "model")
    assert 0 < cpu_seconds() - start < 60


def test_design_is_the_export_of_the_component():
    build = TernaryEngine(rows=1, lanes=5, max_k=10, max_n=4, max_m=1)
    assert design_of(build) == export(component(build), build.name)
