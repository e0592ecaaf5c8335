"""
Odd spellings: what stands in a Python value, a file and a wire document for one thing.

A word marks a field's type, `Annotated[int, Duration("ms")]`. It is data; the code
that reads and writes it is in `schema.fields`. Words are hashable, as `Annotated` asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from attrs import field, frozen

from modelport.entities.base import nearest
from modelport.errors import ValidationException


@frozen
class Duration:
    """A number of `unit` in Python and files, ISO 8601 on the wire: 750 ms is `PT0.75S`."""

    unit: Literal["ms", "s"]


@frozen
class Choice:
    """One of a few words. Files and callers may use either spelling, in any case."""

    wire: Mapping[str, str] = field(hash=False)
    """Python's word to the wire's."""

    def python(self, value: Any) -> str:
        """
        Python's word for any spelling of it; a boolean stands for `true` or `false`.

        Raises:
            errors.ValidationException: It is none of the words.
        """
        known = self.known(value)
        if known is not None:
            return known
        words = ", ".join(self.wire)
        raise ValidationException(f"{value!r} is not one of {words}.{nearest(str(value).lower(), list(self.wire))}")

    def known(self, value: Any) -> str | None:
        """Python's word for any spelling of it; None for what is none of the words."""
        text = str(value).lower().replace("-", "_")
        return next((mine for mine, theirs in self.wire.items() if text in (mine, theirs.lower())), None)


@frozen
class Version:
    """Text that files, where `1` is a number, may write as a whole number."""

    @staticmethod
    def python(value: Any) -> str:
        """
        The version as text.

        Raises:
            errors.ValidationException: It is neither text nor a whole number.
        """
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            raise ValidationException(f"Asset version must be a string, not {value!r}: write it in quotes.")
        return str(value)


@frozen
class Asset:
    """A reference to an asset (`azureml:name:version`, an ARM id, …) or the asset itself."""

    kind: str
    """The collection's name in URLs, e.g. `models`."""


@frozen
class LocalPath:
    """A path that is relative to the file that names it, or a URI, which stays as it is."""


@frozen
class CondaSpec:
    """A conda file: a path or the parsed document in Python and files, the document as YAML text on the wire."""


@frozen
class Texts:
    """A mapping whose values are made text, as Azure does for a model's tags."""


@frozen
class Percentages:
    """Deployment names to whole percentages. Names are lower-cased; zeros are not sent."""


@frozen
class Wrapped:
    """Each value of the mapping is `{key: value}` on the wire."""

    key: str


@frozen
class Ids:
    """A list of `{resource_id: …}` in files, an object with the ids as keys on the wire."""


Milliseconds = Annotated[int, Duration("ms")]
Seconds = Annotated[int, Duration("s")]
Path = Annotated[str, LocalPath()]
Traffic = Annotated[dict[str, int], Percentages()]
Document = dict[str, Any]
