"""Scripts that use Flask: Azure's server is an application of its, and calls run() in the middle of a request."""

from __future__ import annotations

import json

from tests.scoring.conftest import SDK

SCRIPT = """
import json
from flask import current_app, g, jsonify, make_response, request

def init():
    pass

def run(data):
    if data == '"plain"':
        g.seen = True
        url = request.url.partition("://")[2].partition("/")[2]
        return [request.method, url, request.headers["x-tide"], request.get_json(), g.seen, bool(current_app)]
    if data == '"refused"':
        return make_response(jsonify(error="no such port"), 404)
    if data == '"fails"':
        raise ValueError(request.path)
    return jsonify({"data": json.loads(data)})
"""
ASKED = {
    "plain": (200, ["POST", "score?at=noon", "high", "plain", True, True]),
    "refused": (404, {"error": "no such port"}),
    "more": (200, {"data": "more"}),
}


def test_run_is_in_a_request_of_flask_s(serve):
    served = serve(SCRIPT)
    for _ in range(2):
        for said, (status, expected) in ASKED.items():
            answer = served.request(
                "POST", "/score?at=noon", json.dumps(said), content_type="application/json", x_tide="high"
            )
            assert (answer.status, json.loads(answer.body)) == (status, expected)
            assert answer.headers["content-type"] == "application/json"
        assert served.score("fails").status == 500
    assert json.loads(served.request("GET", "/score?at=noon").body) == {"data": {"at": "noon"}}
    assert "ValueError: /score" in served.log


def test_so_is_a_run_that_takes_the_request_itself(serve):
    served = serve("""
        from azureml_inference_server_http.api.aml_request import rawhttp
        from flask import jsonify, request

        def init():
            pass

        @rawhttp
        def run(given):
            return jsonify([given.get_data(as_text=True), request.get_data(as_text=True), request.is_json])
    """)
    answer = served.request("POST", "/score", b"tide", content_type="text/plain")
    assert json.loads(answer.body) == ["tide", "tide", False]


def test_requests_of_a_batch_are_no_one_s_in_flask(serve):
    served = serve("""
        from flask import has_request_context
        from modelport_scoring import batched

        def init():
            pass

        @batched(max_size=4, max_wait_ms=10)
        def run(items):
            return [[item, has_request_context()] for item in items]
    """)
    assert json.loads(served.score("tide").body) == ['"tide"', False]


def test_who_has_flask_from_a_package_alone_is_in_no_request(serve, tmp_path):
    script = """
        from beside import has_request_context
        def init(): pass
        def run(data): return has_request_context()
    """
    names_it = {"beside.py": "from flask import has_request_context\n"}
    assert serve(script, files=names_it).score(1).body == b"true"
    (tmp_path / "package.py").write_text("import flask\ndef is_in_one(): return flask.has_request_context()\n")
    hides_it = {"beside.py": "from package import is_in_one as has_request_context\n"}
    served = serve(script, files=hides_it, PYTHONPATH=f"{tmp_path}:{SDK}")
    assert served.score(1).body == b"false"
