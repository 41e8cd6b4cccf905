"""A whole model, block by block: inputs from what is compressed already, targets from the float model."""

import hashlib
from dataclasses import asdict, dataclass

import numpy as np

from sparseloom.models.compress.allocate import Choice, allocate, options
from sparseloom.models.compress.solver import DAMPING, Inputs, Problem, quick_errors, solve
from sparseloom.models.compress.store import BlockStore
from sparseloom.models.compress.streams import STAGES, Streams
from sparseloom.models.zoo.llama import HEAD

__all__ = ["Compressed", "compress", "matrices", "plan"]

VERSION = "1"  # of the method: part of every key, so that blocks of another method are not taken for this one's


@dataclass(frozen=True)
class Compressed:
    """``model``: the LlamaLM with the compressed matrices in float32; ``solutions`` by matrix name; ``divergence``: of the
    residual stream after each block, parts of its energy; ``resumed``: blocks that were found finished."""

    model: object
    solutions: dict
    divergence: list
    resumed: int


def matrices(model):
    """Names of the matrices that are compressed: all products but the head."""
    return [name for name in model.products if name != HEAD]


def compress(model, windows, schemes, store=None, step=None):
    """:class:`Compressed` of a :class:`LlamaLM` with ``schemes`` {matrix name: Scheme}; ``windows``: lists of calibration ids.

    Within a block the stages follow one another, each with inputs from the stages before as they have become. ``store``: a
    :class:`BlockStore`, whose finished blocks are taken over. ``step(done, name)`` is called after each matrix.
    """
    store = store or BlockStore(None)
    streams, solutions, divergence, resumed = Streams(model, windows), {}, [], 0
    key = digest(VERSION, DAMPING, *(np.asarray(ids, np.int64).tobytes() for ids in windows),
                 *(model.weights[name].tobytes() for name in sorted(model.weights)))
    for block in range(model.config.layers):
        names = [name for name in matrices(model) if name.startswith(f"blk.{block}.")]
        key = digest(key, *(f"{name} {asdict(schemes[name])}" for name in names))
        found = store.get(block, key)
        if found is None:
            found = {}
            for stage in STAGES:
                moments = streams.moments(stage)
                inputs = Inputs(moments.hessian)
                for name in (f"blk.{block}.{short}.weight" for short in stage):
                    target = moments.target(model.weights[name], DAMPING)
                    found[name] = solve(Problem(target, inputs), schemes[name])
                    if step:
                        step(name)
                streams.replace({name: found[name].weights for name in found})
            store.put(block, key, found)
        else:
            resumed += 1
            streams.replace({name: solution.weights for name, solution in found.items()})
            for name in names if step else ():
                step(name)
        solutions |= found
        streams.advance()
        divergence.append(streams.divergence())
    return Compressed(streams.compressed, solutions, divergence, resumed)


def plan(model, windows, floor, budget, step=None):
    """``{matrix name: Scheme}`` within ``budget`` bits for all matrices together, nothing below the ``floor``.

    The loss of a choice: the relative second-order error of a quick solution on the float model's inputs, times what the
    matrix's branch contributes to the residual stream. ValueError if the budget is too small for the floor everywhere.
    """
    streams, choices = Streams(model, windows), {}
    for block in range(model.config.layers):
        for stage in STAGES:
            hessian, weight = streams.sensitivity(stage)
            inputs = Inputs(hessian)
            for name in (f"blk.{block}.{short}.weight" for short in stage):
                w = model.weights[name]
                errors = quick_errors(Problem(w, inputs), options(floor))
                choices[name] = [Choice(scheme, scheme.bits_of(*w.shape), weight * error) for scheme, error in errors]
                if step:
                    step(name)
        streams.advance()
    return allocate(choices, budget)


def digest(*parts):
    whole = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode()
        whole.update(len(data).to_bytes(8, "little") + data)
    return whole.hexdigest()
