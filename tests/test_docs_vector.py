"""The figures that the vector engine's page quotes, computed anew: a change that moves one must move the page."""

import re

import pytest

from sparseloom.models.golden.function_errors import FUNCTIONS, worst_error
from sparseloom.models.spec.vector import Vector
from sparseloom.models.spec.vector_cycles import root_cycles
from sparseloom.models.spec.vector_job import FUNCTIONS as NAMES


@pytest.fixture
def page(root):
    return (root / "docs" / "vector.md").read_text()


def test_worst_errors(page):
    for name in FUNCTIONS:
        found = worst_error(name)
        row = f"| {name} | {found.inputs:,} | {found.worst:.2e} {found.kind} | {found.line:.2e} | {found.bound:.2e} |"
        assert row in page


def test_cycles(page):
    seen = set()
    rows = re.findall(r"^\| (`.*`) \| (\d) \| (\d+) \| ([\d,]+) \| ([\d.]+) % \|$", page, re.MULTILINE)
    for names, passes, constant, cycles, useful in rows:
        for name in re.findall(r"`(\w+)`", names):
            build = Vector(function=name)
            for m, k in ((197, 192), (1, 1), (3, 1000), (50, 7)):
                beats = -(-k // 8)
                assert build.cycles(build.job(m=m, k=k)) == m * beats + int(passes) * (beats - 1) + int(constant), (name, m, k)
            job = build.job(m=197, k=192)
            assert f"{build.cycles(job):,}" == cycles
            assert f"{100 * build.useful_fraction(job, build.cycles(job))['useful']:.2f}" == useful
            seen.add(name)
    assert seen == {*NAMES} - {"ilayernorm"}


def test_the_root(page):
    build = Vector(function="ilayernorm")
    assert root_cycles(build) + 1 == 12 * (build.divide_width + 2) + 8
    cycles = build.cycles(build.job(m=197, k=192))
    assert f"{root_cycles(build) + 1} in the default build, so 197\nrows of 192 take {cycles:,} cycles" in page


def test_widths(page):
    build = Vector()
    assert f"| {build.sum_width}, {build.square_width} bits |" in page and f"| {build.variance_width} bits |" in page
    assert f"| {build.normal_peak.bit_length()} bits and a sign |" in page
    assert f"| {build.value_width} bits with the sign |" in page
