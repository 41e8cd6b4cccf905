"""Operations of the vision transformers that were published, by hand."""

import pytest

from sparseloom.models.zoo.vit_shapes import M3VIT_TINY, SHAPES, VIT_T


@pytest.mark.parametrize("shape, tokens, gop", [(M3VIT_TINY, 129, 1.565), (VIT_T, 197, 2.507)], ids=SHAPES)
def test_operations_are_the_published_ones(shape, tokens, gop):
    assert shape.tokens == tokens and shape.head_width == 64
    assert shape.gop == pytest.approx(gop, abs=0.001)


def test_parts_by_hand():
    macs = M3VIT_TINY.macs
    assert macs["projections"] == 12 * 4 * 129 * 192 * 192
    assert macs["attention"] == 12 * 3 * 2 * 129 * 129 * 64
    # Two experts of half the width are as much work as the dense block: both have six of twelve.
    assert macs["experts"] == macs["dense"] == 6 * 2 * 129 * 192 * 768
    assert macs["gates"] == 6 * 129 * 192 * 16 and macs["patches"] == 128 * 768 * 192
    assert VIT_T.macs["experts"] == VIT_T.macs["gates"] == 0


def test_odd_blocks_have_the_experts():
    assert [M3VIT_TINY.has_experts(block) for block in range(4)] == [False, True, False, True]
    assert not any(VIT_T.has_experts(block) for block in range(12))
