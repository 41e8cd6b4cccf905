"""Quantised checkpoints, altered. Those that contradict themselves are refused by one line that names the place, the rule and
the value; legal variants, at the end, mean what they did."""

import json

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from sparseloom.models.importers import load
from sparseloom.models.importers.sparse_floats import read_sparse_floats
from sparseloom.models.spec.errors import InputError


@pytest.fixture(scope="module")
def fixtures(root):
    return root / "tests" / "fixtures" / "quantised"


def altered(fixtures, case, folder, tensors=None, config=None, weights=None):
    """A copy of a case: ``tensors`` {name behind proj.: array, change of the array, or None to leave it out}; ``config`` and
    ``weights`` replace entries of the config and of its one group's weights."""
    source = fixtures / case
    stored = numpy_tensors(source / "model.safetensors")
    for name, change in (tensors or {}).items():
        name = f"proj.{name}"
        if change is None:
            del stored[name]
        elif callable(change):
            stored[name] = stored[name].copy()
            result = change(stored[name])
            stored[name] = np.ascontiguousarray(stored[name] if result is None else result)
        else:
            stored[name] = change
    content = json.loads((source / "config.json").read_text())
    content["quantization_config"] |= config or {}
    if weights:
        content["quantization_config"]["config_groups"]["group_0"]["weights"] |= weights
    folder.mkdir(exist_ok=True)
    save_file(stored, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(content))
    return folder


def numpy_tensors(path):
    """The tensors of a file, BF16 as float32: NumPy has no bfloat16."""
    with safe_open(path, "numpy") as file:
        if all(file.get_slice(name).get_dtype() != "BF16" for name in file.keys()):
            return load_file(path)
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    kinds = {"BF16": "<u2", "I32": "<i4", "I64": "<i8", "U8": "u1", "I8": "i1"}
    tensors = {}
    for name, entry in json.loads(data[8 : 8 + size]).items():
        if name != "__metadata__":
            start, end = (8 + size + offset for offset in entry["data_offsets"])
            value = np.frombuffer(data[start:end], kinds[entry["dtype"]]).reshape(entry["shape"])
            tensors[name] = (value.astype("<u4") << 16).view("<f4") if entry["dtype"] == "BF16" else value
    return tensors


def put(index, value):
    def change(array):
        array[index] = value

    return change


def drop_row(array):
    return array[:-1]


AT_LOAD = [
    # GPTQ and AWQ: config
    ("gptq_4bit", {}, {"bits": 5}, "quantization_config.bits must be 2, 3, 4, 8, got 5"),
    ("gptq_4bit", {}, {"bits": True}, "quantization_config.bits must be 2, 3, 4, 8, got True"),
    ("gptq_4bit", {}, {"bits": "4"}, "quantization_config.bits must be 2, 3, 4, 8, got '4'"),
    ("gptq_4bit", {}, {"bits": None}, "quantization_config.bits must be 2, 3, 4, 8, got 'nothing'"),
    ("gptq_4bit", {}, {"group_size": 0}, r"group_size must be -1 \(whole rows\) or a number of columns, got 0"),
    ("gptq_4bit", {}, {"group_size": 48}, "proj.qweight: group_size must divide the 64 inputs, got 48"),
    ("gptq_4bit", {}, {"group_size": 16}, "proj.qweight: scales must have 4 rows, one for each 16 of 64 inputs, got 2"),
    ("gptq_4bit", {}, {"group_size": -1}, "proj.qweight: scales must have 1 rows, one for each 64 of 64 inputs, got 2"),
    ("gptq_4bit", {}, {"checkpoint_format": "marlin"}, "checkpoint_format must be one of gptq, gptq_v2, got 'marlin'"),
    ("gptq_4bit", {}, {"quant_method": "hqq"}, "quant_method must be 'gptq' or 'awq' for packed .*, got 'hqq'"),
    ("gptq_4bit", {}, {"sym": "no"}, "quantization_config.sym must be true or false, got 'no'"),
    ("gptq_4bit", {}, {"dynamic": {"+:.*": {"bits": 8}}}, "quantization_config.dynamic must only leave layers out"),
    ("awq_gemm", {}, {"version": "gemv"}, "version must be 'gemm', the only AWQ layout that is read, got 'gemv'"),
    ("awq_gemm", {}, {"bits": 8}, "quantization_config.bits must be 4, got 8"),
    ("awq_gemm", {}, {"group_size": 48}, "proj.qweight: group_size must divide the 128 inputs, got 48"),
    # shapes that contradict
    ("gptq_4bit", {}, {"bits": 8}, "proj.qweight: group_size must|proj.qweight: scales must|must be I32 of shape"),
    ("gptq_4bit", {}, {"bits": 3}, "proj.qweight must hold whole words of 32 bits for 3 bits a weight"),
    ("gptq_4bit", {}, {"quant_method": "awq"}, r"proj.qweight must be I32 of shape \[any, 8\], got 'I32 \[8, 64\]'"),
    ("awq_gemm", {}, {"quant_method": "gptq"}, r"proj.qweight must be I32 of shape \[any, 32\], got 'I32 \[128, 4\]'"),
    ("gptq_4bit", {"qweight": drop_row}, {}, "proj.qweight: group_size must divide the 56 inputs, got 32"),
    ("gptq_4bit", {"qzeros": drop_row}, {}, r"proj.qzeros must be I32 of shape \[2, 8\], got 'I32 \[1, 8\]'"),
    ("gptq_4bit", {"scales": drop_row}, {}, "proj.qweight: scales must have 2 rows, one for each 32 of 64 inputs, got 1"),
    ("gptq_4bit", {"g_idx": drop_row}, {}, r"proj.g_idx must be I32 of shape \[64\], got 'I32 \[63\]'"),
    ("gptq_4bit", {"qzeros": None}, {}, "proj.qzeros must be there beside proj.qweight, got 'nothing'"),
    ("gptq_4bit", {"scales": np.ones((2, 64), np.int32)}, {}, r"proj.scales must be F64 .* BF16 of shape \[any, any\]"),
    ("awq_gemm", {"scales": None}, {}, "proj.scales must be there beside proj.qweight"),
]


