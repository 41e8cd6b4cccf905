"""ONNX files that break a rule are refused by one line that names place, rule and value."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from sparseloom.models.importers import load, onnx_wire
from sparseloom.models.spec.errors import InputError

X = {"x": ("float32", (2, 3))}


def tensor(name="w", dims=(2,), kind=TensorProto.FLOAT, raw=bytes(8), **more):
    made = TensorProto(name=name, data_type=kind, dims=dims, **more)
    if raw is not None:
        made.raw_data = raw
    return made


def external(**told):
    made = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    for key, value in told.items():
        made.external_data.add(key=key, value=value)
    return made


def model(tools, *nodes, constants=(), outputs=("y",), change=None, **options):
    content = tools.make_model(nodes or [tools.node("Relu", ["x"], ["y"])], X, list(outputs), constants, **options)
    if change is None:
        return content
    proto = onnx.ModelProto.FromString(content)
    change(proto)
    return proto.SerializeToString()


def sparse(proto):
    proto.graph.sparse_initializer.add().values.name = "s"


def deep(levels):
    """A model whose node has a graph whose node has a graph, and so on."""
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [], [])
    for _ in range(levels):
        graph = helper.make_graph([helper.make_node("If", ["x"], ["y"], then_branch=graph)], "g", [], [])
    return helper.make_model(graph).SerializeToString()


def node(*words, **said):
    return lambda tools: [tools.node(*words, **said)]


CONSTANTS = [
    (tensor(raw=bytes(7)), "data must be 8 bytes, as float32 .2. has them, got 7"),
    (tensor(dims=[1 << 39, 1 << 39]), "shape must be at most 16 sizes"),
    (tensor(dims=[-1]), "shape must be at most 16 sizes of 0 or more"),
    (tensor(dims=[1] * 17), "shape must be at most 16 sizes"),
    (tensor(kind=20), "type must be one of float32, uint8"),
    (tensor(kind=TensorProto.COMPLEX64), "type must be one of float32"),
    (tensor(kind=TensorProto.BOOL, raw=b"\1\2"), "data must be 0 or 1 in a bool tensor, got 2"),
    (tensor(raw=None), "data must be 2 values, got 0"),
    (tensor(raw=None, kind=TensorProto.INT8, int32_data=[1, 128]), r"data must be -128..127, got 128"),
    (tensor(raw=None, kind=TensorProto.STRING, string_data=[b"a"]), "data must be 2 texts, got 1"),
    (tensor(segment=TensorProto.Segment(begin=0, end=1)), "segment must be absent"),
    (external(location="../secret"), "location of the data must be 1..1024 printable characters without empty, '.' or '..'"),
    (external(location="/etc/passwd"), "location of the data must"),
    (external(location="c:\\x"), "location of the data must be a path below the model's folder"),
    (external(location="link"), "location of the data must stay in the model's folder"),
    (external(location="nowhere"), "nowhere: file must be readable"),
    (external(location="."), "location of the data must"),
    (external(), "location of the data must"),
    (external(location="data", offset="-1"), "offset of the data must be a number of bytes, got '-1'"),
    (external(location="data", offset="9" * 16), "offset of the data must be a number"),
    (external(location="data", length="9"), "length of the data must be 8 bytes"),
    (external(location="data", offset="100"), "data must end within the 64 bytes of data, got 108"),
]


@pytest.mark.parametrize("constant, message", CONSTANTS, ids=range(len(CONSTANTS)))
def test_tensors(constant, message, onnx_tools, tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    (tmp_path / "outside").write_bytes(bytes(64))
    (folder / "data").write_bytes(bytes(64))
    (folder / "link").symlink_to(tmp_path / "outside")
    (folder / "m").write_bytes(model(onnx_tools, constants={"w": constant}))
    with pytest.raises(InputError, match=f"w: {message}|{message}") as caught:
        load(folder / "m")
    assert "\n" not in str(caught.value)


MODELS = {
    "a cycle": (lambda tools: model(tools, tools.node("Add", ["x", "b"], ["a"]), tools.node("Relu", ["a"], ["b"]), outputs=["b"]),
                "an input of node Add_0 must be there or be computed by an earlier node, got 'b'"),
    "itself": (lambda tools: model(tools, tools.node("Relu", ["y"], ["y"])), "be computed by an earlier node, got 'y'"),
    "no initialiser": (lambda tools: model(tools, tools.node("MatMul", ["x", "w"], ["y"])), "by an earlier node, got 'w'"),
    "two of a name": (lambda tools: model(tools, *2 * [tools.node("Relu", ["x"], ["y"])]),
                      "an output of node Relu_1 must have a name of its own, got 'y'"),
    "an input computed": (lambda tools: model(tools, tools.node("Relu", ["x"], ["x"]), outputs=["x"]), "of its own, got 'x'"),
    "no output": (lambda tools: model(tools, outputs=["z"]), "an output must be computed, got 'z'"),
    "an unprintable name": (lambda tools: model(tools, tools.node("Relu", ["x"], ["y\n"]), outputs=["y\n"]),
                            "name of an output must be 1..1024 printable characters"),
    "a long name": (lambda tools: model(tools, tools.node("Relu" * 999, ["x"], ["y"])), "operator must be 1..1024"),
    "no operator": (lambda tools: model(tools, tools.node("", ["x"], ["y"])), "operator must be 1..1024 printable"),
    "an old version": (lambda tools: model(tools, opset=6), "opset must be 7 or later: convert the file, got 6"),
    "no version": (lambda tools: model(tools, change=lambda proto: proto.ClearField("opset_import")), "opset must be 7 or later"),
    "sparse": (lambda tools: model(tools, change=sparse), "sparse_initializer must be absent"),
    "an attribute of nothing": (lambda tools: model(tools, change=lambda proto: proto.graph.node[0].attribute.add(type=2)),
                                "name of an attribute must be"),
    "a reference": (lambda tools: model(tools, change=lambda proto: proto.graph.node[0].attribute.add(
        name="a", type=2, ref_attr_name="b")), "attribute a must have a value of its own, got 'b'"),
    "a sequence": (lambda tools: model(tools, change=lambda proto: proto.graph.input[0].type.sequence_type.elem_type.tensor_type.
                                       CopyFrom(onnx.TypeProto.Tensor(elem_type=1))), "type of input x must be a tensor of"),
    "a constant of two values": (lambda tools: model(tools, tools.node("Constant", [], ["c"], value_int=1, value_float=2.0),
                                                     tools.node("Relu", ["x"], ["y"])), "attributes must be one value"),
    "a constant text": (lambda tools: model(tools, tools.node("Constant", [], ["c"], value_string="a"),
                                            tools.node("Relu", ["x"], ["y"])), "attribute value_string must be a value"),
    "bad UTF-8": (lambda tools: model(tools).replace(b"Relu", b"Re\xff\xfe"), "operator must be UTF-8, got b'Re"),
    "cut": (lambda tools: model(tools)[:-3], "must end by byte"),
    "deep": (lambda tools: deep(30), "must be nested less deep"),
    "a wire type": (lambda tools: model(tools) + b"\x0f", "must be made of protobuf fields, got 'wire type 7'"),
    "a field 0": (lambda tools: model(tools) + b"\x00\x00", "must end by byte"),
    "a long number": (lambda tools: model(tools) + b"\x08" + b"\xff" * 20, "within ten bytes"),
}  # fmt: skip


@pytest.mark.parametrize("case", MODELS)
def test_models(case, onnx_tools, tmp_path):
    make, message = MODELS[case]
    (tmp_path / "m").write_bytes(make(onnx_tools))
    with pytest.raises(InputError, match=message) as caught:
        load(tmp_path / "m")
    assert str(tmp_path / "m") in str(caught.value) and "\n" not in str(caught.value)


def test_many_empty_fields_are_refused_before_they_are_parsed(onnx_tools, tmp_path, monkeypatch):
    """Two bytes a node in the file, over a hundred in memory."""
    monkeypatch.setattr(onnx_wire, "MAX_FIELDS", 10000)
    nodes = b"\x0a\x00" * 20000
    size = bytes([0x80 | len(nodes) & 127, 0x80 | len(nodes) >> 7 & 127, len(nodes) >> 14])
    (tmp_path / "m").write_bytes(b"\x08\x0a\x3a" + size + nodes)
    with pytest.raises(InputError, match="file must have at most 10000 fields"):
        load(tmp_path / "m")


def test_without_the_package_the_command_tells_how_to_add_it(onnx_tools, tmp_path, monkeypatch, capsys):
    from sparseloom.cli import main

    (tmp_path / "m").write_bytes(model(onnx_tools))
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    assert main(["check", str(tmp_path / "m")]) == 2
    assert "onnx is not installed; run: pip install 'sparseloom[onnx]'" in capsys.readouterr().err


def test_a_folder_with_one_file(onnx_tools, tmp_path):
    (tmp_path / "model.onnx").write_bytes(model(onnx_tools, constants={"w": np.ones((2, 2), np.float32)}))
    assert load(tmp_path).nodes.opset == 17
