"""What others published of vision transformers: every row says its kind and source, and the rows agree with each other."""

import pytest

from sparseloom.perfmodel.published.rows import KINDS
from sparseloom.perfmodel.published.vit import published


def one(system, device, metric):
    (row,) = published(system=system, device=device, metric=metric)
    return row


def test_rows_say_what_they_are():
    rows = published()
    assert len(rows) >= 60 and {row.kind for row in rows} <= set(KINDS)
    assert all(row.source and row.covers and row.model and row.confidence in ("primary", "secondary") for row in rows)
    assert all(row.clock_mhz is None or 50 <= row.clock_mhz <= 2000 for row in rows)


def test_the_rows_that_answers_are_set_beside():
    found = {(row.system, row.device, row.value, row.precision, row.kind) for row in published(metric="latency")}
    assert {
        ("Edge-MoE", "ZCU102", 34.64, "W16 A32", "board"), ("UbiMoE", "ZCU102", 25.76, "W16 A32", "board"),
        ("UbiMoE", "U280", 10.33, "W16 A32", "board"), ("UbiMoE-E", "ZCU102", 8.2, "INT16", "board"),
        ("HeatViT", "ZCU102", 9.15, "INT8", "board"), ("V100S baseline in UbiMoE", "V100S", 40.1, "FP32", "board"),
    } <= found
    assert one("UbiMoE", "ZCU102", "dsp").value == 1850


@pytest.mark.parametrize("system, device", [("UbiMoE", "ZCU102"), ("UbiMoE", "U280"), ("Edge-MoE", "ZCU102")])
def test_latency_times_throughput_is_the_dense_model(system, device):
    gop = one(system, device, "latency").value * one(system, device, "throughput").value / 1e3
    assert gop == pytest.approx(2.50, abs=0.005) and "1.565" in one(system, device, "latency").covers


def test_derived_rows_follow_from_the_others():
    for device, digits in (("ZCU102", 0.052), ("U280", 0.071)):
        assert one("UbiMoE", device, "throughput").value / one("UbiMoE", device, "dsp").value == pytest.approx(digits, abs=0.0005)
    cycles, ms = one("Edge-MoE", "ZCU102", "compute_cycles"), one("Edge-MoE", "ZCU102", "compute_latency_lower_bound")
    assert cycles.kind == ms.kind == "derived" and cycles.value / 300e3 == pytest.approx(ms.value, abs=0.005)