@pytest.mark.parametrize("case, tensors, config, message", AT_LOAD)
def test_refused_when_the_file_is_opened(fixtures, tmp_path, case, tensors, config, message):
    with pytest.raises(InputError, match=message):
        load(altered(fixtures, case, tmp_path / "m", tensors, config))


WEIGHTS = [  # compressed-tensors: changes of the weights' entry in the config
    ("ct_group", {}, {"num_bits": 5}, "weights: num_bits must be 2, 3, 4 or 8, got 5"),
    ("ct_group", {}, {"group_size": 48}, "proj.weight_packed: group_size must divide the 64 inputs, got 48"),
    ("ct_group", {}, {"group_size": -3}, "weights: group_size must be a number of columns, got -3"),
    ("ct_group", {}, {"group_size": 16}, r"proj.weight_scale must be .* of shape \[40, 4\], got 'F32 \[40, 2\]'"),
    ("ct_group", {}, {"strategy": "block"}, "weights: strategy must be one of group, channel, tensor, got 'block'"),
    ("ct_group", {}, {"symmetric": False}, "weight_zero_point must be there, since the weights are not symmetric"),
    ("ct_group", {}, {"num_bits": 8}, "packed tensor must have 16 words for 64 numbers of 8 bits, got 8"),
    ("ct_group", {"weight_shape": None}, {}, "weight_shape of proj.weight_packed must be there"),
    ("ct_group", {"weight_shape": np.array([40, 0])}, {}, r"weight_shape must hold two sizes of at least 1, got \[40, 0\]"),
    ("ct_group", {"weight_shape": np.array([41, 64])}, {}, r"proj.weight_packed must be I32 of shape \[41, any\]"),
    ("ct_group", {"weight_shape": np.array([40, 1 << 40])}, {}, r"weight_scale must be .* of shape \[40, 34359738368\]"),
    ("ct_group", {"weight_scale": None}, {}, "weight_scale of proj.weight_packed must be there"),
    ("ct_3bit", {"weight_packed": np.zeros((20, 8), np.int32)}, {}, "must have 9 words for 96 numbers of 3 bits, or 10, got 8"),
    ("ct_int8_sparse", {"bitmask": np.zeros((12, 5), np.uint8)}, {}, r"proj.bitmask must be U8 of shape \[12, 6\]"),
    ("ct_int8_sparse", {"shape": np.array([12, 46])}, {}, "row length must be a multiple of 4, got 46"),
    ("ct_zero_points", {"weight_zero_point": np.zeros((5, 3), np.int32)}, {}, r"zero_point must be I32 of shape \[any, 2\]"),
]


