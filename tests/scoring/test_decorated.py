"""Scripts that say more about their input and output: @rawhttp, responses of their own, schemas, `/swagger.json`."""

from __future__ import annotations

import json

import pytest

FROM = {
    "azureml_inference_server_http": (
        "from azureml_inference_server_http.api.aml_request import AMLRequest, rawhttp\n"
        "from azureml_inference_server_http.api.aml_response import AMLResponse\n"
    ),
    "azureml.contrib.services": (
        "from azureml.contrib.services.aml_request import AMLRequest, rawhttp\n"
        "from azureml.contrib.services.aml_response import AMLResponse\n"
    ),
}
RAW = FROM["azureml.contrib.services"]

REQUEST = (
    RAW
    + """
def init(): pass
@rawhttp
def run(request: AMLRequest):
    return {
        "method": request.method, "path": request.path, "url": request.url, "args": request.args.to_dict(flat=False),
        "type": request.content_type, "mimetype": request.mimetype, "length": request.content_length,
        "header": request.headers.get("x-own"), "is_json": request.is_json,
        "json": request.get_json(silent=True), "form": request.form.to_dict(flat=False),
        "files": [
            [field, f.filename, f.mimetype, f.stream.read().hex()] for field, f in request.files.items(multi=True)
        ],
        "data": request.get_data().hex(), "remote": bool(request.remote_addr), "raw": isinstance(request, AMLRequest),
    }
"""
)


def multipart(*parts):
    """Body and content type of a form: (field, file name or None, bytes)."""
    body = b""
    for field, filename, content in parts:
        name = f'name="{field}"' + (f'; filename="{filename}"' if filename else "")
        kind = "content-type: image/x-own\r\n" if filename else ""
        body += f"--edge\r\ncontent-disposition: form-data; {name}\r\n{kind}\r\n".encode() + content + b"\r\n"
    return body + b"--edge--\r\n", "multipart/form-data; boundary=edge"


def asked(served, method, path="/score", body=None, **headers):
    answer = served.request(method, path, body, host="tides.example", **headers)
    assert answer.status == 200, served.log
    return json.loads(answer.body)


def test_a_raw_script_sees_the_request_as_flask_shows_it(serve):
    served = serve(REQUEST)
    seen = asked(served, "POST", "/score?a=1&a=2&b=%C3%BC", b"\xff\x00", content_type="image/png; q=1", x_own="mine")
    assert seen["method"] == "POST"
    assert seen["path"] == "/score"
    assert seen["url"] == "http://tides.example/score?a=1&a=2&b=ü"
    assert seen["args"] == {"a": ["1", "2"], "b": ["ü"]}
    assert (seen["type"], seen["mimetype"], seen["length"]) == ("image/png; q=1", "image/png", 2)
    assert (seen["header"], seen["is_json"], seen["json"]) == ("mine", False, None)
    assert (seen["form"], seen["files"], seen["data"]) == ({}, [], "ff00")
    assert seen["remote"] is False  # a Unix socket has no address
    assert seen["raw"] is True


def test_a_raw_script_sees_json_and_forms(serve):
    served = serve(REQUEST)
    assert asked(served, "POST", body=b'{"a": [1]}', content_type="application/json")["json"] == {"a": [1]}
    form = asked(served, "POST", body=b"a=1&b=x+y&a=2", content_type="application/x-www-form-urlencoded")
    assert form["form"] == {"a": ["1", "2"], "b": ["x y"]}


def test_a_raw_script_gets_files_whatever_their_bytes_names_and_number(serve):
    large = bytes(range(256)) * 8_000  # above what Werkzeug keeps in memory
    body, kind = multipart(
        ("file[]", "a b.png", b"\r\n--edge-not\r\n"), ("file[]", "ü.bin", large), ("note", None, b"low tide")
    )
    seen = asked(serve(REQUEST), "POST", body=body, content_type=kind)
    assert seen["files"] == [
        ["file[]", "a b.png", "image/x-own", b"\r\n--edge-not\r\n".hex()],
        ["file[]", "ü.bin", "image/x-own", large.hex()],
    ]
    assert seen["form"] == {"note": ["low tide"]}


def test_a_raw_script_gets_chunked_bodies_and_bodies_of_gets(serve):
    served = serve(REQUEST)
    assert asked(served, "POST", body=iter([b"ab", b"c"]))["data"] == b"abc".hex()
    assert asked(served, "GET", body=b"x")["data"] == b"x".hex()
    assert asked(served, "GET", "/score?name=sea")["args"] == {"name": ["sea"]}
    assert asked(served, "OPTIONS")["method"] == "OPTIONS"


