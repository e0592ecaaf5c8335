"""
What is counted, and where each number stands.

Prometheus' own client would bring one more package into users' environments, take a
lock for each observation, and write files to add up several processes. Here a worker
has a row of numbers in memory that all processes share (`shared`), `counting` adds to
it many requests at a time, and `exposition` adds up the rows when somebody asks.
"""

from __future__ import annotations

from dataclasses import dataclass

ROUTES = ("/score", "/", "/swagger.json")
OTHER = "other"
"""The route of paths that are not ours, and the code of a status that is none: clients must not make series."""

FIRST_STATUS, STATUSES = 200, 400
_CODES = STATUSES + 1

SECONDS = (*(factor * 10.0**power for power in range(-4, 2) for factor in (1.0, 2.5, 5.0)), 100.0)
"""Bounds of times: 100 µs to 100 s."""
SIZES = tuple(float(2**power) for power in range(11))
"""Bounds of batch sizes."""

PID, STARTS, INIT_SECONDS, CPU_SECONDS, IN_FLIGHT, WAITING, RUNNING, EXCEPTIONS, RECEIVED, SENT = range(10)
"""Places of single numbers in a row."""

CODES = 16
"""Place of the counts by route and status."""


@dataclass(frozen=True)
class Histogram:
    """
    Numbers of one distribution: how many are at most each bound, how many there are, and their sum.

    Attributes:
        place: Of the first number.
    """

    place: int
    bounds: tuple[float, ...]

    @property
    def count(self) -> int:
        """Place of their number."""
        return self.place + len(self.bounds)

    @property
    def sum(self) -> int:
        """Place of their sum."""
        return self.count + 1

    @property
    def end(self) -> int:
        """The place after the last."""
        return self.sum + 1


REQUEST_SECONDS = Histogram(CODES + (len(ROUTES) + 1) * _CODES, SECONDS)
RUN_SECONDS = Histogram(REQUEST_SECONDS.end, SECONDS)
BATCH_SIZES = Histogram(RUN_SECONDS.end, SIZES)

NUMBERS = BATCH_SIZES.end
"""Length of a row."""


def place_of(route: str, status: int) -> int:
    """Where requests with this route of ROUTES, or OTHER, and this status are counted."""
    number = ROUTES.index(route) if route in ROUTES else len(ROUTES)
    code = status - FIRST_STATUS
    return CODES + number * _CODES + (code if 0 <= code < STATUSES else STATUSES)


def routes_and_codes() -> list[tuple[int, str, str]]:
    """Return all places of counts with their route and code."""
    codes = [str(FIRST_STATUS + number) for number in range(STATUSES)] + [OTHER]
    return [
        (CODES + first * _CODES + number, route, code)
        for first, route in enumerate((*ROUTES, OTHER))
        for number, code in enumerate(codes)
    ]


@dataclass(frozen=True)
class Metric:
    """One metric, as people read of it."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()


_OURS = "modelport_scoring_"

BUILD_INFO = Metric(f"{_OURS}build_info", "gauge", "1; its labels say who serves.", ("version", "python", "deployment"))
REQUESTS = Metric(f"{_OURS}requests_total", "counter", "Requests that were answered.", ("route", "code"))
REQUEST_DURATION = Metric(
    f"{_OURS}request_duration_seconds", "histogram", "From a /score request's head to its answer, waiting included."
)
RUN_DURATION = Metric(f"{_OURS}run_duration_seconds", "histogram", "Time in run().")
BATCH_SIZE = Metric(f"{_OURS}batch_size", "histogram", "Requests in one call of a batched run().")
RUN_EXCEPTIONS = Metric(f"{_OURS}run_exceptions_total", "counter", "Calls of run() that raised.")
REQUEST_BYTES = Metric(f"{_OURS}request_bytes_total", "counter", "Bytes of requests' bodies.")
RESPONSE_BYTES = Metric(f"{_OURS}response_bytes_total", "counter", "Bytes of answers' bodies.")
REQUESTS_IN_FLIGHT = Metric(f"{_OURS}requests_in_flight", "gauge", "Requests that are not answered yet.")
REQUESTS_WAITING = Metric(f"{_OURS}requests_waiting", "gauge", "Those of them that wait for their turn in run().")
RUNS = Metric(f"{_OURS}runs", "gauge", "Calls of run() now, those included whose callers no longer wait.")
WORKERS = Metric(f"{_OURS}workers", "gauge", "Processes that are ready.")
WORKER_STARTS = Metric(
    f"{_OURS}worker_starts_total", "counter", "Processes that were started to serve; above WORKER_COUNT: restarts."
)
INIT = Metric(f"{_OURS}init_seconds", "gauge", "Time that the last init() took; the longest, of several processes.")
CPU = Metric("process_cpu_seconds_total", "counter", "CPU time of all processes that serve or have served.")
MEMORY = Metric("process_resident_memory_bytes", "gauge", "Resident memory; what processes share is counted for each.")
ADDRESSES = Metric("process_virtual_memory_bytes", "gauge", "Virtual memory.")
OPEN_FILES = Metric("process_open_fds", "gauge", "Open file descriptors.")
START = Metric("process_start_time_seconds", "gauge", "When the server was started, in Unix time.")

METRICS = (
    REQUESTS,
    REQUEST_DURATION,
    RUN_DURATION,
    BATCH_SIZE,
    RUN_EXCEPTIONS,
    REQUEST_BYTES,
    RESPONSE_BYTES,
    REQUESTS_IN_FLIGHT,
    REQUESTS_WAITING,
    RUNS,
    WORKERS,
    WORKER_STARTS,
    INIT,
    CPU,
    MEMORY,
    ADDRESSES,
    OPEN_FILES,
    START,
    BUILD_INFO,
)
