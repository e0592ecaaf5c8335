"""What the scoring server does about debuggers beside letting one be attached, which `tests/operations` see."""

import json
import os
import socket
from pathlib import Path

import modelport_scoring

SCRIPT = "def init(): pass\ndef run(raw_data): return 1\n"


def test_a_port_that_is_taken_is_no_reason_not_to_listen(serve):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        served = serve(SCRIPT, MODELPORT_DEBUG=f"127.0.0.1:{port}")
        told = json.loads((served.folder / "debug.json").read_text())
    assert told["port"] not in (0, port)
    assert f"A debugger can be attached to 127.0.0.1:{told['port']}." in served.log


def test_without_debugpy_it_serves_and_says_so(serve, tmp_path):
    (tmp_path / "debugpy.py").write_text("raise ImportError('there is none')")
    found = os.pathsep.join([str(tmp_path), str(Path(modelport_scoring.__file__).parents[1])])
    served = serve(SCRIPT, MODELPORT_DEBUG="127.0.0.1:0", PYTHONPATH=found)
    assert "No debugger can be attached: there is none. Add debugpy to the environment." in served.log
    assert served.request("POST", "/score", "{}").body == b"1"


def test_no_debugger_is_loaded_unless_it_is_asked_for(serve):
    served = serve("import sys\ndef init(): pass\ndef run(raw_data): return 'debugpy' in sys.modules\n")
    assert served.request("POST", "/score", "{}").body == b"false"