@pytest.mark.parametrize("case, tensors, weights, message", WEIGHTS)
def test_compressed_tensors_refused_when_the_file_is_opened(fixtures, tmp_path, case, tensors, weights, message):
    with pytest.raises(InputError, match=message):
        load(altered(fixtures, case, tmp_path / "m", tensors, {}, weights))


def zeros(value):
    """The qzeros of all outputs in all groups set to ``value`` (4 bits)."""
    return put(..., np.uint32(int(f"{value:x}" * 8, 16)).view(np.int32))


NONE_KNOWN = "be below 15 in version 1, which stores zero - 1: these are of version 2 under a wrong label, or damaged; "
AT_READ = [
    ("gptq_4bit", {"scales": put((1, 5), np.nan)}, {}, r"proj.scales\[1, 5\] must be finite, got nan"),
    ("gptq_4bit", {"scales": put((0, 0), -np.inf)}, {}, r"proj.scales\[0, 0\] must be finite, got -inf"),
    ("awq_gemm", {"scales": put((1, 31), np.inf)}, {}, r"proj.scales\[1, 31\] must be finite, got inf"),
    ("gptq_act_order", {"g_idx": put(7, 6)}, {}, r"g_idx\[7\] must be 0..5, got 6"),
    ("gptq_act_order", {"g_idx": put(7, -1)}, {}, r"g_idx\[7\] must be 0..5, got -1"),
    ("gptq_4bit", {"g_idx": put(0, 1)}, {}, "g_idx must name each group 32 times, got 'group 0 31 times'"),
    ("gptq_4bit", {}, {"sym": True}, r"must all be 7 \(version 1\) or all 8 \(version 2\)"),
    ("gptq_4bit_sym", {"qzeros": zeros(5)}, {}, r"stored zero points must all be 7 .* got \[5\]"),
    ("gptq_4bit", {"qzeros": put((0, 0), -1)}, {}, f"{NONE_KNOWN}pass gptq_zeros='v2' if you know, got 15"),
    ("gptq_v2", {"qzeros": put((0, 0), -1)}, {"checkpoint_format": "gptq"}, f"stored zero points must {NONE_KNOWN}"),
    ("ct_group", {"weight_scale": put((3, 1), np.nan)}, {}, r"proj.weight_scale\[3, 1\] must be finite, got nan"),
    ("ct_group", {"weight_zero_point": np.ones((40, 2), np.int8)}, {}, "zero_point must be 0 in weights that are symmetric"),
    ("ct_act_order", {"weight_g_idx": put(0, 2)}, {}, r"g_idx\[0\] must be 0..1, got 2"),
    ("ct_int8_sparse", {"bitmask": put((2, 1), 0xF3)}, {}, "bitmask of row 2, group 3 must keep 2 of 4, got 4"),
]


@pytest.mark.parametrize("case, tensors, config, message", AT_READ)
def test_refused_when_the_weight_is_loaded(fixtures, tmp_path, case, tensors, config, message):
    layer = load(altered(fixtures, case, tmp_path / "m", tensors, config))["proj.weight"]
    with pytest.raises(InputError, match=message) as caught:
        layer.weight.load()
    assert str(caught.value).count("\n") == 0 and "model.safetensors" in str(caught.value)


def test_a_stored_255_is_no_zero_of_version_1(fixtures, tmp_path):
    folder = altered(fixtures, "gptq_8bit_channel", tmp_path / "m", {"qzeros": put((0, 0), -1)}, {"sym": False})
    with pytest.raises(InputError, match="stored zero points must be below 255 in version 1, got 255"):
        load(folder, gptq_zeros="v1")["proj.weight"].weight.load()
    assert load(folder, gptq_zeros="v2")["proj.weight"].weight.load().zero[0, 0] == 255


