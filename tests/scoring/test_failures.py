"""Scripts that cannot be served: the whole server ends, soon, and says why."""

from __future__ import annotations

import signal

import pytest

FAULTS = {
    "syntax": (
        "def init(): pass\ndef run(d) return d\n",
        "UserScriptImportError",
        r"Importing score.py raised SyntaxError: .* (score.py, line 2).",
    ),
    "missing package": (
        "import no_such_package\ndef init(): pass\ndef run(d): pass\n",
        "UserScriptImportError",
        "Importing score.py raised ModuleNotFoundError: No module named 'no_such_package' (score.py, line 1).",
    ),
    "no run": ("def init(): pass\n", "UserScriptFunctionNotFound", "score.py has no run() function."),
    "no init": ("def run(d): pass\n", "UserScriptFunctionNotFound", "score.py has no init() function."),
    "variadic run": (
        "def init(): pass\ndef run(*d): pass\n",
        "UserScriptFunctionNotFound",
        "run() in score.py must not have positional-only parameters, *args or **kwargs.",
    ),
    "init raises": (
        "def load():\n    raise ValueError('no model')\ndef init():\n    load()\ndef run(d): pass\n",
        "UserScriptInitFailed",
        "init() raised ValueError: no model (score.py, line 2).",
    ),
    "init in a library": (
        "import json\ndef init():\n    json.loads('{')\ndef run(d): pass\n",
        "UserScriptInitFailed",
        "init() raised JSONDecodeError: .* (score.py, line 3).",
    ),
    "init exits": (
        "import sys\ndef init():\n    sys.exit(4)\ndef run(d): pass\n",
        "UserScriptInitFailed",
        "init() called sys.exit(4) (score.py, line 3).",
    ),
    "init leaves a thread": (
        (
            "import threading, time\n"
            "def init():\n    threading.Thread(target=time.sleep, args=(60,)).start()\n    1 / 0\n"
            "def run(d): pass\n"
        ),
        "UserScriptInitFailed",
        "init() raised ZeroDivisionError: division by zero (score.py, line 4).",
    ),
    "no script": (None, "UserScriptImportError", "The scoring script score.py is not in .*"),
}


@pytest.mark.parametrize(("script", "code", "message"), FAULTS.values(), ids=FAULTS)
def test_a_script_that_cannot_be_served_ends_the_server_with_its_reason(start, script, code, message):
    served = start(script)
    assert served.process.wait(timeout=20) == 3
    failure = served.failure
    assert failure["code"] == code
    before, wildcard, after = message.partition(".*")
    assert failure["message"].startswith(before)
    assert failure["message"].endswith(after) if wildcard else failure["message"] == message
    assert failure["message"] in served.log
    assert "modelport_scoring/" not in failure["log"]
    if " raised " in message:
        assert "score.py" in failure["log"]
    assert not served.uds.exists()


def test_a_hanging_init_shows_where_it_hangs(start):
    served = start("import time\ndef init():\n    print('hanging', flush=True)\n    time.sleep(60)\ndef run(d): pass\n")
    served.wait_for(lambda: "hanging" in served.log)
    served.process.send_signal(signal.SIGUSR1)
    served.wait_for(lambda: "line 4 in init" in served.log)


def test_a_hanging_init_ends_with_sigterm(start):
    served = start("import time\ndef init():\n    print('hanging', flush=True)\n    time.sleep(60)\ndef run(d): pass\n")
    served.wait_for(lambda: "hanging" in served.log)
    served.process.terminate()
    assert served.process.wait(timeout=5) == -signal.SIGTERM


def test_settings_that_are_no_numbers_are_refused_by_name(start):
    served = start("", SCORING_TIMEOUT_MS="soon")
    assert served.process.wait(timeout=20) == 2
    message = "SCORING_TIMEOUT_MS is 'soon': it must be a whole number above 0."
    assert message in served.log
    assert (served.failure["code"], served.failure["message"]) == ("DeploymentFailed", message)
