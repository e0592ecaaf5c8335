"""What an environment has, and another process that builds one."""

import json
import os
import subprocess
import sys
from pathlib import Path


def run(python, code, **environment):
    """What `code` prints in an isolated interpreter."""
    return subprocess.run(
        [python, "-I", "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    ).stdout.strip()


def builder_process(builder, conda):
    """Another process that builds; it prints the lines that it was told, and `done`."""
    code = (
        "import json, pathlib, sys\n"
        "from modelport.builds.base import Wanted\n"
        "from modelport.builds.prefix import PrefixBuilder\n"
        "cache, scoring, conda = sys.argv[1:]\n"
        "builder = PrefixBuilder(pathlib.Path(cache), scoring=pathlib.Path(scoring))\n"
        "builder.build(Wanted(conda=json.loads(conda)), lambda line: print(line, flush=True))\n"
        "print('done')\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, str(builder._cache), str(builder._scoring.folder), json.dumps(conda.conda)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    )


def environments(builder):
    return sorted(folder.name for folder in builder._cache.iterdir() if folder.is_dir())


def prefix(built):
    return Path(built.python).parent.parent
