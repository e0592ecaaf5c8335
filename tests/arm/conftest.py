"""One deterministic profile: the same examples on every machine, few enough for seconds (decision 30)."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "bounded",
    max_examples=25,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("bounded")