@pytest.mark.parametrize("body", [b"--edge\r\n\r\n", b"", b"--edge", b"\xff" * 1000])
def test_a_broken_form_is_no_form(serve, body):
    seen = asked(serve(REQUEST), "POST", body=body, content_type="multipart/form-data; boundary=edge")
    assert (seen["files"], seen["form"]) == ([], {})


@pytest.mark.parametrize("source", FROM.values(), ids=FROM)
def test_a_script_decides_about_its_answer(serve, source):
    served = serve(
        source
        + """
def init(): pass
@rawhttp
def run(request):
    name = request.args["how"]
    if name == "image":
        answer = AMLResponse(b"\\x89PNG\\xff", 200)
        answer.mimetype = "image/png"
        answer.headers["X-Own"] = "a"
        answer.set_cookie("tide", "low")
        return answer
    if name == "json":
        return AMLResponse({"a": 1}, 201, json_str=True, response_headers={"X-Own": "a, b"})
    if name == "nothing":
        return AMLResponse(None, 200)
    if name == "chunks":
        return AMLResponse((str(n) for n in range(3)), 200)
    if name == "late":
        return AMLResponse((1 // n for n in (0, 1)), 200)
    if name == "failed":
        return AMLResponse("busy", 400, run_function_failed=True)
    if name == "empty":
        return AMLResponse("", 204)
"""
    )
    image = served.request("GET", "/score?how=image")
    assert (image.status, image.body) == (200, b"\x89PNG\xff")
    assert image.headers["content-type"] == "image/png"
    assert (image.headers["x-own"], image.headers["set-cookie"]) == ("a", "tide=low; Path=/")
    connection = served.connection()
    connection.request("GET", "/score?how=json")
    document = connection.getresponse()
    assert (document.status, document.read()) == (201, b'{"a": 1}')
    assert document.headers.get_all("x-own") == ["a", "b"]
    assert document.headers.get_all("content-type") == ["application/json"]
    assert document.headers.get_all("content-length") == ["8"]
    connection.close()
    nothing = served.request("GET", "/score?how=nothing")
    assert (nothing.body, nothing.headers["content-type"]) == (b"{}", "application/json")
    assert served.request("GET", "/score?how=chunks").body == b"012"
    late = served.request("GET", "/score?how=late")
    assert (late.status, late.headers["x-ms-run-function-failed"]) == (500, "True")
    failed = served.request("GET", "/score?how=failed")
    assert (failed.status, failed.body, failed.headers["x-ms-run-function-failed"]) == (400, b"busy", "True")
    assert served.request("GET", "/score?how=empty").status == 204


def test_an_undecorated_script_may_answer_so_too(serve):
    served = serve(RAW + "def init(): pass\ndef run(data): return AMLResponse('no ' + data, 422)\n")
    answer = served.request("POST", "/score", "tea")
    assert (answer.status, answer.body) == (422, b"no tea")


IMPOSSIBLE = [
    *({"s": status} for status in (-1, 0, 99, 100, 101, 1000, "abc")),
    *({"h": {"X-Own": value}} for value in ("\ud800", "a\nb")),
]


def test_an_answer_that_cannot_be_sent_is_the_script_s_failure_and_costs_nobody_else(serve):
    served = serve(
        RAW
        + """
import json
def init(): pass
def run(data):
    said = json.loads(data)
    return AMLResponse("x", said.get("s", 200), said.get("h", {}))
"""
    )
    for said in IMPOSSIBLE:
        answer = served.score(said)
        assert (answer.status, answer.headers["x-ms-run-function-failed"]) == (500, "True"), said
    for said in ({"h": {"X Y": "a"}}, {"h": {"X": "a\0b"}}, {"h": {"Transfer-Encoding": "chunked"}}, {"h": {"X": "ü"}}):
        answer = served.score(said)
        assert (answer.status, answer.body) == (200, b"x"), said
    assert [served.score({"s": status}).status for status in (204, 304, 418, 599)] == [204, 304, 418, 599]
    assert served.process.poll() is None


def test_a_script_that_asks_for_nothing_of_this_loads_nothing_of_it(serve):
    served = serve(
        "import sys\ndef init(): pass\ndef run(data): return sorted({'werkzeug', 'email'} & set(sys.modules))\n"
    )
    assert served.score(1).body == b"[]"


REAL = """
{loads}
_rawHttpRequested = False
def rawhttp(run):
    global _rawHttpRequested
    _rawHttpRequested = True
    return run
"""


