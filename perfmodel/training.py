"""A training step on N:M arrays: every product's cycles by the engine's closed form, beside the bytes that it moves.

One product after the other, on all arrays at once; each in the data flow and with the split (rows of A, columns of B, or whole
products of attention) that take the fewest cycles. After a layer's weight gradient its weights are updated and pruned for the
next step; that happens while the next layer's gradients are computed, and after the last layer alone. What is left out: norms,
activation functions, softmax, pooling, additions, and the exchange of anything between boards.
"""

from dataclasses import dataclass, replace
from functools import cache

from ..models.spec.errors import check_int
from ..models.spec.nm_prune import NmPrune
from ..models.spec.nm_train import NmTrain
from ..models.spec.nm_train_job import DATAFLOWS
from ..models.spec.nm_update import NmUpdate
from .training_bound import bound_seconds, speedup_bound, speedup_limit
from .training_tables import FORWARD, INPUT_GRADIENT, WEIGHT_GRADIENT, Product

__all__ = ["Background", "Placed", "TrainingMachine", "compare", "step_groups", "step_seconds"]

_MOST = {"max_m": 2**24 - 2, "max_n": 2**17 - 2, "max_k": 2**24 - 2}
_MOST_PRUNED = {"max_n": 2**17 - 2, "max_k": 2**15 - 1}
_MOST_UPDATED = {"max_n": 2**32 - 2}
_STATE_BYTES = 4 * 5
"""Of a weight in an update: master, momentum and gradient are read, master and momentum are written, float32 each."""
_INDEX_BITS = 4


@dataclass(frozen=True, kw_only=True)
class TrainingMachine:
    """``engines`` equal arrays with one ``pruner`` and one ``updater``; ``clock`` in Hz, memory of ``bandwidth`` bytes/s.

    ``hold_bytes`` a array hold a tile of columns of B, if it fits, so that the rows of A find it on chip. ``reuse``: windows of a
    convolution that overlap are read from memory once a pass, else as often as the array wants them. ``turn``: dense products
    may be computed as their transposes.
    """

    array: NmTrain
    pruner: NmPrune
    updater: NmUpdate
    engines: int
    clock: float
    bandwidth: float
    hold_bytes: int
    reuse: bool = True
    turn: bool = False

    def __post_init__(self):
        for name, low in (("engines", 1), ("hold_bytes", 0)):
            object.__setattr__(self, name, check_int(name, getattr(self, name), low, 2**32))
        for name in ("clock", "bandwidth"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)!r}")

    @classmethod
    def of(cls, preset, **fields):
        """The machine of an ``NmPreset``, its maxima as large as they can be."""
        values = {name: figure.value for name, figure in preset.figures.items()}
        array = NmTrain(**{name: values[name] for name in ("rows", "cols", "slots", "words", "ws_rows")}, **_MOST)
        pruner = NmPrune(lanes=values["prune_lanes"], values=values["prune_values"], slots=array.slots, **_MOST_PRUNED)
        updater = NmUpdate(lanes=values["update_lanes"], lion=False, pruned=False, **_MOST_UPDATED)
        names = ("engines", "clock", "bandwidth", "hold_bytes")
        return cls(array=array, pruner=pruner, updater=updater, **{name: values[name] for name in names} | fields)

    @property
    def peak(self):
        """Multiply-accumulates a second of all arrays."""
        return self.engines * self.array.rows * self.array.cols * self.clock


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A product where it is fastest. ``split``: m, n, product or none; ``share``: (m, n, k, products) of the busiest array."""

    product: Product
    nnz: int
    group: int
    dataflow: str
    split: str
    share: tuple
    turned: bool
    cycles: int
    bytes: int
    seconds: float

    @property
    def macs(self):
        return self.product.kept(self.nnz, self.group)


@dataclass(frozen=True, kw_only=True)
class Background:
    """What happens to a layer's weights after their gradient is known."""

    update_cycles: int = 0
    prune_cycles: int = 0
    bytes: int = 0

    def seconds(self, machine):
        """Nothing else happening."""
        return max(max(self.update_cycles, self.prune_cycles) / machine.clock, self.bytes / machine.bandwidth)


@cache
def _cycles(array, m, n, k, nnz, group, dataflow):
    job = array.job(m=m, n=n, k=k, nnz=nnz, group=group, dataflow=dataflow)
    return array.cycles_back_to_back(job)


