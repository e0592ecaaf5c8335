"""Request and answer pairs captured from azureml-inference-server-http 1.5.1."""

from __future__ import annotations

import base64
import json
from itertools import groupby
from pathlib import Path

import pytest

GOLDEN = json.loads((Path(__file__).parent / "golden.json").read_text())

WITHOUT_CASES = {"s_norun.py", "s_badinit.py"}
"""Scripts that never serve: test_failures.py."""

VARYING = {"x-ms-run-fn-exec-ms", "content-length"}
IDS = {"x-request-id", "x-ms-request-id"}

ON_PURPOSE = {
    "wrong shape": {
        "status": 400,
        "x-ms-run-function-failed": "False",
        "message": "The value of the 'data' parameter does not fit: Invalid input array: array has size 3 on dimension "
        "#1, while expected value is 2. Expected is an array of float64 of the shape (*, 2), such as [[1.0, 2.0]].",
    }
}
"""Answers that Azure gives as 500 "An unexpected error occurred in scoring script" (azure.md, part G)."""


def test_every_script_has_its_pairs():
    assert {case["script"] for case in GOLDEN["cases"]} == set(GOLDEN["scripts"]) - WITHOUT_CASES
    assert len(GOLDEN["cases"]) == 52


GROUPS = [
    (script, dict(env), list(cases))
    for (script, env), cases in groupby(
        GOLDEN["cases"], key=lambda case: (case["script"], tuple(sorted(case["env"].items())))
    )
]


@pytest.mark.parametrize("run", ["def run(", "async def run("], ids=["sync", "async"])
@pytest.mark.parametrize(("script", "env", "cases"), GROUPS, ids=[f"{s}-{len(c)}" for s, _, c in GROUPS])
def test_every_pair_is_answered_as_azure_does(request, serve, script, env, cases, run):
    needs = any("needs" in case for case in cases)
    python = request.getfixturevalue("schema_python") if needs else None
    served = serve(GOLDEN["scripts"][script].replace("def run(", run), python=python, **env)
    for case in cases:
        request, expected = case["request"], meant(case)
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


def meant(case):
    """The recorded answer, with what is different on purpose."""
    answer = case["response"]
    if (other := ON_PURPOSE.get(case["label"])) is None:
        return answer
    failed = {name: value for name, value in other.items() if name.startswith("x-")}
    return {
        "status": other["status"],
        "headers": {**answer["headers"], **failed},
        "body": json.dumps({"message": other["message"]}),
    }


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