def test_azure_s_own_package_goes_first_where_it_is_installed(serve):
    served = serve(
        """
        from azureml_inference_server_http.api.aml_request import rawhttp
        from werkzeug.wrappers import Response
        def init(): pass
        @rawhttp
        def run(request): return Response(rawhttp.__module__ + " " + request.args["a"])
        """,
        files={
            "azureml_inference_server_http/__init__.py": "",
            "azureml_inference_server_http/api/__init__.py": "",
            "azureml_inference_server_http/api/aml_request.py": REAL.format(loads=""),
        },
    )
    assert served.request("GET", "/score?a=x").body == b"azureml_inference_server_http.api.aml_request x"


@pytest.mark.parametrize("init", [None, "__path__ = __import__('pkgutil').extend_path(__path__, __name__)\n"])
def test_other_packages_below_azureml_stay_importable(serve, init):
    served = serve(
        "from azureml.ai.monitoring import NAME\n" + RAW + "def init(): pass\ndef run(data): return NAME\n",
        files={"azureml/ai/monitoring/__init__.py": "NAME = 1", **({"azureml/__init__.py": init} if init else {})},
    )
    assert served.score(1).body == b"1"


SCHEMA = """
import numpy as np, pandas as pd
from datetime import datetime
from inference_schema.schema_decorators import input_schema, output_schema
from inference_schema.parameter_types.numpy_parameter_type import NumpyParameterType
from inference_schema.parameter_types.pandas_parameter_type import PandasParameterType
from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType
def init(): pass
"""

MIXED = (
    SCHEMA
    + """
@input_schema("table", PandasParameterType(pd.DataFrame({"height": [1.5], "moon": ["new"]})))
@input_schema("when", StandardPythonParameterType(datetime(2026, 1, 1)), optional=True)
@input_schema("nested", StandardPythonParameterType({"a": NumpyParameterType(np.array([[1, 2]]))}), optional=True)
@output_schema(StandardPythonParameterType({"sum": 0.5}))
def run(table, when=None, nested=None, request_headers=None):
    if (table["height"] < 0).any(): raise ValueError("height is below the ground")
    told = {"sum": float(table["height"].sum()), "moons": list(table["moon"])}
    if when is not None: told["when"] = when.isoformat()
    if nested: told["nested"] = nested["a"].tolist()
    return told
"""
)


def test_arguments_come_as_their_schema_says(serve, schema_python):
    served = serve(MIXED, python=schema_python)

    def told(document):
        answer = served.score(document, content_type="application/json; charset=utf-8")
        return answer.status, json.loads(answer.body)

    rows = [{"height": 1.5, "moon": "new"}, {"height": 2, "moon": "full"}]
    assert told({"table": rows}) == (200, {"sum": 3.5, "moons": ["new", "full"]})
    columns = {"height": {"0": 1.0}, "moon": {"0": "new"}}
    when = "2026-11-22T10:00:00"
    assert told({"table": columns, "when": when, "other": 1}) == (200, {"sum": 1.0, "moons": ["new"], "when": when})
    assert told({"table": rows, "nested": {"a": [[3, 4]]}})[1]["nested"] == [[3, 4]]


def test_a_value_that_does_not_fit_is_the_caller_s_fault_and_a_script_s_error_is_not(serve, schema_python):
    served = serve(MIXED, python=schema_python)

    def refused(document):
        answer = served.score(document, content_type="application/json")
        assert (answer.status, answer.headers["x-ms-run-function-failed"]) == (400, "False"), served.log
        return json.loads(answer.body)["message"]

    row = {"height": 1.5, "moon": "new"}
    assert "'table' parameter does not fit" in refused({"table": 5})
    columns = "with the columns height, moon, such as"
    assert columns in refused({"table": [{"height": "tall", "moon": "new"}]})
    assert "data frame has size 1 on dimension #1, while expected value is 2" in refused({"table": [{"height": 1.0}]})
    assert "a value of the type" in refused({"table": [row], "when": 5})
    assert "dimension" in refused({"table": [row], "nested": {"a": [[1, 2, 3]]}})
    failed = served.score({"table": [{"height": -1.0, "moon": "new"}]}, content_type="application/json")
    assert (failed.status, failed.headers["x-ms-run-function-failed"]) == (500, "True")
    assert "height is below the ground" in served.log


