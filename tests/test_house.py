"""The house's own rules: what import-linter cannot say. The floors themselves are contracts in setup.cfg."""

import ast
import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import modelport
from modelport.backends import BACKENDS

SDK = Path(__file__).parents[1] / "sdk"
HOUSE = sorted(SDK.glob("modelport*/**/*.py"))
TREES = {str(path.relative_to(SDK)): ast.parse(path.read_bytes()) for path in HOUSE}

# Each third party, and the only files or folders that may name it. An empty door: nobody may, yet.
DOORS = {
    "anyio": ("modelport/controlplane/http.py",),
    "azure": ("modelport/identity.py", "modelport/transports/", "modelport_scoring/app_insights.py"),
    "click": ("modelport/cli/",),
    "debugpy": ("modelport_scoring/debugger.py",),
    "docker": (
        "modelport/builds/bases.py",
        "modelport/builds/contexts.py",
        "modelport/builds/environments.py",
        "modelport/builds/image.py",
        "modelport/builds/interpreters.py",
        "modelport/builds/layers.py",
        "modelport/builds/shelves.py",
        "modelport/builds/streams.py",
        "modelport/engine.py",
    ),
    "envoy": ("modelport/gateway/runner.py",),
    "filelock": (),
    "granian": ("modelport_scoring/server.py",),
    "kubernetes": (),
    "lightkube": (),
    "marshmallow": ("modelport/schema/",),
    "msgspec": ("modelport_scoring/conversions.py", "modelport_scoring/shapes.py"),
    "orjson": ("modelport_scoring/results.py", "modelport_scoring/typed.py"),
    "psutil": ("modelport/backends/", "modelport/cli/", "modelport/controlplane/home.py", "modelport/gateway/"),
    "pytest": ("modelport/testing.py",),
    # docker-py lets errors of its own transport pass as they are.
    "rattler": ("modelport/builds/solver.py",),
    "requests": ("modelport/builds/streams.py", "modelport/engine.py", "modelport/transports/"),
    "opentelemetry": (
        "modelport_scoring/app_insights.py",
        "modelport_scoring/telemetry.py",
        "modelport_scoring/tracing.py",
    ),
    "pathspec": ("modelport/transports/sources.py",),
    "rich": ("modelport/cli/", "modelport/transports/progress.py"),
    "sqlalchemy": ("modelport/controlplane/store.py",),
    "starlette": ("modelport/controlplane/http.py",),
    "tenacity": ("modelport/operations/poller.py", "modelport/transports/rest.py"),
    "uv": ("modelport/builds/environments.py", "modelport/builds/venv.py"),
    "uvicorn": ("modelport/cli/",),
    "watchfiles": ("modelport/operations/watching.py", "modelport_scoring/reload.py"),
    "werkzeug": ("modelport_scoring/raw.py",),
    "yaml": ("modelport/schema/",),
}
EVERYWHERE = {"modelport", "attrs", "attr"}
BANNED = {"utils", "util", "helpers", "helper", "common", "core", "manager", "misc"}
SLOW = ["requests", "tenacity", "marshmallow", "yaml", "docker", "azure", "starlette", "sqlalchemy"]


