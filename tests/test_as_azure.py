"""Code written for `azure.ai.ml`, run unchanged: beside Python itself, on a real backend, and in IPython."""

import json
import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path
from shutil import make_archive

import pytest

home = runpy.run_path(str(Path(__file__).parent / "cli" / "conftest.py"))["home"]
SDK = Path(__file__).parents[1] / "sdk"

STORY = '''
"""A public example's steps, in its own words."""
import json
import sys

from azure.ai.ml import MLClient
from azure.ai.ml.entities import (
    CodeConfiguration,
    ManagedOnlineDeployment,
    ManagedOnlineEndpoint,
    Model,
    ProbeSettings,
)
from azure.ai.ml.constants import AssetTypes
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.identity import DefaultAzureCredential, InteractiveBrowserCredential

try:
    credential = DefaultAzureCredential()
    credential.get_token("https://management.azure.com/.default")
except Exception as ex:
    credential = InteractiveBrowserCredential()

ml_client = MLClient(credential, "<SUBSCRIPTION_ID>", "<RESOURCE_GROUP>", "<WORKSPACE>")
try:
    ml_client.online_endpoints.get("tides")
except ResourceNotFoundError as error:
    print(error.status_code, isinstance(error, HttpResponseError))

endpoint = ManagedOnlineEndpoint(name="tides", description="a test", auth_mode="key", tags={"foo": "bar"})
ml_client.begin_create_or_update(endpoint).result()
blue = ManagedOnlineDeployment(
    name="blue",
    endpoint_name="tides",
    model=Model(path="model.json", type=AssetTypes.CUSTOM_MODEL),
    code_configuration=CodeConfiguration(code=".", scoring_script="score.py"),
    instance_type="Standard_DS3_v2",
    instance_count=1,
    readiness_probe=ProbeSettings(initial_delay=2),
)
ml_client.online_deployments.begin_create_or_update(blue).result()
endpoint.traffic = {"blue": 100}
ml_client.begin_create_or_update(endpoint).result()
print(ml_client.online_endpoints.invoke(endpoint_name="tides", deployment_name="blue", request_file="request.json"))
print(ml_client.online_endpoints.get(name="tides").traffic, ml_client.workspace_name)
print(ml_client.workspaces.get(ml_client.workspace_name).location)
ml_client.online_endpoints.begin_delete(name="tides").result()
print(sorted(name for name in sys.modules if name.startswith(("msal", "azure.ai.ml._", "azure.identity."))))
'''

SCORE = """
import json
import os

def init():
    global factor
    folder = os.environ["AZUREML_MODEL_DIR"]
    factor = json.load(open(os.path.join(folder, "model.json")))["factor"]

def run(data):
    return [factor * each for each in json.loads(data)["data"]]
"""


def python(*command, cwd=None, **environment):
    """What a new Python does with the command: its exit code, output and errors."""
    environment = {**os.environ, "PYTHONPATH": str(SDK), **{name: str(value) for name, value in environment.items()}}
    return subprocess.run(
        [sys.executable, "-W", "error", *map(str, command)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def as_azure(*command, **keywords):
    return python("-m", "modelport.as_azure", *command, **keywords)


def said(done):
    """What a program printed that ended well and without complaint."""
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_an_example_runs_unchanged_on_processes(home, tmp_path):
    (tmp_path / "example.py").write_text(STORY)
    (tmp_path / "score.py").write_text(SCORE)
    (tmp_path / "model.json").write_text('{"factor": 3}')
    (tmp_path / "request.json").write_text('{"data": [1, 2]}')
    told = said(
        as_azure("--backend", "process", "example.py", cwd=tmp_path, MODELPORT_HOME=home.folder, PYTHONWARNINGS="")
    ).splitlines()
    assert told == ["404 True", "[3, 6]", "{'blue': 100} <WORKSPACE>", "local", "[]"]
    assert home.run("down").returncode == 0
    assert home.is_quiet()


SEEN = """
import json, sys
import __main__
print(__name__, sys.argv, __file__ if "__file__" in globals() else None, sys.path[0], __main__.__dict__ is globals())
print(type(__builtins__), sys.modules["__main__"].__name__)
print(__doc__, __package__ or None, [name for name in globals() if name.startswith("modelport")])
"""


def test_a_script_sees_what_it_sees_under_python_itself(tmp_path):
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "script.py").write_text(f'"""Says who it is."""\n{SEEN}')
    command = ("below/script.py", "-m", "--backend", "x", "--", "-h")
    assert said(as_azure(*command, cwd=tmp_path)) == said(python(*command, cwd=tmp_path))


def test_a_module_sees_what_it_sees_under_python_itself(tmp_path):
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "__init__.py").touch()
    (tmp_path / "tools" / "script.py").write_text(SEEN)
    command = ("-m", "tools.script", "-c", "--backend", "x")
    assert said(as_azure(*command, cwd=tmp_path)) == said(python(*command, cwd=tmp_path))


