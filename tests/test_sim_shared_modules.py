"""Modules that say the same are written once."""

import re

import pytest

from sparseloom.hdl.engines import component
from sparseloom.hdl.export import export
from sparseloom.hdl.shared_modules import share_modules
from sparseloom.models.spec.nm_train import NmTrain

LEAF = "module {name}(a, o);\n  reg \\$auto$file.cc:1:{number}  = 0;\n  assign o = {value};\nendmodule\n"
MIDDLE = "module {name}(a, o);\n  {leaf}  leaf (\n    .a(a),\n    .o(o)\n  );\nendmodule\n"


def names(text):
    return re.findall(r"^module (\w+)", text, re.MULTILINE)


def test_copies_and_what_contains_them_go():
    parts = [MIDDLE.format(name="top", leaf="mid_1"), MIDDLE.format(name="mid_1", leaf="leaf_1"),
             MIDDLE.format(name="mid_2", leaf="leaf_2"), MIDDLE.format(name="mid_3", leaf="leaf_3"),
             *(LEAF.format(name=f"leaf_{i}", number=i, value="a" if i < 3 else "~a") for i in (1, 2, 3))]
    text = share_modules("/* head */\n" + "\n".join(parts), "top")
    assert names(text) == ["top", "mid_1", "mid_3", "leaf_1", "leaf_3"] and text.startswith("/* head */\n\nmodule top")
    assert "leaf_2" not in text and "mid_2" not in text and text.count("leaf_1 ") == 1


def test_the_top_stays_what_it_is_called():
    text = share_modules(LEAF.format(name="one", number=1, value="a") + LEAF.format(name="two", number=2, value="a"), "two")
    assert names(text) == ["one", "two"]


@pytest.mark.rtl
def test_an_array_has_few_kinds_of_pe():
    """The edges alone differ, where neighbours are missing: their number grows with the sides, not with the square."""
    design = export(component(NmTrain(rows=4, cols=4)), "array")
    kinds = [name for name in names(design.verilog) if re.fullmatch(r"array_array_pe_\d+_\d+", name)]
    assert 1 < len(kinds) <= 2 * 4 + 1