def test_int8_weights_of_fewer_bits_are_checked(fixtures, tmp_path):
    folder = altered(fixtures, "ct_int8", tmp_path / "m", {"weight": lambda w: np.clip(w, -8, 7)}, {}, {"num_bits": 4})
    assert load(folder)["proj.weight"].weight.load().bits == 4
    folder = altered(fixtures, "ct_int8", tmp_path / "n", {"weight": put((2, 3), 9)}, {}, {"num_bits": 4})
    with pytest.raises(InputError, match=r"weight must be -8..7 \(4 bits\), got"):
        load(folder)["proj.weight"].weight.load()


def test_three_bits_in_rows_that_do_not_tell_their_layout(fixtures, tmp_path):
    tensors = {"weight_packed": np.zeros((20, 4), np.int32), "weight_shape": np.array([20, 40])}
    folder = altered(fixtures, "ct_3bit", tmp_path / "m", tensors | {"weight_scale": np.ones((20, 1), np.float32)}, {},
                     {"strategy": "channel", "group_size": None})  # fmt: skip
    with pytest.raises(InputError, match="row length must tell the layout of 3 bits: a multiple of 32 does, got 40"):
        load(folder)


def test_groups_of_the_config_are_told_apart_by_the_tensors(fixtures, tmp_path):
    """Two groups of which one fits; then two that both do."""
    source = json.loads((fixtures / "ct_group" / "config.json").read_text())["quantization_config"]["config_groups"]["group_0"]
    other = source | {"weights": source["weights"] | {"num_bits": 8}}
    folder = altered(fixtures, "ct_group", tmp_path / "m", {}, {"config_groups": {"a": other, "b": source, "c": source}})
    expected = load_file(fixtures / "ct_group" / "expected.safetensors")["proj"]
    assert np.array_equal(load(folder)["proj.weight"].weight.load().dequantise(), expected)
    both = source | {"weights": source["weights"] | {"symmetric": False}}
    folder = altered(fixtures, "ct_zero_points", tmp_path / "n", {}, {"config_groups": {"a": both, "b": source}})
    with pytest.raises(InputError, match="tensors must fit one of the 2 pack-quantized groups of the config, got '2 that fit'"):
        load(folder)


@pytest.mark.parametrize("form, kind", [("nvfp4-pack-quantized", "float"), ("float-quantized", "float"), ("marlin-24", "int")])
def test_formats_that_are_not_read_are_listed_with_a_reason(fixtures, tmp_path, form, kind):
    folder = altered(fixtures, "ct_group", tmp_path / "m", {}, {"format": form}, {"type": kind})
    layer = load(folder)["proj.weight"]
    assert (layer.runs_on, layer.format) == ("unsupported", form)
    assert layer.reason == f"{form} is not read: export again as pack-quantized"


def test_sparse_bitmask_and_marlin_24_are_known_by_their_tensors(fixtures, tmp_path):
    for form, part in (("sparse-bitmask", "row_offsets"), ("marlin-24", "meta")):
        tensors = {part: np.zeros(6, np.int16), "scale_packed": np.zeros((1, 2), np.float16)}
        layer = load(altered(fixtures, "ct_sparse_24", tmp_path / form, tensors))["proj.weight"]
        assert (layer.runs_on, layer.reason) == ("unsupported", f"{form} is not read: export again as pack-quantized")
    with pytest.raises(InputError, match="tensors must hold sparse-24-bitmask float weights, got '5 others'"):
        read_sparse_floats(tmp_path / "sparse-bitmask")


def test_sparse_floats_that_keep_three(fixtures, tmp_path):
    folder = altered(fixtures, "ct_sparse_24", tmp_path / "m", {"bitmask": put((5, 0), 0x37)})
    with pytest.raises(InputError, match="bitmask of row 5, group 0 must keep 2 of 4, got 3"):
        read_sparse_floats(folder)
    folder = altered(fixtures, "ct_sparse_24", tmp_path / "n", {"bitmask": put((5, 2), 0x33)})
    with pytest.raises(InputError, match="bitmask must be 0 behind column 19"):
        read_sparse_floats(folder)


def test_without_a_config_nothing_is_guessed(fixtures, tmp_path):
    for case in ("gptq_4bit", "awq_gemm"):
        folder = altered(fixtures, case, tmp_path / case)
        (folder / "config.json").unlink()
        with pytest.raises(InputError, match="quantization_config.quant_method must be 'gptq' or 'awq' .* got None"):
            load(folder)
    folder = altered(fixtures, "ct_group", tmp_path / "ct")
    (folder / "config.json").unlink()
    assert load(folder)["proj.weight_packed"].runs_on == "unsupported"