def test_code_sees_what_it_sees_under_python_itself(tmp_path):
    command = ("-c", SEEN, "-m", "x")
    assert said(as_azure(*command, cwd=tmp_path)) == said(python(*command, cwd=tmp_path))


@pytest.mark.parametrize(
    "text",
    [
        "import sys\nsys.exit(3)",
        "import sys\nsys.exit('a last word')",
        "import sys\nsys.exit()",
        "def f():\n    raise ValueError('what')\n\n\nf()",
        "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise RuntimeError('so') from error",
        "print('before')\nx = = 2",
        "import no_such_module_anywhere",
        "raise KeyboardInterrupt",
        "import atexit\natexit.register(print, 'at the end')\nprint('a', end='')",
    ],
)
def test_a_script_ends_as_it_ends_under_python_itself(tmp_path, text):
    (tmp_path / "script.py").write_text(text + "\n")
    ours, theirs = as_azure("script.py", cwd=tmp_path), python("script.py", cwd=tmp_path)
    assert (ours.returncode, ours.stdout) == (theirs.returncode, theirs.stdout)
    whole = str(tmp_path / "script.py")  # newer Pythons name the script by its whole path
    assert ours.stderr.replace(whole, "script.py") == theirs.stderr.replace(whole, "script.py")


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
def test_a_folder_or_an_archive_runs_too(tmp_path, packed):
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__main__.py").write_text("import sys, part\nprint(sys.argv, part.NAME, __name__)\n")
    (tmp_path / "app" / "part.py").write_text("NAME = 'a part'\n")
    command = (make_archive(tmp_path / "app", "zip", tmp_path / "app") if packed else "app", "x")
    assert said(as_azure(*command, cwd=tmp_path)) == said(python(*command, cwd=tmp_path))


def test_a_signal_ends_it_as_it_ends_python_itself(tmp_path):
    (tmp_path / "script.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nimport time\ntime.sleep(9)"
    )
    assert as_azure("script.py", cwd=tmp_path).returncode == -signal.SIGINT


def test_processes_that_it_starts_are_not_changed(tmp_path):
    code = "import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', 'import azure.ai.ml']))"
    done = as_azure("-c", code)
    assert done.returncode == 1
    assert "No module named 'azure.ai'" in done.stderr


