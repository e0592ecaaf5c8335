"""Exceptions of run() that say which status to answer."""

from __future__ import annotations

import json

import numpy as np
import pytest
from starlette.exceptions import HTTPException
from werkzeug.exceptions import NotFound

from modelport_scoring.raised import answer


class FaultError(Exception):
    def __init__(self, text="busy", **attributes):
        super().__init__(text)
        vars(self).update(attributes)


ANSWERS = [
    (FaultError(status_code=404), 404, "busy", []),
    (FaultError("", status_code=404), 404, "Not Found", []),
    (FaultError("", status_code=499), 499, "Status 499", []),
    (FaultError(status_code=503, headers={"Retry-After": 3}), 503, "busy", [("retry-after", "3")]),
    (
        FaultError(status_code=400, headers={"Content-Length": "1", "X-A": "a\nb", "X-B": "b"}),
        400,
        "busy",
        [("x-b", "b")],
    ),
    (FaultError(status_code=422, detail={"row": np.int64(3)}), 422, {"row": 3}, []),
    (FaultError(code=409, description="taken"), 409, "taken", []),
    (HTTPException(418, "tea", headers={"X-A": "a"}), 418, "tea", [("x-a", "a")]),
    (NotFound("no such tide"), 404, "no such tide", []),
]


@pytest.mark.parametrize(("error", "status", "message", "headers"), ANSWERS)
def test_an_exception_with_a_status_is_an_answer(error, status, message, headers):
    said = answer(error)
    assert (said.status, json.loads(said.body), said.headers) == (status, {"message": message}, headers)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        FaultError(status_code=200),
        FaultError(status_code=600),
        FaultError(status_code="404"),
        FaultError(status_code=True),
        FaultError(code=404),  # as of urllib: the fault of another server
        FaultError(status_code=404, response="of another server"),  # as of azure-core: likewise
        FaultError(status_code=404, detail=b"x"),
        SystemExit(404),
    ],
    ids=lambda error: repr(vars(error) or error),
)
def test_other_exceptions_are_none(error):
    assert answer(error) is None


def test_a_script_sets_the_status_by_raising(serve):
    served = serve(
        """
        class FaultError(Exception):
            headers = {"Retry-After": "5"}
            def __init__(self, status, text):
                super().__init__(text)
                self.status_code = status
        def init(): pass
        def run(data):
            raise FaultError(int(data), "not now")
        """
    )
    refused, failed, other = served.score(429), served.score(503), served.score(200)
    assert (refused.status, json.loads(refused.body)) == (429, {"message": "not now"})
    assert refused.headers["x-ms-run-function-failed"] == "False"
    assert refused.headers["retry-after"] == "5"
    assert refused.headers["content-type"] == "application/json"
    assert (failed.status, json.loads(failed.body)) == (503, {"message": "not now"})
    assert failed.headers["x-ms-run-function-failed"] == "True"
    assert other.status == 500
    assert "FaultError: not now" not in served.log.partition("run() answered 429: not now [")[0]
    served.wait_for(lambda: served.log.count("FaultError: not now") == 2)  # with their tracebacks: 503 and 200
