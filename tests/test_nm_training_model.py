"""Training steps in the model: tables against known totals, the bound by hand, no product below it, and the speed-ups claimed."""

import ast
from dataclasses import replace

import pytest

from sparseloom.models.spec.nm_load_window import forward_window, gradient_phases
from sparseloom.models.spec.nm_pattern import PATTERNS
from sparseloom.models.spec.nm_presets import NM_PRESETS
from sparseloom.models.spec.nm_prune import NmPrune
from sparseloom.models.spec.nm_train import NmTrain
from sparseloom.models.spec.nm_update import NmUpdate
from sparseloom.perfmodel import training_bound, training_tables
from sparseloom.perfmodel.training import TrainingMachine, background, compare, group_seconds, place, step_groups, step_seconds
from sparseloom.perfmodel.training_bound import bound_seconds, least_bytes, product_seconds, speedup_bound, speedup_limit
from sparseloom.perfmodel.training_tables import PHASES, TABLES, Attention, Conv, Linear, Table, mlp

OURS, SAT = (TrainingMachine.of(NM_PRESETS[name]) for name in ("sparseloom-vcu1525", "sat-vcu1525"))
SPARSE = PATTERNS[1:]
EVERY = [(machine, table, pattern) for machine in (OURS, SAT) for table in TABLES.values() for pattern in PATTERNS]
IDS = [f"{'ours' if machine is OURS else 'sat'}-{table.name}-{nnz}:{group}" for machine, table, (nnz, group) in EVERY]
FORWARD, INPUT_GRADIENT, WEIGHT_GRADIENT = PHASES
WIDE = Table(name="wide", about="", batch=4096, layers=tuple(
    Linear(name=f"{number}", c_in=1024, c_out=1024) for number in range(3)))
"""Nothing of it must stay dense, and it fills arrays."""


def placed_of(machine, table, pattern):
    return [one for stage, _ in step_groups(machine, table, *pattern) for one in stage]


# Tables ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name, macs, weights", [
    ("resnet18", 1_814_073_344, 11_678_912), ("deit-s", 4_598_882_304, 21_912_576), ("mlp", 2_910_208, 2_910_208)])
def test_totals_are_those_that_are_known(name, macs, weights):
    """ResNet-18 is told with 1.81 GMAC and 11.69 M parameters, DeiT-S with 4.6 GMAC and 22 M; norms, biases, positions apart."""
    assert (TABLES[name].image_macs, TABLES[name].weights) == (macs, weights)


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_every_layer_has_its_passes(table):
    first, *others = table.layers
    assert first.first and not any(getattr(layer, "first", False) for layer in others)
    assert [product.phase for product in first.products(table.batch)] == [FORWARD, WEIGHT_GRADIENT]
    for layer in table.layers:
        macs = dict.fromkeys(PHASES, 0)
        for product in layer.products(table.batch):
            macs[product.phase] += product.macs
        assert macs[FORWARD] == macs[WEIGHT_GRADIENT] and (layer is first or macs[INPUT_GRADIENT] == macs[FORWARD])
    assert sorted(table.products, key=repr) == sorted(
        (product for layer in table.layers for product in layer.products(table.batch)), key=repr)
    assert all(product.a_new <= product.a_map <= product.m * product.k and product.b_new <= product.b_map <= product.k * product.n
               for product in table.products)


@pytest.mark.parametrize("layer", TABLES["resnet18"].layers[:-1], ids=lambda layer: layer.name)
def test_convolutions_are_those_that_the_loader_gathers(layer):
    forward, *gradients, _ = layer.products(2)
    window = forward_window(layer.size, layer.size, layer.kernel, layer.stride, layer.pad)
    assert (forward.m, forward.k) == (2 * window.out_height * window.out_width, window.taps * layer.c_in)
    phases = gradient_phases(layer.size, layer.size, layer.kernel, layer.stride, layer.pad)
    found = [(2 * phase.window.out_height * phase.window.out_width, phase.window.taps * layer.c_out) for phase in phases
             if phase.window]
    assert layer.first or sorted((one.m, one.k) for one in gradients) == sorted(found)


def test_windows_of_few_channels_lie_in_memory_as_a_matrix():
    forward, weight = TABLES["resnet18"].layers[0].products(1)
    assert forward.a_map == weight.b_map == 112**2 * 147 and forward.a_new == weight.b_new == 224**2 * 3


