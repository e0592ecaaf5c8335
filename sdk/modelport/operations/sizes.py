"""
How many cores Azure's machines have, and how many of them a deployment asks quota for.

Sizes of newer families say their cores in their names, `Standard_F4s_v2`; the older
ones stand in a table. A name that is neither is not guessed at.
"""

from __future__ import annotations

import re

_BY_NAME = {
    "ds1_v2": 1, "ds2_v2": 2, "ds3_v2": 4, "ds4_v2": 8, "ds5_v2": 16,
    "ds11_v2": 2, "ds12_v2": 4, "ds13_v2": 8, "ds14_v2": 16,
    "d1_v2": 1, "d2_v2": 2, "d3_v2": 4, "d4_v2": 8, "d5_v2": 16,
}  # fmt: skip
_BY_RULE = re.compile(
    r"(?:f\d+s_v2|fx\d+mds|d\d+(?:a|d|ad)?s?_v[345]|e\d+(?:a|d|ad)?s?_v[345]|l\d+a?s_v[23]"
    r"|nc\d+s_v[23]|nc\d+as_t4_v3|nc\d+ads_a100_v4|nc\d+a?ds?_h100_v5|nd\d+(?:rs_v2|asr_v4|amsr_a100_v4|isr_h100_v5))"
)

SMALL = frozenset({"standard_ds1_v2", "standard_ds2_v2"})
"""Sizes that Azure's client calls too small. Source: azure-ai-ml 1.35.2."""


def cores(instance_type: str) -> int | None:
    """
    The cores of one machine; None for a size that is not known here.

    Source: the SKU list of managed online endpoints, and Azure's naming convention for virtual machine sizes.
    """
    size = instance_type.lower().removeprefix("standard_")
    if size in _BY_NAME:
        return _BY_NAME[size]
    number = re.search(r"\d+", size)
    return int(number[0]) if number and _BY_RULE.fullmatch(size) else None


def quota(instance_type: str, instances: int) -> int | None:
    """
    The cores of quota that so many instances need: a fifth more of them, for upgrades; None for an unknown size.

    Source: `ceil(1.2 * instances) * cores`; Azure leaves the fifth out for some sizes.
    """
    each = cores(instance_type)
    return None if each is None else -(-12 * instances // 10) * each
