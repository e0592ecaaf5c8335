"""
The documents that Envoy reads, made from endpoints.

The bootstrap is read once, when Envoy starts, and says nothing about endpoints. Two
files are watched: one with all clusters (one per deployment, with the addresses of its
replicas) and one with all routes. Envoy replaces only the clusters that changed, and
finishes the requests inside the old ones. Addresses have no files of their own, since
each watched file takes one of the 128 inotify instances that Linux gives a user, and
Envoy aborts when there are no more.

Only filters that Envoy's security policy covers are used: keys are compared by the
routes themselves, since RBAC can only answer 403.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from attrs import evolve

from modelport import errors
from modelport.gateway.routes import ANY, DEPLOYMENT_HEADER, PATHS, PREFIX, Endpoint, Forward, Refuse, Rule, rules

Document = dict[str, Any]
Files = Mapping[str, list[Document]]
"""Name of a watched file → the resources in it."""

CLUSTERS = "clusters.json"
ROUTES = "routes.json"
LISTENER = "scoring"
"""Names the listener's route table and prefixes its statistics."""

STATISTICS_OF = {CLUSTERS: "cluster_manager.cds", ROUTES: f"http.{LISTENER}.rds.{LISTENER}"}
"""Under which names Envoy's statistics tell about the watched files."""

STATISTICS = ("version_text", "update_rejected", "rq_total", "rq_active", "rq_pending_active")
"""Suffixes of the statistics that are kept: all others would cost memory with each deployment, and time."""

UNLIMITED = 1_000_000
"""Envoy's own limits (1,024 requests, 3 retries) would refuse requests that replicas can queue."""

IDLE_SECONDS = 20
"""A replica closes idle connections after 30 s. Whoever waits longer sends requests into a closing door."""

DRAWS = 1_000_000

_LIMITS = {"re2.max_program_size.error_level": 10_000, "re2.max_program_size.warn_level": 10_000}
"""Two tokens of 43 letters make a longer expression than Envoy's 100 steps allow."""


def cluster_name(endpoint: str, deployment: str) -> str:
    """
    The cluster of a deployment, e.g. `tides.blue`.

    Names of endpoints and deployments have no dot, so this is unique.
    """
    return f"{endpoint}.{deployment}"


def documents(endpoints: Iterable[Endpoint]) -> Files:
    """What the watched files hold for `endpoints`."""
    endpoints = sorted(endpoints, key=lambda endpoint: endpoint.name)
    clusters = [
        _cluster(cluster_name(endpoint.name, name), deployment.addresses)
        for endpoint in endpoints
        for name, deployment in endpoint.deployments.items()
    ]
    return {CLUSTERS: sorted(clusters, key=_name), ROUTES: [_route_table(endpoints)]}


def steps(have: Files, want: Files) -> list[tuple[str, list[Document]]]:
    """
    The files to write, and what, to come from `have` to `want`; Envoy must have taken up each before the next.

    No route ever names a cluster that is not there: what comes, comes before the routes, and what goes, goes
    after them.
    """
    staying = {cluster["name"] for cluster in want[CLUSTERS]}
    going = [cluster for cluster in have.get(CLUSTERS, []) if cluster["name"] not in staying]
    both = sorted([*want[CLUSTERS], *going], key=_name)
    walk = [(CLUSTERS, both), (ROUTES, want[ROUTES]), (CLUSTERS, want[CLUSTERS])]
    now = dict(have)
    needed = []
    for name, resources in walk:
        if now.get(name) != resources:
            needed.append((name, resources))
            now[name] = resources
    return needed


def _name(cluster: Document) -> str:
    return str(cluster["name"])


def bootstrap(folder: Path, port: int) -> Document:
    """What Envoy starts with: one listener on loopback, and where the watched files are."""
    return {
        "node": {"id": "modelport", "cluster": "modelport"},
        "admin": {"address": {"pipe": {"path": str(folder / "admin.sock"), "mode": 0o600}}},
        "dynamic_resources": {"cds_config": _watched(folder / CLUSTERS)},
        "static_resources": {"listeners": [_listener(folder, port)]},
        "stats_config": {
            "stats_matcher": {"inclusion_list": {"patterns": [{"suffix": suffix} for suffix in STATISTICS]}}
        },
        "layered_runtime": {"layers": [{"name": "limits", "static_layer": _LIMITS}]},
    }


def _watched(path: Path) -> Document:
    return {"path_config_source": {"path": str(path)}, "resource_api_version": "V3"}


