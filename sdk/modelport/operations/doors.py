"""
How endpoints are called: what opens them, found once for all threads of a client.

Azure's client asks for an endpoint and its keys before every call. Here they are kept,
and asked for again when they no longer open, when a token is due, or when a deployment
is named that was not there the last time.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from math import inf

from attrs import field, frozen

from modelport.errors import ValidationException

_LEAST = 5.0
"""Seconds for which a key that was just given is used, whatever a clock says of its end."""


@frozen
class Door:
    """How to call an endpoint."""

    uri: str
    key: str = field(repr=False)
    lasts: float = inf
    """Seconds after which another key is asked for."""


class Doors:
    """The doors of a client's endpoints, and the names of the deployments behind them."""

    def __init__(
        self,
        find: Callable[[str], Door],
        deployments: Callable[[str], Iterable[str]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Know nothing yet.

        Args:
            find: The door of an endpoint, as the service says now.
            deployments: The names of an endpoint's deployments, likewise.
            clock: Seconds that never go backwards.
        """
        self._find, self._list, self._clock = find, deployments, clock
        self._doors: dict[str, tuple[Door, float]] = {}
        self._names: dict[str, frozenset[str]] = {}
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._making = threading.Lock()

    def door(self, name: str, *, instead_of: Door | None = None) -> Door:
        """
        The endpoint's door; threads that need it at once wait for one of them to find it.

        Args:
            name: The endpoint.
            instead_of: A door that did not open: another one is found, unless some thread has found it already.

        Raises:
            errors.ModelportError: What the service says: there is no such endpoint, or no key.
        """
        with self._lock(name):
            door, until = self._doors.get(name, (None, inf))
            if door is None or door is instead_of or until <= self._clock():
                self._doors.pop(name, None)
                door = self._find(name)
                self._doors[name] = door, self._clock() + max(door.lasts, _LEAST)
            return door

    def knows(self, name: str) -> bool:
        """Whether the endpoint's door was found before."""
        return name in self._doors

    def must_have(self, name: str, deployment: str, *, look: bool = False) -> None:
        """
        Refuse a deployment that the endpoint does not have; what is not known is looked up, as it is with `look`.

        Raises:
            errors.ValidationException: There is no such deployment.
        """
        with self._lock(name):
            if not look and deployment in self._names.get(name, ()):
                return
            names = self._names[name] = frozenset(each.lower() for each in self._list(name))
        if not names:
            raise ValidationException("No deployment exists for this endpoint", target="deployment_name")
        if deployment not in names:
            there = ", ".join(sorted(names))
            message = f"Deployment name {deployment} not found for this endpoint: '{name}' has {there}."
            raise ValidationException(message, target="deployment_name")

    def forget(self, name: str) -> None:
        """Find everything about an endpoint anew when it is called again."""
        self._doors.pop(name, None)
        self._names.pop(name, None)

    def _lock(self, name: str) -> threading.Lock:
        with self._making:
            return self._locks[name]