def test_workers_of_a_pool_find_the_scripts_functions(tmp_path):
    (tmp_path / "script.py").write_text(
        "from multiprocessing import get_context\n\n\ndef twice(n):\n    return 2 * n\n\n\n"
        "if __name__ == '__main__':\n    with get_context('spawn').Pool(1) as pool:\n"
        "        print(pool.map(twice, [1, 2]))\n"
    )
    assert said(as_azure("script.py", cwd=tmp_path)) == "[2, 4]\n"


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ((), "name a script, or give -m module or -c code."),
        (("none.py",), "can't open file 'none.py': there is no such file."),
        (("--backnd", "process", "x.py"), "--backnd"),
    ],
)
def test_a_command_that_says_nothing_to_run_is_told(tmp_path, command, sentence):
    done = as_azure(*command, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: python -m modelport.as_azure")
    assert sentence in done.stderr


COVERS = "in Modelport: it covers online endpoints, deployments, models and environments. Use azure-ai-ml for it."


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (
            "from azure.ai.ml.entities import AmlCompute",
            f"ImportError: azure.ai.ml.entities has no 'AmlCompute' {COVERS}",
        ),
        ("from azure.ai.ml import MLClient, command", f"ImportError: azure.ai.ml has no 'command' {COVERS}"),
        ("from azure.ai.ml import automl", f"ImportError: azure.ai.ml has no 'automl' {COVERS}"),
        ("import azure.ai.ml.automl", f"ImportError: azure.ai.ml has no 'automl' {COVERS}"),
        ("from azure.ai.ml.sweep import Choice", f"ImportError: azure.ai.ml has no 'sweep' {COVERS}"),
        (
            "from azure.ai.ml.entities._load_functions import load_job",
            f"ImportError: azure.ai.ml.entities._load_functions has no 'load_job' {COVERS}",
        ),
        (
            "from azure.ai.ml.entities import ManagedOnlineEndpiont",
            "ImportError: azure.ai.ml.entities has no 'ManagedOnlineEndpiont'. Did you mean 'ManagedOnlineEndpoint'?",
        ),
        ("import azure.ai.ml; azure.ai.ml.dsl", f"AttributeError: azure.ai.ml has no 'dsl' {COVERS}"),
        (
            "import azure.ai.ml.entities as e; e.BatchEndpoint",
            f"AttributeError: azure.ai.ml.entities has no 'BatchEndpoint' {COVERS}",
        ),
        (
            "from azure.ai.ml import MLClient; MLClient(object(), 's', 'g', 'w').jobs",
            f"AttributeError: MLClient has no 'jobs' {COVERS}",
        ),
        (
            "from azure.ai.ml import MLClient; MLClient(object(), 's', 'g', 'w').online_endpoint",
            "AttributeError: MLClient has no 'online_endpoint'. Did you mean 'online_endpoints'?",
        ),
    ],
)
def test_a_name_that_modelport_does_not_have_fails_with_a_sentence(code, sentence):
    done = as_azure("-c", code)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == sentence


EXAMPLES = """
from azure.ai.ml import MLClient, load_environment, load_model, load_online_deployment, load_online_endpoint
from azure.ai.ml.constants import AssetTypes, ListViewType, ModelType
from azure.ai.ml.constants._common import AssetTypes
from azure.ai.ml.entities import (
    AzureMLOnlineInferencingServer, BaseEnvironment, ModelConfiguration, ModelPackage,
    BuildContext, CodeConfiguration, DataAsset, DataCollector, Deployment, DeploymentCollection, Endpoint, Environment,
    IdentityConfiguration, KubernetesOnlineDeployment, KubernetesOnlineEndpoint, ManagedIdentityConfiguration,
    ManagedOnlineDeployment, ManagedOnlineEndpoint, Model, OnlineDeployment, OnlineEndpoint, OnlineRequestSettings,
    ProbeSettings, RequestLogging, ResourceRequirementsSettings, ResourceSettings, Route, SystemData,
)
from azure.ai.ml.entities._deployment.container_resource_settings import ResourceSettings
from azure.ai.ml.entities._deployment.resource_requirements_settings import ResourceRequirementsSettings
from azure.ai.ml.entities._load_functions import load_model
from azure.ai.ml.exceptions import DeploymentException, MlException, ValidationException
from azure.ai.ml.operations import ModelOperations, OnlineEndpointOperations
from azure.ai.ml._version import VERSION
from azure.ai.ml.entities import *
import azure.ai.ml, modelport.entities
assert azure.ai.ml.entities.Model is Model is modelport.entities.Model
assert azure.ai.ml.__version__ == VERSION == "1.35.2+modelport." + modelport.__version__
assert "MLClient" in dir(azure.ai.ml) and not hasattr(azure.ai.ml, "command")
print(azure.ai.ml)
"""