def test_a_script_that_calls_something_else_with_a_schema_is_to_blame_for_what_it_gives(serve, schema_python):
    served = serve(
        SCHEMA
        + """
@input_schema("a", NumpyParameterType(np.array([[1.0, 2.0]])))
def other(a): return a
@input_schema("a", StandardPythonParameterType(1))
def run(a): return other(a=[[1.0]]).tolist()
""",
        python=schema_python,
    )
    assert served.score({"a": 1}, content_type="application/json").status == 500
    assert served.score({"a": "1"}, content_type="application/json").status == 400


def test_bodies_that_json_cannot_hold_are_refused(serve, schema_python):
    served = serve(MIXED, python=schema_python)
    for body in (b"\xff\xfe\xff", b"[" * 100_000, b"nul"):
        answer = served.request("POST", "/score", body, content_type="application/json")
        assert answer.status == 400, body[:10]
        assert json.loads(answer.body)["message"].startswith("POST body could not be decoded as JSON: ")


def test_swagger_leaves_out_the_versions_that_cannot_hold_the_schema(serve, schema_python):
    served = serve(
        SCHEMA + '@input_schema("mixed", StandardPythonParameterType([1, "a"]))\ndef run(mixed): return mixed\n',
        python=schema_python,
    )
    refused = served.request("GET", "/swagger.json")
    assert refused.status == 404
    message = "Swagger version [2] is not supported for the scoring script. Supported swagger versions: [3, 3.1]."
    assert json.loads(refused.body) == {"message": message}
    document = json.loads(served.request("GET", "/swagger.json?version=3.0").body)
    assert document["components"]["schemas"]["ServiceInput"]["example"] == {"mixed": [1, "a"]}


PLAIN = "def init(): pass\ndef run(data): return 1\n"


def test_swagger_files_of_the_user_s_win(serve):
    served = serve(
        PLAIN,
        files={"swagger2.json": '{"mine": 2}', "swagger3.json": '{"mine": 3}'},
        SERVICE_NAME="tides",
        SERVICE_VERSION="7",
    )
    assert served.request("GET", "/swagger.json").body == b'{"mine": 2}'
    assert served.request("GET", "/swagger.json?version=3").body == b'{"mine": 3}'
    assert json.loads(served.request("GET", "/swagger.json?version=3.1").body)["info"] == {
        "title": "tides",
        "description": "API specification for the Azure Machine Learning service tides",
        "version": "7",
    }
    assert served.request("HEAD", "/swagger.json").body == b""
    assert served.request("POST", "/swagger.json").headers["allow"] == "GET, HEAD, OPTIONS"


def test_a_swagger_file_that_is_not_json_ends_the_server_with_its_reason(start):
    served = start(PLAIN, files={"swagger3.json": "{"})
    assert served.process.wait(timeout=20) == 3
    assert served.failure["code"] == "UserScriptInitFailed"
    assert served.failure["message"].startswith("swagger3.json beside the script is not JSON: Expecting property name")


def test_rawhttp_and_a_schema_exclude_each_other(start, schema_python):
    script = RAW + SCHEMA + '@rawhttp\n@input_schema("a", StandardPythonParameterType(1))\ndef run(a): return a\n'
    served = start(script, python=schema_python)
    assert served.process.wait(timeout=20) == 3
    message = "run() in score.py must be decorated with @rawhttp or with @input_schema, not with both."
    assert served.failure == {"code": "UserScriptFunctionNotFound", "message": message, "log": ""}


@pytest.mark.parametrize(
    ("origins", "origin", "allowed", "vary"),
    [
        ("http://a.test, http://B.test", "http://b.test", "http://b.test", "Origin"),
        ("http://a.test, http://b.test", "http://c.test", None, None),
        ("*", "http://c.test", "http://c.test", "Origin"),
        ("*", None, "*", None),
    ],
)
def test_pages_of_the_origins_named_may_read_the_answers(serve, origins, origin, allowed, vary):
    served = serve(PLAIN, AML_CORS_ORIGINS=origins)
    answer = served.score(1, **({"origin": origin} if origin else {}))
    assert answer.headers.get("access-control-allow-origin") == allowed
    assert answer.headers.get("vary") == vary


def test_a_page_is_told_beforehand_what_it_may_send(serve):
    served = serve(PLAIN, AML_CORS_ORIGINS="http://a.test")
    asks = {"origin": "http://a.test", "access_control_request_headers": "x-own, authorization"}
    told = served.request("OPTIONS", "/score", access_control_request_method="POST", **asks).headers
    assert told["access-control-allow-headers"] == "authorization, x-own"
    assert told["access-control-allow-methods"] == "GET, POST"
    told = served.request("OPTIONS", "/score", access_control_request_method="PUT", **asks).headers
    assert "access-control-allow-methods" not in told