def imported(tree):
    """Every module that a tree imports, late ones by `import_module("…")` too, with the node."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((each.name, node) for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ".", node
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "import_module":
            yield from ((each.value, node) for each in node.args if isinstance(each, ast.Constant))


def functions(tree):
    return (node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)))


def modules_after(statement):
    """What a fresh interpreter has loaded beside its own library: names, by their top."""
    asks = (
        f"import sys; before = set(sys.modules); {statement}; import json; "
        "print(json.dumps({n: getattr(m, '__file__', None) for n, m in sys.modules.items() if n not in before}))"
    )
    environment = {**os.environ, "PYTHONPATH": str(SDK)}
    answer = subprocess.run([sys.executable, "-c", asks], capture_output=True, text=True, check=True, env=environment)
    library = sysconfig.get_paths()["stdlib"]
    loaded = json.loads(answer.stdout.splitlines()[-1])
    return {
        name
        for name, file in loaded.items()
        if file and (not file.startswith(library) or "site-packages" in file) and not name.startswith("_")
    }


def test_each_third_party_has_one_door():
    strangers = []
    for file, tree in TREES.items():
        for name, node in imported(tree):
            top = name.partition(".")[0]
            if top in sys.stdlib_module_names or top in EVERYWHERE or file.startswith(f"{top}/"):
                continue
            if not file.startswith(DOORS.get(top, ())):
                strangers.append(f"{file}:{node.lineno} imports {name}")
    assert strangers == []


def test_every_door_is_used_by_those_that_have_its_key():
    names = {(file, name.partition(".")[0]) for file, tree in TREES.items() for name, _ in imported(tree)}
    unused = [
        (name, door)
        for name, doors in DOORS.items()
        for door in doors
        if name != "azure" and not any(file.startswith(door) for file, top in names if top == name)
    ]
    assert unused == []


def test_the_scoring_server_imports_nothing_of_modelport():
    found = [
        (file, name)
        for file, tree in TREES.items()
        for name, _ in imported(tree)
        if file.startswith("modelport_scoring/") and name.partition(".")[0] == "modelport"
    ]
    assert found == []


def test_backends_do_not_name_each_other():
    modules = {entry.path.partition(":")[0] for entry in BACKENDS.values() if entry.path}
    for module in modules:
        names = {name for name, _ in imported(TREES[module.replace(".", "/") + ".py"])}
        assert not names & (modules - {module})


def test_nothing_is_imported_inside_a_function():
    found = [
        f"{file}:{node.lineno}"
        for file, tree in TREES.items()
        for function in functions(tree)
        for node in ast.walk(function)
        if isinstance(node, (ast.Import, ast.ImportFrom))
    ]
    assert found == []


def test_type_checking_imports_are_where_names_load_late_only():
    found = {
        file
        for file, tree in TREES.items()
        for node in ast.walk(tree)
        if (isinstance(node, ast.Name) and node.id == "TYPE_CHECKING")
        or (isinstance(node, ast.Attribute) and node.attr == "TYPE_CHECKING")
    }
    assert found <= {"modelport/__init__.py", "modelport/client.py"}


def test_every_module_says_what_it_is_for():
    assert [file for file, tree in TREES.items() if not (ast.get_docstring(tree) or "").strip()] == []


def test_modules_are_nouns_and_folders_are_roles():
    assert [file for file in TREES if BANNED & set(Path(file).with_suffix("").parts)] == []


def test_no_print_stands_outside_the_command_line_and_the_scoring_script():
    found = [
        f"{file}:{node.lineno}"
        for file, tree in TREES.items()
        if not file.startswith("modelport/cli/")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert found == []


def test_what_is_visible_is_what_is_public():
    assert [name for name in dir(modelport) if name != "__version__"] == sorted(modelport.__all__)
    assert sorted(modelport._PUBLIC) == sorted(modelport.__all__)
    for name in modelport.__all__:
        assert getattr(modelport, name).__module__ == modelport._PUBLIC[name]


def test_a_name_that_is_not_public_is_not_there():
    with pytest.raises(AttributeError, match="module 'modelport' has no attribute 'MLCleint'"):
        modelport.MLCleint  # noqa: B018 (the look-up is the test)


def test_entities_are_all_exported():
    from modelport import entities

    defined = {name for name, value in vars(entities).items() if isinstance(value, type)}
    assert defined == set(entities.__all__)


def test_importing_modelport_loads_nothing_but_itself():
    assert modules_after("import modelport") == {"modelport"}


def test_importing_the_client_loads_no_third_party_but_attrs():
    loaded = modules_after("from modelport import MLClient")
    assert not {name.partition(".")[0] for name in loaded} - {"modelport", "attrs", "attr"}
    assert not {name for name in loaded if name.partition(".")[0] in SLOW}
    assert "modelport.transports" not in loaded
    assert "modelport.operations" not in loaded


def test_importing_the_entities_loads_no_yaml_and_no_marshmallow():
    loaded = modules_after("import modelport.entities; modelport.entities.ManagedOnlineEndpoint(name='tides')")
    assert not {name.partition(".")[0] for name in loaded} - {"modelport", "attrs", "attr"}
