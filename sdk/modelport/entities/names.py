"""What Azure takes as the name of an endpoint or a deployment, in Azure's own words."""

import re
from collections.abc import Callable
from typing import Any

PATTERN = re.compile(r"[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?")
SHORTEST, LONGEST = 3, 32


def lower_case(value: Any) -> str:
    """
    A name in lower case, as Azure keeps it.

    Raises:
        TypeError: It is not text.
    """
    if not isinstance(value, str):
        raise TypeError(f"A name is text, not {value!r}.")
    return value.lower()


def resource_name(thing: str) -> Callable[[Any, Any, Any], None]:
    """A validator for the name of `thing`, which reads `an endpoint` or `a deployment`."""

    def check(_instance: Any, _attribute: Any, value: Any) -> None:
        if not SHORTEST <= len(value) <= LONGEST:
            raise ValueError(
                f"The name for {thing} must be at least {SHORTEST} and at most {LONGEST} characters long "
                f"(inclusive of both limits), and '{value}' has {len(value)}."
            )
        if not PATTERN.fullmatch(value):
            raise ValueError(
                f"The name for {thing} must start with an upper- or lowercase letter and only consist of '-'s and "
                f"alphanumeric characters, and not end with '-': '{value}' does not."
            )

    return check