def _listener(folder: Path, port: int) -> Document:
    return {
        "name": LISTENER,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        # With it, a second Envoy on the same port would not be an error but take half of the requests.
        "enable_reuse_port": False,
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": _connection_manager(folder),
                    }
                ]
            }
        ],
    }


def _connection_manager(folder: Path) -> Document:
    kind = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
    return {
        "@type": kind,
        "stat_prefix": LISTENER,
        "rds": {"route_config_name": LISTENER, "config_source": _watched(folder / ROUTES)},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": router, "dynamic_stats": False, "suppress_envoy_headers": True},
            }
        ],
        "server_name": "modelport",
        # Callers are outsiders, also on loopback: their x-envoy-* headers would set retries and time limits.
        "use_remote_address": True,
        "skip_xff_append": True,
        "internal_address_config": {"cidr_ranges": [{"address_prefix": "255.255.255.255", "prefix_len": 32}]},
        # The scoring server gives ids to requests, and keeps those that callers give.
        "generate_request_id": False,
        "preserve_external_request_id": True,
        # A route's time limit begins when the request is complete; this one ends uploads that stopped.
        "stream_idle_timeout": "600s",
        "local_reply_config": {"mappers": [_mapper(*mapper) for mapper in _LOCAL_REPLIES]},
    }


_WHO = "%METADATA(ROUTE:modelport:deployment)%"

_LOCAL_REPLIES = [
    (
        ["UT"],
        Refuse(
            status=408,
            code=errors.ServiceRequestTimeoutError.code,
            message=f"{_WHO} did not answer within %METADATA(ROUTE:modelport:timeout)%.",
        ),
    ),
    (
        ["UH", "UF"],
        Refuse(
            status=503,
            code=errors.ResourceNotReady.code,
            message=f"{_WHO} has no replica that is ready. Try again.",
        ),
    ),
    (
        ["UC", "UR", "UPE"],
        Refuse(
            status=502,
            code=errors.ServiceRequestError.code,
            message=f"The replica of {_WHO} ended before it answered; it may have worked on the request.",
        ),
    ),
    (
        ["NR"],
        Refuse(
            status=404,
            code=errors.ResourceNotFoundError.code,
            message=f"No endpoint is served at this path. Addresses have the form {PREFIX}<endpoint>/score.",
        ),
    ),
]
"""Response flags of what Envoy itself had to answer → what it says instead."""

_REFUSAL_HEADERS = {401: {"www-authenticate": "Bearer"}, 503: {"retry-after": "1"}}
"""By status; RFC 9110 wants the first, Azure's callers heed the second."""


def _mapper(flags: list[str], refuse: Refuse) -> Document:
    return {
        "filter": {"response_flag_filter": {"flags": flags}},
        "status_code": refuse.status,
        "headers_to_add": _refusal_headers(refuse),
        "body_format_override": _error_body(refuse),
    }


def _error_body(refuse: Refuse) -> Document:
    return {"json_format": {"error": {"code": refuse.code, "message": refuse.message}}}


def _refusal_headers(refuse: Refuse) -> list[Document]:
    return [_header(name, value) for name, value in _REFUSAL_HEADERS.get(refuse.status, {}).items()]


def _header(name: str, value: str) -> Document:
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _cluster(name: str, addresses: Iterable[str]) -> Document:
    protocol = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    limits = dict.fromkeys(("max_connections", "max_pending_requests", "max_requests", "max_retries"), UNLIMITED)
    return {
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": name,
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": _address(address)}} for address in sorted(addresses)]}
            ],
        },
        "connect_timeout": "1s",
        "lb_policy": "LEAST_REQUEST",
        "circuit_breakers": {"thresholds": [{**limits, "track_remaining": False}]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": protocol,
                "common_http_protocol_options": {"idle_timeout": f"{IDLE_SECONDS}s"},
                "explicit_http_config": {"http_protocol_options": {}},
            }
        },
        # A replica that refuses connections looks like the least busy one: leave it out for some seconds at a
        # time. What a script answers never counts, and one replica always stays.
        "outlier_detection": {
            "split_external_local_origin_errors": True,
            "consecutive_local_origin_failure": 5,
            "enforcing_consecutive_local_origin_failure": 100,
            "enforcing_local_origin_success_rate": 0,
            "enforcing_consecutive_5xx": 0,
            "enforcing_consecutive_gateway_failure": 0,
            "enforcing_success_rate": 0,
            "interval": "0.5s",
            "base_ejection_time": "5s",
            "max_ejection_time": "10s",
            "max_ejection_percent": 99,
        },
        "common_lb_config": {"healthy_panic_threshold": {"value": 1}},
    }