@pytest.mark.parametrize("kernel, stride, pad", [(3, 1, 1), (3, 2, 1), (1, 2, 0), (7, 2, 3), (5, 3, 2), (2, 2, 0)])
@pytest.mark.parametrize("size", [12, 13])
def test_phases_take_each_tap_once(kernel, stride, pad, size):
    """Output pixel o has tap t on input pixel o * stride + t - pad; outside the result there are zeros to multiply."""
    conv = Conv(name="", c_in=1, c_out=1, size=size, kernel=kernel, stride=stride, pad=pad)
    taps = [0] * size
    for out in range(-kernel, size + kernel):
        for tap in range(kernel):
            pixel = out * stride + tap - pad
            if 0 <= pixel < size:
                taps[pixel] += 1
    assert list(conv.phases()) == [(len(taps[residue::stride]), taps[residue]) for residue in range(stride)]
    assert all(set(taps[residue::stride]) == {taps[residue]} for residue in range(stride))


def test_a_strided_convolution_by_hand():
    conv = Conv(name="c", c_in=16, c_out=32, size=8, kernel=3, stride=2, pad=1)
    forward, *gradients, weight = conv.products(10)
    assert (forward.m, forward.n, forward.k, forward.a_map, forward.channels) == (160, 32, 144, 10 * 64 * 16, 16)
    assert [(one.m, one.n, one.k, one.channels) for one in gradients] == [(160, 16, taps * 32, 32) for taps in (4, 2, 2, 1)]
    assert [one.a_new for one in gradients] == [160 * 32, 0, 0, 0]
    assert [least_bytes(one, 1, 1) for one in gradients] == [
        2 * (160 * 32 * (taps == 4) + taps * 32 * 16 + 160 * 16) for taps in (4, 2, 2, 1)]
    assert (weight.m, weight.n, weight.k, weight.b_map, weight.channels) == (32, 144, 160, 10 * 64 * 16, 0)


def test_a_direction_is_sparse_if_its_channels_are_whole_groups():
    first, *hidden, last = mlp().layers
    patterns = [[product.pattern(2, 8) for product in layer.products(512)] for layer in (first, *hidden, last)]
    assert patterns[0] == [(1, 1), (1, 1)] and patterns[1:-1] == [[(2, 8), (2, 8), (1, 1)]] * len(hidden)
    assert patterns[-1] == [(2, 8), (1, 1), (1, 1)]
    assert [product.kept(2, 8) * 4 for product in last.products(512)][0] == 512 * 1024 * 10
    attention = [product for product in TABLES["deit-s"].products if product.layer == "block0 QK"]
    assert len(attention) == 3 and all(product.pattern(2, 4) == (1, 1) and product.count == 384 for product in attention)


