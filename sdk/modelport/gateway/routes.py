"""
Who answers a request: an endpoint, into an ordered list of rules.

The first rule whose conditions hold decides. That is also how Envoy works, but
nothing here knows of Envoy: the rules can be read, and tested, as they stand.

Each deployment has its own rule, also where traffic is split between several,
because each has its own time limit and its own name on the answer. A split is
therefore written as running totals: of one draw per request between 0 and 1,
90/10 is "below 0.9: blue; else: green".
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate

from attrs import evolve, field, frozen

from modelport import errors

PREFIX = "/api/v1/endpoint/"
PATHS = ("/score", "/", "/swagger.json")
"""What callers reach beneath an endpoint's address; a replica serves the same paths."""

DEPLOYMENT_HEADER = "azureml-model-deployment"
"""In a request: the deployment that must answer. In an answer: the one that did."""

ANY = "*"
"""In `Rule.deployment`: whatever the header says. No deployment can have this name."""


@frozen(kw_only=True)
class Deployment:
    """One deployment's ready replicas, and how long each request may take them."""

    addresses: tuple[str, ...]
    """Paths of Unix sockets (`/…`) or `host:port`; empty while no replica is ready."""
    timeout: float
    """Seconds."""
    scoring: str | None = None
    """
    The path at which a server of the user's own scores; all its other paths are reached too. None: our scoring
    server, which serves `PATHS`.
    """


@frozen(kw_only=True)
class Endpoint:
    """One endpoint as callers meet it."""

    name: str
    keys: tuple[str, ...]
    """What may follow `Bearer` in a request's Authorization; empty: nobody gets in."""
    traffic: Mapping[str, int] = field(factory=dict)
    """Deployment → its share of the requests, in any unit; shares are relative to their sum."""
    mirror: Mapping[str, int] = field(factory=dict)
    """Deployment → percentage of the requests that it gets a copy of."""
    deployments: Mapping[str, Deployment] = field(factory=dict)


@frozen(kw_only=True)
class Forward:
    """Hand the request to a deployment."""

    deployment: str
    mirror: Mapping[str, int] = field(factory=dict)
    path: str | None = None
    """The path that the request gets in place of its own; None: its own, beneath the endpoint's address."""


@frozen(kw_only=True)
class Refuse:
    """
    Answer in the deployments' stead.

    `{header}` in `message` stands for what the request's deployment header says.
    """

    status: int
    code: str
    message: str


@frozen(kw_only=True)
class Rule:
    """Conditions, all of which must hold, and the answer. A condition that is None always holds."""

    answer: Forward | Refuse
    without_keys: tuple[str, ...] | None = None
    """The request carries none of these."""
    elsewhere: bool | None = None
    """Its path beneath the endpoint's address is none of `PATHS`."""
    scores: bool | None = None
    """Its path beneath the endpoint's address is `/score`."""
    deployment: str | None = None
    """Its deployment header says this, in any case of letters; `ANY`: it has the header at all."""
    below: float | None = None
    """Its draw between 0 and 1 is less than this."""


def rules(endpoint: Endpoint) -> list[Rule]:
    """The rules for all requests beneath the endpoint's address; the last one holds for every request."""
    unauthorized = Refuse(
        status=401,
        code=errors.ClientAuthenticationError.code,
        message=f"Endpoint '{endpoint.name}' needs the header 'Authorization: Bearer <key>' with one of its keys.",
    )
    absent = Refuse(
        status=404,
        code=errors.ResourceNotFoundError.code,
        message=f"Endpoint '{endpoint.name}' serves nothing here: use {', '.join(PATHS)} beneath its address.",
    )
    unknown = Refuse(
        status=404,
        code=errors.ResourceNotFoundError.code,
        message=f"Endpoint '{endpoint.name}' has no deployment '{{header}}', which the request's header"
        f" {DEPLOYMENT_HEADER} names. Name another one, or leave the header out.",
    )
    own_servers = any(each.scoring is not None for each in endpoint.deployments.values())
    return [
        Rule(without_keys=endpoint.keys, answer=unauthorized),
        *([] if own_servers else [Rule(elsewhere=True, answer=absent)]),
        *(
            rule
            for name in endpoint.deployments
            for rule in _to(endpoint, Rule(deployment=name, answer=Forward(deployment=name)), absent, own_servers)
        ),
        Rule(deployment=ANY, answer=unknown),
        *(rule for split in _split(endpoint) for rule in _to(endpoint, split, absent, own_servers)),
    ]


def _to(endpoint: Endpoint, rule: Rule, absent: Refuse, own_servers: bool) -> list[Rule]:
    """
    The rule as it is for the deployment that it leads to.

    A server of the user's own has paths of its own, and one at which it scores; ours has `PATHS`, and what else is
    asked of it is refused, here when the endpoint has both kinds.
    """
    if not isinstance(rule.answer, Forward):
        return [rule]
    scoring = endpoint.deployments[rule.answer.deployment].scoring
    if scoring is not None:
        return [evolve(rule, scores=True, answer=evolve(rule.answer, path=scoring)), rule]
    return [evolve(rule, elsewhere=True, answer=absent), rule] if own_servers else [rule]


def _split(endpoint: Endpoint) -> list[Rule]:
    """The rules for requests that leave the choice to the endpoint."""
    weights = {name: weight for name, weight in endpoint.traffic.items() if weight > 0 and name in endpoint.deployments}
    if not weights:
        idle = Refuse(
            status=404,
            code=errors.ResourceNotFoundError.code,
            message=f"Endpoint '{endpoint.name}' sends no traffic to any deployment. Set its traffic,"
            f" or name a deployment in the header {DEPLOYMENT_HEADER}.",
        )
        return [Rule(answer=idle)]
    mirror = {name: share for name, share in endpoint.mirror.items() if share > 0 and name in endpoint.deployments}
    total = sum(weights.values())
    limits = [reached / total for reached in accumulate(weights.values())]
    return [
        # The last one takes the rest, whatever rounding left of it.
        Rule(below=limit if limit < 1 else None, answer=Forward(deployment=name, mirror=mirror))
        for name, limit in zip(weights, limits, strict=True)
    ]
