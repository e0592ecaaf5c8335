"""
How many cores and how much memory Azure's machines have, and what quota a deployment asks for.

Sizes say their cores in their names, `Standard_F4s_v2`, but for those of an old family,
which stand in a table. A name that is neither is not guessed at.
"""

from __future__ import annotations

import re
from fractions import Fraction
from math import ceil

_NUMBERED = {"ds1_v2": 1, "ds2_v2": 2, "ds3_v2": 4, "ds4_v2": 8, "ds5_v2": 16}
"""Sizes whose number counts the sizes of the family, not their cores."""

_NAMED = re.compile(
    r"(?:f\d+s_v2|fx\d+mds|[de]\d+(?:a|d|ad)?s?_v[345]|l\d+(?:s_v[23]|as_v3)|nc\d+s_v[23]|nc\d+as_t4_v3|nv\d+adm?s_a10_v5)"
)
_EXEMPT = re.compile(r"(?:nc\d+ads_a100_v4|nc\d+adi?s_h100_v5|nd\d+(?:rs_v2|asr_v4|amsr_a100_v4|isr?_h100_v5))")
"""Sizes of which nothing is held back for upgrades."""

_GIB_PER_CORE = (
    (re.compile(r"ds\d_v2"), Fraction(7, 2)),
    (re.compile(r"d\d+(?:a|d|ad)?s?_v[345]"), Fraction(4)),
    (re.compile(r"e\d+(?:a|d|ad)?s?_v[345]"), Fraction(8)),
    (re.compile(r"f\d+s_v2"), Fraction(2)),
    (re.compile(r"fx\d+mds"), Fraction(21)),
    (re.compile(r"l\d+(?:s_v[23]|as_v3)"), Fraction(8)),
    (re.compile(r"nc\d+s_v[23]"), Fraction(56, 3)),
    (re.compile(r"nc\d+as_t4_v3"), Fraction(7)),
)
"""Memory goes with cores within a family. Source: Azure's "Sizes for virtual machines"."""

SMALL = frozenset({"standard_ds1_v2", "standard_ds2_v2"})
"""Sizes that Azure's client calls too small. Source: azure-ai-ml 1.35.2."""


def cores(instance_type: str) -> int | None:
    """
    The cores of one machine; None for a size that is not known here.

    Source: Azure's "Managed online endpoints SKU list", and its naming conventions for virtual machine sizes.
    """
    size = _short(instance_type)
    number = re.search(r"\d+", size)
    known = number and (_NAMED.fullmatch(size) or _EXEMPT.fullmatch(size))
    return int(number[0]) if number and known else _NUMBERED.get(size)


def memory_bytes(instance_type: str) -> int | None:
    """The memory of one machine in bytes; None for a size that is not known here."""
    size, count = _short(instance_type), cores(instance_type)
    ratio = next((each for pattern, each in _GIB_PER_CORE if pattern.fullmatch(size)), None)
    return None if count is None or ratio is None else int(count * ratio * 2**30)


def spare(instance_type: str) -> bool:
    """
    Whether Azure wants quota for a fifth more machines, which upgrades take.

    Source: the column "Skip 20% Reservation" of the same list.
    """
    return not _EXEMPT.fullmatch(_short(instance_type))


def quota(instance_type: str, instances: int) -> int | None:
    """
    The cores of quota that so many instances need; None for an unknown size.

    Source: Azure's "Virtual machine quota allocation for deployment", `ceil(1.2 * instances) * cores`.
    """
    each = cores(instance_type)
    machines = ceil(instances * Fraction(6, 5)) if spare(instance_type) else instances
    return None if each is None else machines * each


def _short(instance_type: str) -> str:
    return instance_type.lower().removeprefix("standard_")