@pytest.mark.parametrize("case", ["gptq_4bit", "awq_gemm", "ct_group", "gguf"])
def test_truncated_files(fixtures, tmp_path, case):
    source = next((fixtures / case).glob("model.*"))
    data = source.read_bytes()
    for size in (len(data) - 1, len(data) // 2, 9, 1):
        (tmp_path / "m").write_bytes(data[:size])
        with pytest.raises(InputError):
            load(tmp_path / "m")


def loaded(folder):
    return load(folder)["proj.weight"].weight.load()


def expected_of(fixtures, case):
    return load_file(fixtures / case / "expected.safetensors")["proj"]


@pytest.mark.parametrize("case", ["gptq_act_order", "awq_gemm", "ct_zero_points"])
def test_shards(fixtures, tmp_path, case):
    """Every tensor in a file of its own."""
    folder = altered(fixtures, case, tmp_path / "m")
    stored = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    for name, array in stored.items():
        save_file({name: array}, folder / f"{name}.safetensors")
    index = {"weight_map": {name: f"{name}.safetensors" for name in stored}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert len(stored) >= 3 and np.array_equal(loaded(folder).dequantise(), expected_of(fixtures, case))


def test_orders_that_are_none(fixtures, tmp_path):
    """A g_idx of -1 was never filled in; one that is sorted moves nothing; none at all is the same."""
    for name, g_idx in (("unset", np.full(64, -1, np.int32)), ("sorted", np.repeat(np.arange(2, dtype=np.int32), 32))):
        weight = loaded(altered(fixtures, "ct_group", tmp_path / name, {"weight_g_idx": g_idx}))
        assert weight.order is None and np.array_equal(weight.dequantise(), expected_of(fixtures, "ct_group"))
    weight = loaded(altered(fixtures, "gptq_4bit", tmp_path / "gptq", {"g_idx": None}))
    assert weight.order is None and np.array_equal(weight.dequantise(), expected_of(fixtures, "gptq_4bit"))


def test_zero_points_that_were_not_packed(fixtures, tmp_path):
    """As releases before 0.9 store them: one int8 a group."""
    zero = loaded(fixtures / "ct_zero_points").zero.astype(np.int16) - 8
    weight = loaded(altered(fixtures, "ct_zero_points", tmp_path / "m", {"weight_zero_point": zero.astype(np.int8)}))
    assert np.array_equal(weight.dequantise(), expected_of(fixtures, "ct_zero_points"))


def test_zero_points_of_0_in_symmetric_weights_say_nothing(fixtures, tmp_path):
    weight = loaded(altered(fixtures, "ct_group", tmp_path / "m", {"weight_zero_point": np.zeros((40, 2), np.int8)}))
    assert weight.zero is None and np.array_equal(weight.dequantise(), expected_of(fixtures, "ct_group"))


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_one_scale_for_the_whole_tensor(fixtures, tmp_path, shape):
    change = {"weight_scale": np.full(shape, 0.5, np.float32), "weight_zero_point": np.full(shape, -3, np.int8)}
    weight = loaded(altered(fixtures, "ct_int8", tmp_path / "m", change, {}, {"strategy": "tensor", "symmetric": False}))
    stored = numpy_tensors(fixtures / "ct_int8" / "model.safetensors")["proj.weight"]
    assert weight.scale.shape == (12, 1) and np.array_equal(weight.dequantise(), (stored + np.float32(3)) * np.float32(0.5))


def test_a_scale_a_row_without_its_second_dimension(fixtures, tmp_path):
    weight = loaded(altered(fixtures, "ct_int8", tmp_path / "m", {"weight_scale": lambda scale: scale.reshape(-1)}))
    assert np.array_equal(weight.dequantise(), expected_of(fixtures, "ct_int8"))


def test_zero_points_in_sparse_weights(fixtures, tmp_path):
    """What is left out would not be 0."""
    change = {"weight_zero_point": np.full((12, 1), 2, np.int8)}
    folder = altered(fixtures, "ct_int8_sparse", tmp_path / "m", change, {}, {"symmetric": False})
    with pytest.raises(InputError, match="weight_zero_point must be 0 where weights are left out"):
        loaded(folder)
