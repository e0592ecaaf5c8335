"""Request and answer pairs captured from azureml-inference-server-http 1.5.1."""

from __future__ import annotations

import base64
import json
from itertools import groupby
from pathlib import Path

import pytest

GOLDEN = json.loads((Path(__file__).parent / "golden.json").read_text())

COVERED = {"s_plain.py", "s_hdr.py"}
LATER = {"s_raw.py", "s_schema.py"}
"""@rawhttp and inference-schema."""
WITHOUT_CASES = {"s_norun.py", "s_badinit.py"}
"""Scripts that never serve: test_failures.py."""

VARYING = {"x-ms-run-fn-exec-ms", "content-length"}
IDS = {"x-request-id", "x-ms-request-id"}


def is_later(case: dict) -> bool:
    return (
        case["script"] in LATER
        or "AML_CORS_ORIGINS" in case["env"]
        or case["request"]["path"].startswith("/swagger.json")
    )


def test_the_pairs_left_for_later_are_known():
    assert set(GOLDEN["scripts"]) == COVERED | LATER | WITHOUT_CASES
    assert {case["script"] for case in GOLDEN["cases"]} == COVERED | LATER
    later = [case["label"] for case in GOLDEN["cases"] if is_later(case) and case["script"] in COVERED]
    assert later == [
        *("swagger default", "swagger 3", "swagger 3.1", "swagger 9"),
        *("cors preflight", "cors post", "cors other"),
    ]


GROUPS = [
    (script, dict(env), list(cases))
    for (script, env), cases in groupby(
        (case for case in GOLDEN["cases"] if not is_later(case)),
        key=lambda case: (case["script"], tuple(sorted(case["env"].items()))),
    )
]


@pytest.mark.parametrize(("script", "env", "cases"), GROUPS, ids=[f"{s}-{len(c)}" for s, _, c in GROUPS])
def test_every_pair_is_answered_as_azure_does(serve, script, env, cases):
    served = serve(GOLDEN["scripts"][script], **env)
    for case in cases:
        request, expected = case["request"], case["response"]
        body = base64.b64decode(request["body_base64"]) if "body_base64" in request else request["body"]
        headers = {name.replace("-", "_"): value for name, value in request["headers"].items()}
        answer = served.request(request["method"], request["path"], body, **headers)
        where = f"{case['label']}: {answer}"
        assert answer.status == expected["status"], where
        if case["label"] == "headers":  # the order of a request's headers is nobody's promise
            assert json.loads(answer.body) == json.loads(expected["body"]), where
        else:
            assert answer.body.decode() == expected["body"], where
        check_headers(answer.headers, expected["headers"], request["headers"], where)


def check_headers(got, expected, sent, where):
    for name, value in expected.items():
        assert name in got, where
        if name == "x-ms-server-version":
            assert got[name].startswith("modelport/"), where
        elif name in VARYING or (name in IDS and value not in sent.values()):
            assert got[name], where
        else:
            assert got[name] == value, where
    assert not {name for name in got if name.startswith("x-")} - set(expected), where
