"""The loader's gates beside a convolution: what is not read, and three products from operands that they deliver."""

import numpy as np
import pytest

from sparseloom.models.formats.bf16 import from_bf16, to_bf16
from sparseloom.models.formats.engines import Image, collect, pack
from sparseloom.models.golden.nm_load import phase_weights
from sparseloom.models.spec.engine import Status
from sparseloom.models.spec.nm_load import NmLoad
from sparseloom.models.spec.nm_load_window import forward_window, gradient_phases
from sparseloom.sim.pysim import PySimulator
from sparseloom.sim.runner import Work

pytestmark = pytest.mark.rtl

BUILD = NmLoad(words=2, rows=8, slots=4, map_words=64)


def load(jobs, maps, **options):
    """(operands float64 without the repeats' axis, completion records) of jobs on maps of small numbers."""
    works = [Work(job, pack(BUILD, job, {"x": to_bf16(x.astype(np.float32))})) for job, x in zip(jobs, maps, strict=True)]
    receipts = PySimulator(BUILD).run(works, **options)
    found = [collect(BUILD, job, receipt.outputs)["w"][0] for job, receipt in zip(jobs, receipts, strict=True)]
    return [from_bf16(bits.view(to_bf16(np.zeros(1, np.float32)).dtype)).astype(np.float64) for bits in found], receipts


def test_three_products_of_a_convolution():
    """A layer of 3 x 3 with stride 2 and pad 1: forward, gradient of the weights, gradient of the input phase by phase."""
    rng = np.random.default_rng(8)
    x = rng.integers(-5, 6, (2, 5, 6, 16)).astype(np.float64)
    w = rng.integers(-5, 6, (16, 3, 3, 16)).astype(np.float64)
    window = forward_window(5, 6, 3, 2, 1)
    dy = rng.integers(-5, 6, (2, window.out_height, window.out_width, 16)).astype(np.float64)
    sizes = {"batch": 2, "channels": 16}
    of_x, of_dy = sizes | {"height": 5, "width": 6}, sizes | {"height": window.out_height, "width": window.out_width}
    phases = [phase for phase in gradient_phases(5, 6, 3, 2, 1) if phase.window]
    jobs = [BUILD.job(**of_x, **vars(window)), BUILD.job(**of_x, **vars(window), order="columns"),
            BUILD.job(**of_dy, order="transposed"), *(BUILD.job(**of_dy, **vars(phase.window)) for phase in phases)]
    (a, b, turned, *gathered), _ = load(jobs, [x, x, *([dy] * (1 + len(phases)))])
    y, dx, dw = np.zeros(dy.shape), np.zeros(x.shape), np.zeros(w.shape)
    for oy, ox, ky, kx in np.ndindex(*dy.shape[1:3], 3, 3):
        iy, ix = 2 * oy + ky - 1, 2 * ox + kx - 1
        if 0 <= iy < 5 and 0 <= ix < 6:
            y[:, oy, ox] += x[:, iy, ix] @ w[:, ky, kx].T
            dx[:, iy, ix] += dy[:, oy, ox] @ w[:, ky, kx]
            dw[:, ky, kx] += dy[:, oy, ox].T @ x[:, iy, ix]
    pixels = len(dy.reshape(-1, 16))
    assert (a[:pixels] @ w.reshape(16, -1).T == y.reshape(-1, 16)).all() and not a[pixels:].any()
    assert (turned[:, :pixels] @ b[:, :144] == dw.reshape(16, -1)).all() and not turned[:, pixels:].any() and not b[:, 144:].any()
    for phase, rows in zip(phases, gathered, strict=True):
        want = dx[:, phase.row :: 2, phase.column :: 2].reshape(-1, 16)
        assert (rows[: len(want)] @ phase_weights(w, phase).T == want).all()


def test_nothing_is_read_outside_the_map():
    """Where all is padding no request can be refused; beside it, one pixel of each image is read."""
    shape = {"batch": 2, "height": 3, "width": 3, "channels": 16, "taps_y": 2, "taps_x": 2}
    outside = [BUILD.job(**shape, **start) for start in ({"start_y": -4}, {"start_x": -4}, {"start_y": 3}, {"start_x": 3})]
    beside = BUILD.job(**shape, out_height=1, out_width=1, start_y=-1, start_x=-1)
    jobs = [*outside, beside]
    operands, receipts = load(jobs, [np.ones((2, 3, 3, 16))] * len(jobs), stall=0.9, seed=3)
    assert [receipt.done["stall_x"] > 0 for receipt in receipts] == [False] * 4 + [True]
    assert [int(operand.sum()) for operand in operands] == [0] * 4 + [32]


def test_a_job_of_another_build_is_refused():
    """A loader that has no transposer says so."""
    build = NmLoad(words=1, rows=12, slots=4, map_words=16)
    job = build.job(width=2)
    image = pack(build, job, {"x": to_bf16(np.ones((1, 1, 2, 1), np.float32))})
    work = Work(job, Image({}, image.buffers), values={"turn": 1}, beats={"w": 0})
    refused, after = PySimulator(build).run([work, Work(job, image)])
    assert (refused.done["status"], after.done["status"]) == (Status.ILLEGAL, Status.OK)