def test_what_public_examples_import_is_there():
    assert said(as_azure("-c", EXAMPLES)) == "<module 'azure.ai.ml' (Modelport)>\n"


@pytest.fixture
def installed(tmp_path):
    """A folder for PYTHONPATH in which something else is installed as `azure.ai.ml`, and another azure.ai package."""
    for name, text in {"ml": "WHO = 'the real one'", "other": "WHO = 'another'"}.items():
        (tmp_path / "azure" / "ai" / name).mkdir(parents=True)
        (tmp_path / "azure" / "ai" / name / "__init__.py").write_text(text)
    return f"{tmp_path}{os.pathsep}{SDK}"


def test_azure_ai_ml_that_is_installed_makes_no_difference(installed):
    code = "import azure.ai.ml, azure.ai.other; print(hasattr(azure.ai.ml, 'WHO'), azure.ai.other.WHO)"
    assert said(as_azure("-c", code, PYTHONPATH=installed)) == "False another\n"


def test_azure_ai_ml_that_is_imported_already_is_told(installed):
    done = python("-c", "import azure.ai.ml, modelport.as_azure; modelport.as_azure.install()", PYTHONPATH=installed)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: azure.ai.ml is imported already, from '")
    assert last.endswith("In a notebook: restart the kernel, then %load_ext modelport.as_azure.")


def test_importing_it_does_nothing_and_taking_it_away_leaves_nothing(installed):
    code = """
import sys
before = list(sys.meta_path)
import modelport.as_azure as drop_in
assert sys.meta_path == before
from modelport import errors
bases = {kind: kind.__bases__ for kind in vars(errors).values() if isinstance(kind, type)}
drop_in.install(); drop_in.install()
assert len(sys.meta_path) == len(before) + 1
import azure.ai.ml, azure.core.exceptions
from azure.core.exceptions import AzureError
assert issubclass(errors.ValidationException, AzureError)
drop_in.uninstall(); drop_in.uninstall()
assert sys.meta_path == before
assert bases == {kind: kind.__bases__ for kind in bases}
assert not issubclass(errors.ValidationException, AzureError)
import azure.ai.ml
print(azure.ai.ml.WHO)
"""
    assert said(python("-c", code, PYTHONPATH=installed)) == "the real one\n"


HANDLERS = """
import azure.core.exceptions as theirs
from modelport import errors

kinds = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.ModelportError)]
for kind in sorted(set(kinds) - {errors.ModelportError}, key=lambda each: each.__name__):
    named = getattr(theirs, kind.__name__, theirs.AzureError)
    assert issubclass(kind, named) and issubclass(kind, theirs.AzureError), kind
    try:
        raise kind("gone")
    except named as error:
        assert (str(error), error.message, error.args, error.details) == ("gone", "gone", ("gone",), []), kind
        assert error.inner_exception is None and error.exc_msg == "gone"
    if issubclass(kind, errors.HttpResponseError):
        assert issubclass(kind, theirs.HttpResponseError)
        made = kind("gone")
        assert (made.status_code, made.error.message, made.response) == (kind.status, "gone", None)
"""


@pytest.mark.parametrize(
    "start",
    ["modelport.as_azure.install()", "import azure.core.exceptions; modelport.as_azure.install()"],
    ids=["before azure-core is imported", "after it"],
)
def test_handlers_for_azures_errors_catch_ours(start):
    assert said(python("-c", f"import modelport.as_azure; {start}\n{HANDLERS}")) == ""


def test_without_it_our_errors_are_our_own():
    code = (
        "import azure.core.exceptions as a, modelport.errors as e; print(issubclass(e.HttpResponseError, a.AzureError))"
    )
    assert said(python("-c", code)) == "False\n"


