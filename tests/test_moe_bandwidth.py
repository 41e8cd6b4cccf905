"""Layers with experts keep their stream or their multipliers busy: the trained model's own queues, 16 and 64 bytes a cycle."""

import pytest

from sparseloom.models.golden.engines import results
from sparseloom.models.spec.moe_linear import MoeLinear
from sparseloom.models.zoo.moe_vit_int import IntegerVit
from sparseloom.models.zoo.moe_vit_jobs import Engines, make_builds
from sparseloom.models.zoo.registry import MODELS, load

NAME = "mnist-moe-vit"
BOUND = 1.05


@pytest.fixture(scope="module")
def expert_jobs():
    """The jobs with experts of three held-out images, both tasks."""
    model, (images, _) = load(NAME), MODELS[NAME].heldout_images()
    found = []

    def run(build, job, operands):
        if build.name == MoeLinear.name and job.queued:
            found.append(job)
        return results(build, job, operands)

    integers, engines = IntegerVit(model), Engines(make_builds(model.config), run)
    for image in images[::333][:3]:
        for task in model.tasks:
            integers.forward(image[None], task, engines)
    return found


@pytest.mark.parametrize("rows, beat_bytes, longer", [(16, 16, "stream"), (8, 64, "multipliers")])
def test_cycles_are_those_of_the_longer_of_both(expert_jobs, rows, beat_bytes, longer):
    build = MoeLinear(tokens=2, rows=rows, lanes=16, beat_bytes=beat_bytes, max_m=50, max_k=128, max_n=128, max_experts=8,
                      score_n=64)
    ratios, limited = [], set()
    for job in expert_jobs:
        job = build.job(**vars(job))
        compute, stream = build.compute_cycles(job), build.beats("w", job)
        ratios.append(build.cycles(job) / max(compute, stream))
        limited.add("stream" if stream > compute else "multipliers")
    assert len(ratios) == 3 * 2 * 2 * 2 and 1 < min(ratios) and max(ratios) <= BOUND
    assert limited == {longer}


def test_where_both_are_alike_the_order_of_the_experts_counts(expert_jobs):
    """Nothing hides the first expert's weights, nor the last expert's products: of two alike some of both is left over."""
    build = MoeLinear(tokens=2, rows=8, lanes=16, beat_bytes=16, max_m=50, max_k=128, max_n=128, max_experts=8, score_n=64)
    ratios = []
    for job in expert_jobs:
        job = build.job(**vars(job))
        ratios.append(build.cycles(job) / max(build.compute_cycles(job), build.beats("w", job)))
    assert BOUND < max(ratios) < 1.16


def test_the_queues_are_uneven(expert_jobs):
    counts = [job.counts for job in expert_jobs]
    assert all(sum(one) == 100 for one in counts)
    assert max(max(one) / min(one) for one in counts) > 10


def test_a_dense_layer_keeps_its_multipliers_busy():
    for build, shape in ((MoeLinear(tokens=4, rows=16, lanes=32, beat_bytes=64, max_m=129), {"m": 129, "k": 192, "n": 768}),
                         (MoeLinear(tokens=2, rows=16, lanes=32, beat_bytes=64, max_m=129), {"m": 129, "k": 192, "n": 192}),
                         (MoeLinear(tokens=4, rows=16, lanes=32, beat_bytes=64, max_m=197), {"m": 197, "k": 768, "n": 192})):
        job = build.job(**shape)
        assert build.useful_fraction(job, build.cycles(job))["compute"] >= 0.95
