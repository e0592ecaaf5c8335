"""Quota as Azure counts it: its own list of sizes for managed online endpoints, with the cores that it gives."""

import re

import pytest

from modelport.entities import sizes

LISTED = """
DS1_V2 1, DS2_V2 2, DS3_V2 4, DS4_V2 8, DS5_V2 16
D2AS_V4 D4AS_V4 D8AS_V4 D16AS_V4 D32AS_V4 D48AS_V4 D64AS_V4 D96AS_V4
D2A_V4 D4A_V4 D8A_V4 D16A_V4 D32A_V4 D48A_V4 D64A_V4 D96A_V4
E2S_V3 E4S_V3 E8S_V3 E16S_V3 E32S_V3 E48S_V3 E64S_V3
F2S_V2 F4S_V2 F8S_V2 F16S_V2 F32S_V2 F48S_V2 F64S_V2 F72S_V2
FX4MDS FX12MDS FX24MDS FX36MDS FX48MDS
L8AS_V3 L16AS_V3 L32AS_V3 L48AS_V3 L64AS_V3 L80AS_V3
L8S_V2 L16S_V2 L32S_V2 L48S_V2 L64S_V2 L80S_V2
L8S_V3 L16S_V3 L32S_V3 L48S_V3 L64S_V3 L80S_V3
NC4AS_T4_V3 NC8AS_T4_V3 NC16AS_T4_V3 NC64AS_T4_V3
NC6S_V2 NC12S_V2 NC24S_V2 NC6S_V3 NC12S_V3 NC24S_V3
NV6ADS_A10_V5 NV12ADS_A10_V5 NV18ADS_A10_V5 NV36ADS_A10_V5 NV36ADMS_A10_V5 NV72ADS_A10_V5
"""
EXEMPT = """
NC24ADS_A100_V4 NC48ADS_A100_V4 NC96ADS_A100_V4 NC40ADS_H100_V5 NC80ADIS_H100_V5
ND96AMSR_A100_V4 ND96ASR_V4 ND40RS_V2 ND96IS_H100_V5 ND96ISR_H100_V5
"""


def _rows(text):
    """Sizes with their cores: those said after the name, else the number in it."""
    for name, said in re.findall(r"([A-Z]\w+)(?: (\d+))?", text):
        yield f"STANDARD_{name}", int(said or re.search(r"\d+", name)[0])


@pytest.mark.parametrize(("size", "cores"), [*_rows(LISTED), *_rows(EXEMPT)])
def test_all_of_the_list_is_known(size, cores):
    assert sizes.cores(size) == sizes.cores(size.lower()) == cores


@pytest.mark.parametrize("size", ["Standard_X1", "Basic_A0", "Standard_D3_v2", "Standard_E4-2s_v3", "Standard_D4", ""])
def test_what_is_neither_named_nor_listed_is_not_guessed_at(size):
    assert sizes.cores(size) is None
    assert sizes.quota(size, 10) is None


def test_quota_is_a_fifth_more_than_the_instances():
    assert sizes.quota("Standard_DS3_v2", 10) == 48, "the documentation's own example"
    assert [sizes.quota("Standard_DS3_v2", count) for count in (0, 1, 5)] == [0, 8, 24]


@pytest.mark.parametrize(("size", "cores"), [*_rows(EXEMPT)])
def test_of_some_sizes_nothing_is_held_back_for_upgrades(size, cores):
    assert sizes.quota(size, 10) == 10 * cores
    assert not sizes.spare(size)


@pytest.mark.parametrize(
    ("size", "gibibytes"),
    [("DS1_v2", 3.5), ("DS3_v2", 14), ("D4s_v3", 16), ("E4s_v3", 32), ("F4s_v2", 8), ("FX4mds", 84), ("L8s_v2", 64)],
)
def test_memory_goes_with_the_cores(size, gibibytes):
    assert sizes.memory_bytes(f"Standard_{size}") == gibibytes * 2**30
    assert sizes.memory_bytes("Standard_X1") is None