CREDENTIALS = """
import sys
from azure.identity import AzureCliCredential, ChainedTokenCredential, ClientSecretCredential
from azure.identity import DefaultAzureCredential, ManagedIdentityCredential
from azure.core.exceptions import ClientAuthenticationError

ClientSecretCredential("tenant", "client", "secret")
ChainedTokenCredential(AzureCliCredential(), ManagedIdentityCredential(client_id="x"))
with DefaultAzureCredential(exclude_cli_credential=True) as credential:
    try:
        credential.get_token("https://management.azure.com/.default")
    except ClientAuthenticationError as error:
        print(error)
print([name for name in sys.modules if name.partition(".")[0] in ("msal", "cryptography", "requests")])
from azure.identity import AzureAuthorityHosts, CredentialUnavailableError, get_bearer_token_provider
import azure.identity.aio
print(AzureAuthorityHosts.AZURE_CHINA, issubclass(CredentialUnavailableError, ClientAuthenticationError))
print(azure.identity.aio.DefaultAzureCredential.__module__)
"""


def test_credentials_need_no_login_where_nobody_asks_them():
    refused, loaded, real, aside = said(as_azure("--backend", "process", "-c", CREDENTIALS)).splitlines()
    assert refused == (
        "DefaultAzureCredential was asked for a token and has none: MODELPORT_BACKEND is 'process', so nobody is "
        "logged in to Azure. Unset it to reach Azure."
    )
    assert (loaded, real, aside) == (
        "[]",
        "login.chinacloudapi.cn True",
        "azure.identity.aio._credentials.default",
    )


@pytest.mark.parametrize("backend", [None, "azure"])
def test_credentials_are_the_real_ones_where_azure_is_meant(backend):
    code = "from azure.identity import DefaultAzureCredential as d; print(d.__module__)"
    environment = {"MODELPORT_BACKEND": backend} if backend else {}
    assert said(as_azure("-c", code, **environment)) == "azure.identity._credentials.default\n"


def test_starting_costs_next_to_nothing():
    code = (
        "import json, sys; from azure.ai.ml import MLClient; from azure.ai.ml.entities import ManagedOnlineEndpoint; "
        "from azure.identity import DefaultAzureCredential; MLClient(DefaultAzureCredential(), 's', 'g', 'w'); "
        "files = {name: getattr(each, '__file__', None) or '' for name, each in sys.modules.items()}; "
        "print(json.dumps([name for name, file in files.items() if 'site-packages' in file]))"
    )
    loaded = {name.partition(".")[0] for name in json.loads(said(as_azure("--backend", "process", "-c", code)))}
    assert loaded - {"attr", "attrs", "modelport"} <= {name for name in loaded if name.startswith(("_", "distutils"))}


CELLS = """
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()
for cell in (
    "%load_ext modelport.as_azure",
    "%env MODELPORT_BACKEND=process",
    "from azure.ai.ml import MLClient\\nfrom azure.ai.ml.entities import ManagedOnlineEndpoint",
    "from azure.identity import DefaultAzureCredential\\nml_client = MLClient(DefaultAzureCredential(), 's', 'g', 'w')",
    "endpoint = ManagedOnlineEndpoint(name='tides')",
    "shown, _ = get_ipython().display_formatter.format(endpoint)",
    "print(shown['text/plain'], '<table>' in shown['text/html'])",
    "%load_ext modelport.as_azure",
    "%unload_ext modelport.as_azure",
):
    shell.run_cell(cell).raise_error()
try:
    shell.run_cell("import azure.ai.ml").raise_error()
except ImportError as error:
    print(error)
"""


def test_a_notebook_loads_it_as_an_extension(tmp_path):
    told = said(python("-c", CELLS, IPYTHONDIR=tmp_path, PYTHONWARNINGS="ignore"))
    assert told.startswith("azure.ai.ml is Modelport now; MLClient works in Azure (set MODELPORT_BACKEND=process")
    assert "ManagedOnlineEndpoint(name='tides') True\n" in told
    assert told.endswith("No module named 'azure.ai'\n")
