"""
Which resources a list shows, in which order, a page at a time.

Azure's kinds of lists know different filters; here every list knows all of them,
because a filter that a list of Azure's does not know is never sent to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from modelport.arm.messages import Request
from modelport.errors import ValidationException

_PAGE = 100

_VIEWS = ("activeonly", "archivedonly", "all")


def page(bodies: list[dict[str, Any]], request: Request) -> dict[str, Any]:
    """
    One page: `{"value": […], "nextLink"}`; without `nextLink` it is the last.

    Args:
        bodies: All there are, oldest first.
        request: Whose query says what is wanted.

    Raises:
        errors.ValidationException: The query has a number or a view that cannot be.

    Source: the queries of `GET …/onlineEndpoints`, `…/deployments`, `…/models` and `…/versions`.
    """
    query = {name.lower(): value for name, value in request.query.items()}
    found = _ordered([each for each in bodies if _shown(each, query)], query)
    size, skip = (_count(query.get(name), name, least) for name, least in (("$top", 1), ("$skip", 0)))
    size, skip = size or _count(query.get("count"), "count", 1) or _PAGE, skip or 0
    answer: dict[str, Any] = {"value": found[skip : skip + size]}
    if skip + size < len(found):
        following = {**{k: v for k, v in request.query.items() if k.lower() != "$skip"}, "$skip": str(skip + size)}
        answer["nextLink"] = f"{request.base_url}{request.path}?{urlencode(following)}"
    return answer


def _shown(body: Mapping[str, Any], query: Mapping[str, str]) -> bool:
    """Whether a resource is one of those that the query wants."""
    properties = body["properties"]
    view = query.get("listviewtype", "ActiveOnly").lower().replace("_", "")
    if view not in _VIEWS:
        message = f"listViewType must be ActiveOnly, ArchivedOnly or All, not '{query['listviewtype']}'."
        raise ValidationException(message, target="listViewType")
    return (
        (view == "all" or bool(properties.get("isArchived")) == (view == "archivedonly"))
        and _is(query.get("name"), body["name"])
        and _is(query.get("computetype"), body.get("kind"))
        and _is(query.get("stage"), properties.get("stage"))
        and _is(query.get("hash"), (properties.get("properties") or {}).get("hash_sha256"))
        and _has(query.get("tags"), body.get("tags") or properties.get("tags") or {})
        and _has(query.get("properties"), properties.get("properties") or {})
    )


def _is(wanted: str | None, found: Any) -> bool:
    return not wanted or wanted.lower() == str(found or "").lower()


def _has(wanted: str | None, labels: Mapping[str, Any]) -> bool:
    """Whether labels have all of `key1,key2=value`."""
    for each in filter(None, (wanted or "").split(",")):
        key, equals, value = each.strip().partition("=")
        if key not in labels or (equals and str(labels[key]) != value):
            return False
    return True


def _ordered(bodies: list[dict[str, Any]], query: Mapping[str, str]) -> list[dict[str, Any]]:
    """By creation, or by the last change; `createdtime desc` and `UpdatedAtDesc` are both spellings of Azure's."""
    said = (query.get("$orderby") or query.get("orderby") or "").lower().replace(" ", "")
    if said.startswith(("updated", "lastmodified", "modified")):
        bodies = sorted(bodies, key=lambda each: str((each.get("systemData") or {}).get("lastModifiedAt") or ""))
    return bodies[::-1] if said.endswith("desc") else bodies


def _count(value: str | None, name: str, least: int) -> int | None:
    if value is None:
        return None
    if not value.isdigit() or int(value) < least:
        raise ValidationException(f"The query's {name} must be a whole number of at least {least}, not '{value}'.")
    return int(value)