def _address(address: str) -> Document:
    if address.startswith("/"):
        return {"pipe": {"path": address}}
    host, _, port = address.rpartition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}


def _route_table(endpoints: Iterable[Endpoint]) -> Document:
    return {
        "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        "name": LISTENER,
        "virtual_hosts": [
            {
                "name": LISTENER,
                "domains": ["*"],
                "retry_policy": _RETRY_POLICY,
                "routes": [_route(endpoint, rule) for endpoint in endpoints for rule in rules(endpoint)],
            }
        ],
        # What is between the caller and the gateway stays there, also for mirrors.
        "request_headers_to_remove": ["authorization", "x-envoy-external-address"],
    }


def _route(endpoint: Endpoint, rule: Rule) -> Document:
    match = _match(endpoint.name, rule)
    if isinstance(rule.answer, Refuse):
        return {"match": match, **_refusal(rule.answer)}
    return {"match": match, **_forwarding(endpoint, rule.answer)}


def _match(endpoint: str, rule: Rule) -> Document:
    path = {"path": f"{PREFIX}{endpoint}/score"} if rule.scores else {"prefix": f"{PREFIX}{endpoint}/"}
    match: Document = {**path, "headers": []}
    if rule.without_keys:
        match["headers"].append(_without(rule.without_keys))
    if rule.elsewhere:
        match["headers"].append({"name": ":path", "string_match": _served_paths(endpoint), "invert_match": True})
    if rule.deployment == ANY:
        match["headers"].append({"name": DEPLOYMENT_HEADER, "present_match": True})
    elif rule.deployment is not None:
        said = {"exact": rule.deployment, "ignore_case": True}
        match["headers"].append({"name": DEPLOYMENT_HEADER, "string_match": said})
    if rule.below is not None:
        share = {"numerator": round(rule.below * DRAWS), "denominator": "MILLION"}
        match["runtime_fraction"] = {"default_value": share}
    return match


def _without(keys: Iterable[str]) -> Document:
    """Absent counts as empty, or a request without the header would pass."""
    accepted = "|".join(re.escape(key) for key in keys)
    return {
        "name": "authorization",
        "string_match": {"safe_regex": {"regex": f"(?i:bearer) +(?:{accepted})"}},
        "invert_match": True,
        "treat_missing_header_as_empty": True,
    }


def _served_paths(endpoint: str) -> Document:
    paths = "|".join(re.escape(path) for path in PATHS)
    return {"safe_regex": {"regex": rf"{re.escape(PREFIX + endpoint)}(?:{paths})(?:\?.*)?"}}


def _refusal(refuse: Refuse) -> Document:
    said = f"%REQ({DEPLOYMENT_HEADER})%"
    refuse = evolve(refuse, message=refuse.message.replace("%", "%%").replace("{header}", said))
    return {
        "direct_response": {"status": refuse.status, "body_format": _error_body(refuse)},
        "response_headers_to_add": _refusal_headers(refuse),
    }


def _forwarding(endpoint: Endpoint, forward: Forward) -> Document:
    timeout = endpoint.deployments[forward.deployment].timeout
    return {
        "route": {
            "cluster": cluster_name(endpoint.name, forward.deployment),
            "prefix_rewrite": forward.path or "/",
            "timeout": f"{timeout:.3f}s",
            "request_mirror_policies": [
                _mirror(cluster_name(endpoint.name, name), share) for name, share in forward.mirror.items()
            ],
        },
        "response_headers_to_add": [_header(DEPLOYMENT_HEADER, forward.deployment)],
        "metadata": {
            "filter_metadata": {
                "modelport": {
                    "deployment": f"Deployment '{forward.deployment}' of endpoint '{endpoint.name}'",
                    "timeout": f"{timeout:g} s",
                }
            }
        },
    }


_RETRY_POLICY = {
    # Only before the first byte of a request is on its way: what may have run is never run again.
    "retry_on": "connect-failure,reset-before-request",
    "num_retries": 5,
    "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.05s"},
    "retry_host_predicate": [
        {
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
            },
        }
    ],
    "host_selection_retry_max_attempts": 5,
}


def _mirror(cluster: str, share: int) -> Document:
    return {
        "cluster": cluster,
        "runtime_fraction": {"default_value": {"numerator": share, "denominator": "HUNDRED"}},
        "disable_shadow_host_suffix_append": True,
    }