def _splits(machine, m, n, count):
    """(split, m, n, count) of the busiest array, for each way to share a product."""
    array, engines = machine.array, machine.engines
    if engines == 1:
        yield "none", m, n, count
        return
    if count > 1:
        yield "product", m, n, -(-count // engines)
    yield "m", min(m, array.rows * -(-m // (engines * array.rows))), n, count
    yield "n", m, min(n, array.cols * -(-n // (engines * array.cols))), count


def _pieces(array, n):
    """Columns of the jobs of a product that is too wide for one: whole tiles but for the last."""
    widest = array.max_n // array.tile_columns * array.tile_columns
    return [min(widest, n - first) for first in range(0, n, widest)]


def _stream_bytes(machine, product, job, turned, split):
    """Bytes that all arrays read for A and B of one product, as many passes as the job makes."""
    array, nnz, group = machine.array, job.nnz, job.group
    a_map, b_map = (product.b_map, product.a_map) if turned else (product.a_map, product.b_map)
    columns = product.m if turned else product.n
    rows = product.n if turned else product.m
    if not machine.reuse:
        a_map, b_map = rows * job.k, columns * job.k
    a_arrays, b_arrays = (machine.engines if split == name else 1 for name in ("n", "m"))
    tiles = -(-columns // (array.tile_columns * (machine.engines if split == "n" else 1)))
    row_tiles = -(-job.m // (array.rows if job.dataflow == "os" else array.ws_rows))
    kept_bits = nnz * (16 + _INDEX_BITS * (group > 1))
    held = job.k * min(job.n, array.tile_columns) * kept_bits // (8 * group) <= machine.hold_bytes
    a_bytes = 2 * a_map * tiles * a_arrays
    b_bytes = -(-b_map * kept_bits // (8 * group)) * (1 if held else row_tiles) * b_arrays
    return a_bytes + b_bytes


def place(machine, product, nnz, group):
    """The product in its data flow and split of fewest cycles, of fewest bytes among those."""
    nnz, group = product.pattern(nnz, group)
    result_bytes = product.results * (4 if product.phase == WEIGHT_GRADIENT else 2)
    best = None
    for turned in (False, True)[: 1 + (machine.turn and group == 1)]:
        sides = (product.n, product.m) if turned else (product.m, product.n)
        for split, m, n, count in _splits(machine, *sides, product.count):
            pieces = _pieces(machine.array, n)
            for dataflow in DATAFLOWS:
                cycles = count * sum(_cycles(machine.array, m, columns, product.k, nnz, group, dataflow) for columns in pieces)
                if best and cycles > best.cycles:
                    continue
                job = machine.array.job(m=m, n=pieces[0], k=product.k, nnz=nnz, group=group, dataflow=dataflow)
                nbytes = product.count * _stream_bytes(machine, product, job, turned, split) + result_bytes
                if not best or (cycles, nbytes) < (best.cycles, best.bytes):
                    best = Placed(product=product, nnz=nnz, group=group, dataflow=dataflow, split=split, turned=turned,
                                  share=(m, n, product.k, count), cycles=cycles, bytes=nbytes,
                                  seconds=max(cycles / machine.clock, nbytes / machine.bandwidth))
    return best


def background(machine, layer, products, nnz, group):
    """Update of a layer, and pruning of both copies of its weights for the next step; a dense copy is the update's own."""
    if not layer.weights:
        return Background()
    prune_cycles, nbytes = 0, layer.weights * _STATE_BYTES
    for phase in (FORWARD, INPUT_GRADIENT):
        of_phase = [product for product in products if product.phase == phase]
        if not of_phase:
            continue
        kept, of = of_phase[0].pattern(nnz, group)
        if of == 1:
            nbytes += 2 * layer.weights * (phase == FORWARD)
            continue
        nbytes += 4 * layer.weights + -(-layer.weights * kept * (16 + _INDEX_BITS) // (8 * of))
        for product in of_phase:
            job = machine.pruner.job(n=product.n, k=product.k, nnz=kept, group=of)
            prune_cycles += machine.pruner.cycles_back_to_back(job)
    update_cycles = machine.updater.cycles_back_to_back(machine.updater.job(n=layer.weights))
    return Background(update_cycles=update_cycles, prune_cycles=prune_cycles, bytes=nbytes)


def step_groups(machine, table, nnz=1, group=1):
    """The step as (placed products, background) one after the other: forward products each alone, then the gradients of each
    layer from the last with the background of the layer before, then what the first layer leaves."""
    waiting = Background()
    made = [list(layer.products(table.batch)) for layer in table.layers]
    memo = {}

    def placed(product):
        key = tuple(getattr(product, name) for name in ("phase", "m", "n", "k", "count", "channels", "a_map", "b_map"))
        if key not in memo:
            memo[key] = place(machine, product, nnz, group)
        return replace(memo[key], product=product)

    for products in made:
        yield [placed(product) for product in products if product.phase == FORWARD], waiting
    for layer, products in zip(reversed(table.layers), reversed(made), strict=True):
        yield [placed(product) for product in products if product.phase != FORWARD], waiting
        waiting = background(machine, layer, products, nnz, group)
    yield [], waiting


def group_seconds(machine, placed, waiting):
    """Seconds of products one after the other, with a background that shares the memory."""
    nbytes = waiting.bytes + sum(one.bytes for one in placed)
    return max(sum(one.seconds for one in placed), waiting.seconds(machine), nbytes / machine.bandwidth)


def step_seconds(machine, table, nnz=1, group=1):
    """Seconds of a step."""
    return sum(group_seconds(machine, *stage) for stage in step_groups(machine, table, nnz, group))


def compare(machine, table, nnz, group):
    """A step dense and sparse, beside its bound: a dict of figures. Dense training is at its best: it may turn its products,
    which no sparse one can."""
    dense = replace(machine, turn=True)
    result = {"table": table.name, "batch": table.batch, "nnz": nnz, "group": group}
    for name, used, pattern in (("dense", dense, (1, 1)), ("sparse", machine, (nnz, group))):
        stages = list(step_groups(used, table, *pattern))
        seconds = sum(group_seconds(used, *stage) for stage in stages)
        bound = bound_seconds(table, *pattern, machine.peak, machine.bandwidth)
        placed = [one for stage, _ in stages for one in stage]
        result |= {f"{name}_array_cycles": sum(one.cycles for one in placed), f"{name}_bytes": sum(
            waiting.bytes + sum(one.bytes for one in stage) for stage, waiting in stages),
            f"{name}_seconds": seconds, f"{name}_bound_seconds": bound, f"{name}_of_bound": bound / seconds}
    speedup = result["dense_seconds"] / result["sparse_seconds"]
    bound = speedup_bound(table, nnz, group, machine.peak, machine.bandwidth)
    return result | {"speedup": speedup, "speedup_bound": bound, "speedup_of_bound": speedup / bound,
                     "speedup_limit": speedup_limit(nnz, group)}