# The bound ------------------------------------------------------------------------------------------------------------
def test_the_bound_knows_no_engine():
    for module in (training_bound, training_tables):
        with open(module.__file__, encoding="utf-8") as file:
            tree = ast.parse(file.read())
        found = {(node.level, node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert found <= {(1, "training_tables"), (0, "dataclasses"), (0, "functools")}
        assert not any(isinstance(node, ast.Import) for node in ast.walk(tree))


def test_the_bound_by_hand():
    table = Table(name="", about="", batch=10, layers=(Linear(name="a", c_in=16, c_out=32),))
    forward, gradient, weight = table.products
    assert [least_bytes(one, 1, 1) for one in table.products] == [
        2 * (160 + 512 + 320), 2 * (320 + 512 + 160), 2 * (320 + 160) + 4 * 512]
    # Two of eight: 128 of 512 weights, 19 bits each.
    assert least_bytes(forward, 2, 8) == 2 * 160 + 128 * 19 // 8 + 2 * 320
    assert least_bytes(weight, 2, 8) == least_bytes(weight, 1, 1)
    assert product_seconds(forward, 2, 8, 1280, 1e9) == 1.0 and product_seconds(forward, 2, 8, 1e9, 1264) == 1.0
    assert bound_seconds(table, 1, 1, 5120, 1e9) == 3.0 and bound_seconds(table, 2, 8, 5120, 1e9) == 1.5
    assert gradient.kept(2, 8) == 1280 and weight.kept(2, 8) == 5120


def test_limits():
    assert [speedup_limit(*pattern) for pattern in ((2, 4), (2, 8), (2, 16), (8, 8), (1, 1))] == [1.5, 2.0, 2.4, 1.0, 1.0]
    for pattern in SPARSE:
        # Both are quotients of float64, the bound's of sums of seconds: they may differ in the last bits.
        assert speedup_bound(WIDE, *pattern, 1e12, 1e15) == pytest.approx(speedup_limit(*pattern), rel=1e-12)
        for table in TABLES.values():
            assert 1 < speedup_bound(table, *pattern, OURS.peak, OURS.bandwidth) < speedup_limit(*pattern)
    told = {name: round(speedup_bound(TABLES[name], 2, 8, OURS.peak, OURS.bandwidth), 3) for name in ("resnet18", "deit-s")}
    assert told == {"resnet18": 1.915, "deit-s": 1.841}
    # Where memory alone is slow, what is saved are bytes of weights.
    assert speedup_bound(WIDE, 2, 8, 1e18, 1e9) < 1.2


# The model ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("machine, table, pattern", EVERY, ids=IDS)
def test_no_product_is_below_its_bound(machine, table, pattern):
    placed = placed_of(machine, table, pattern)
    assert [one.product for one in placed] and sum(one.product.macs for one in placed) == sum(
        product.macs for product in table.products)
    for one in placed:
        m, n, k, count = one.share
        assert (one.nnz, one.group) == one.product.pattern(*pattern) and k == one.product.k
        sides = (one.product.n, one.product.m) if one.turned else (one.product.m, one.product.n)
        assert count * m * n * machine.engines >= one.product.count * sides[0] * sides[1]
        assert one.bytes >= least_bytes(one.product, *pattern)
        assert one.seconds >= product_seconds(one.product, *pattern, machine.peak, machine.bandwidth)
    assert step_seconds(machine, table, *pattern) >= bound_seconds(table, *pattern, machine.peak, machine.bandwidth)


def test_a_product_by_hand():
    array = NmTrain(rows=4, cols=4, slots=4, max_m=64, max_n=64, max_k=256)
    pruner = NmPrune(lanes=4, values=2, slots=4, max_n=128, max_k=128)
    updater = NmUpdate(lanes=4)
    machine = TrainingMachine(array=array, pruner=pruner, updater=updater, engines=2, clock=1e6, bandwidth=1e9, hold_bytes=1024)
    layer = Linear(name="a", c_in=128, c_out=48, rows=1)
    forward, gradient, weight = layer.products(24)
    one = place(machine, forward, 2, 8)
    choices = {(split, dataflow): array.cycles_back_to_back(array.job(m=m, n=n, k=128, nnz=2, group=8, dataflow=dataflow))
               for split, m, n in (("m", 12, 48), ("n", 24, 24)) for dataflow in ("os", "ws")}
    assert one.cycles == min(choices.values()) == choices[one.split, one.dataflow]
    # Split by rows, three tiles of 16 columns: A three times; a tile of B is 128 x 16 x 20 / 32 = 1280 bytes, not held: read
    # for each of 3 tiles of rows by both arrays. Results are bfloat16.
    assert one.split == "m" and one.dataflow == "os"
    assert one.bytes == 2 * 24 * 128 * 3 + 128 * 48 * 20 // 32 * 3 * 2 + 2 * 24 * 48
    held = place(replace(machine, hold_bytes=1280), forward, 2, 8)
    assert held.bytes == 2 * 24 * 128 * 3 + 128 * 48 * 20 // 32 * 2 + 2 * 24 * 48
    assert one.seconds == one.cycles / 1e6 and place(replace(machine, bandwidth=10), forward, 2, 8).seconds == one.bytes / 10
    work = background(machine, layer, [forward, gradient, weight], 2, 8)
    # Forward: 12 fours of columns, 16 groups, four cycles each; backward: 32, 6.
    assert work.update_cycles == updater.cycles_back_to_back(updater.job(n=128 * 48))
    assert 0 < work.update_cycles - 128 * 48 // 4 < 64
    assert 0 < work.prune_cycles - (12 * 16 * 4 + 32 * 6 * 4) < 40
    assert work.prune_cycles == sum(pruner.cycles_back_to_back(pruner.job(n=n, k=k)) for n, k in ((48, 128), (128, 48)))
    assert work.bytes == 128 * 48 * (20 + 2 * (4 + 20 / 32))
    assert background(machine, layer, [forward, gradient, weight], 1, 1).bytes == 128 * 48 * 22
    assert work.prune_cycles < work.update_cycles and work.seconds(machine) == work.update_cycles / 1e6
    assert replace(work, update_cycles=1).seconds(machine) == work.prune_cycles / 1e6
    assert work.seconds(replace(machine, bandwidth=10)) == work.bytes / 10
    assert group_seconds(machine, [one], work) == max(one.seconds, work.seconds(machine))
    assert group_seconds(replace(machine, bandwidth=10), [one], work) == (one.bytes + work.bytes) / 10


def test_shares_cover_what_does_not_divide():
    array = NmTrain(rows=4, cols=4, slots=4, max_m=64, max_n=64, max_k=256)
    machine = replace(OURS, array=array, engines=2)
    heads, = (one for one in Attention(name="", tokens=3, heads=5, width=8).products(1) if one.phase == FORWARD and one.n == 3)
    assert place(machine, heads, 1, 1).split == "product" and place(machine, heads, 1, 1).share == (3, 3, 8, 3)
    tall, wide = (next(Linear(name="", c_in=256, c_out=c_out).products(m)) for m, c_out in ((37, 16), (4, 60)))
    one, other = place(machine, tall, 1, 1), place(machine, wide, 1, 1)
    assert (one.split, one.share) == ("m", (20, 16, 256, 1)) and (other.split, other.share) == ("n", (4, 32, 256, 1))
    # Each array passes over A for its own two tiles of columns; B is held.
    assert other.bytes == 2 * (4 * 256 * 2 * 2 + 256 * 60 + 4 * 60)


def test_equal_shapes_are_not_equally_sparse():
    table = Table(name="", about="", batch=64, layers=tuple(
        Linear(name=f"{number}", c_in=64, c_out=64, first=number == 0) for number in range(2)))
    assert [(one.product.layer, one.product.phase, one.group) for one in placed_of(OURS, table, (2, 8))] == [
        ("0", FORWARD, 1), ("1", FORWARD, 8), ("1", INPUT_GRADIENT, 8), ("1", WEIGHT_GRADIENT, 1), ("0", WEIGHT_GRADIENT, 1)]


@pytest.mark.parametrize("field, value, error, words", [
    ("engines", 0, ValueError, "engines must be 1..4294967296, got 0"), ("engines", 1.5, TypeError, "engines must be an integer"),
    ("hold_bytes", -1, ValueError, "hold_bytes must be 0.."),
    ("clock", 0, ValueError, "clock must be positive, got 0"), ("bandwidth", -1.0, ValueError, "bandwidth must be positive"),
])
def test_bad_machines_are_refused(field, value, error, words):
    with pytest.raises(error, match=words):
        replace(OURS, **{field: value})


def test_updates_hide_behind_the_next_layer():
    stages = list(step_groups(OURS, WIDE, 2, 8))
    assert [len(placed) for placed, _ in stages] == [1, 1, 1, 2, 2, 2, 0]
    assert [work.update_cycles > 0 for _, work in stages] == [False] * 4 + [True] * 3
    slow = replace(OURS, updater=replace(OURS.updater, lanes=1))
    assert step_seconds(slow, WIDE, 2, 8) > step_seconds(OURS, WIDE, 2, 8)


def test_windows_are_read_once_a_pass_or_as_often_as_wanted():
    table = TABLES["resnet18"]
    found = {reuse: sum(one.bytes for one in placed_of(replace(OURS, reuse=reuse), table, (2, 8))) for reuse in (True, False)}
    assert 2.5 < found[False] / found[True] < 9
    # Memory limits no product either way.
    assert step_seconds(replace(OURS, reuse=False), table, 2, 8) == step_seconds(OURS, table, 2, 8)


# Claims ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
@pytest.mark.parametrize("pattern", SPARSE, ids=[f"{nnz}:{group}" for nnz, group in SPARSE])
def test_our_machine_is_at_the_bound(table, pattern):
    found = compare(OURS, table, *pattern)
    assert found["speedup_of_bound"] >= 0.93 and found["sparse_of_bound"] >= 0.93 and found["dense_of_bound"] >= 0.93
    assert found["sparse_bound_seconds"] == bound_seconds(table, *pattern, 1024 * 200e6, 76.8e9)


@pytest.mark.parametrize("machine", [OURS, SAT], ids=["ours", "sat"])
@pytest.mark.parametrize("table", [*TABLES.values(), WIDE], ids=[*TABLES, "wide"])
def test_no_speed_up_beyond_the_limit(machine, table):
    for pattern in SPARSE:
        found = compare(machine, table, *pattern)
        # A machine at the bound in both: sums of float64 in another order.
        assert 1 < found["speedup"] <= found["speedup_bound"] * (1 + 1e-9) and found["speedup"] <= speedup_limit(*pattern)
    same = compare(replace(machine, turn=True), table, 1, 1)
    assert same["speedup"] == same["speedup_bound"] == same["speedup_limit"] == 1


def test_memory_alone():
    """With hardly any memory bandwidth a step takes as long as its bytes."""
    slow = replace(OURS, bandwidth=1e6)
    nbytes = sum(work.bytes + sum(one.bytes for one in placed) for placed, work in step_groups(slow, TABLES["mlp"], 2, 8))
    # The same bytes, divided before and after they are added up: float64 rounds otherwise.
    assert step_seconds(slow, TABLES["mlp"], 2, 8) == pytest.approx(nbytes / 1e6, rel=1e-9)
