"""
Environments of different shapes: what is asked for, and what comes of it.

A table, so that a shape is added in a line. `{main}` and `{extra}` are URLs of the channels of `channel.py`,
`{here}` the minor version of the running Python.
"""

import sys
from typing import Literal

from attrs import frozen


@frozen
class Shape:
    """A row."""

    name: str
    file: str
    """The conda file, in YAML; empty when there is none."""
    build: Literal["venv", "conda", "image", "none"]
    """What makes it: uv, rattler and uv, or Docker; `none`: nobody, since it is refused or only looked at."""
    serves: str = ""
    """An expression that a script answers with in the environment; empty: it is not built to its end here."""
    gives: object = None
    """Its value."""
    fails: tuple[str, ...] = ()
    """What the refusal says, the line at fault among it; empty: it is good."""
    warns: str = ""
    """What is said about it beforehand."""
    dockerfile: str = ""
    """Of an image: how it is built; empty: the base image itself. `{base}` is its name."""
    image: str = "{base}"
    """Name of the image, where there is no Dockerfile."""

    def text(self, **places):
        """The conda file with its places filled in."""
        text = self.file.replace("{here}", f"3.{sys.version_info.minor}")
        for name, place in places.items():
            text = text.replace(f"{{{name}}}", place)
        return text


def _file(*packages, pip=(), channels=("{main}",), more=""):
    lines = [more] if more else []
    lines += ["channels:", *(f"  - {each}" for each in channels)] if channels else []
    lines += ["dependencies:"] if packages or pip else ["dependencies: []"]
    lines += [f"  - {each}" for each in packages]
    lines += ["  - pip:", *(f"    - {each}" for each in pip)] if pip else []
    return "\n".join(lines) + "\n"


_WRONG_PIP = "is not a pip requirement"
_WRONG = "is not a conda package; write it like `numpy=1.26`"
_VERSION = "(__import__('importlib.metadata').metadata.version('{}'))"

SHAPES = [
    # Built, and serve: uv alone.
    Shape("no file", "", "venv", "1 + 1", 2),
    Shape("python alone", _file("python", channels=["conda-forge"]), "venv", "1 + 1", 2),
    Shape("pip alone", _file(pip=["idna==3.10"], channels=[]), "venv", "__import__('idna').__version__", "3.10"),
    Shape(
        "python and pip",
        _file("python={here}", "pip", pip=["click>=8", "idna<4"], channels=["conda-forge"]),
        "venv",
        "__import__('click').__name__",
        "click",
    ),
    Shape("extras", _file("python", pip=['"requests[socks]"']), "venv", "__import__('socks').__name__", "socks"),
    # Built, and serve: rattler, then uv.
    Shape("one package", _file("tiny"), "conda", "__import__('tiny').__version__", "2.0"),
    Shape("a version", _file("tiny=1", "python={here}"), "conda", "__import__('tiny').__version__", "1.0"),
    Shape("compiled code", _file("pyyaml"), "conda", "__import__('yaml').__with_libyaml__", True),
    Shape("a package's needs", _file("many-names"), "conda", "__import__('many_names').VALUE", 7),
    Shape(
        "conda and pip",
        _file("markupsafe", "click", "pip", pip=["idna==3.10"]),
        "conda",
        "[__import__('markupsafe').escape('<'), __import__('idna').__version__]",
        ["&lt;", "3.10"],
    ),
    Shape(
        "a channel for one package",
        _file("tiny", "{extra}::elsewhere"),
        "conda",
        "[__import__('tiny').__version__, __import__('elsewhere').__version__]",
        ["2.0", "1.0"],
    ),
    Shape(
        "two channels", _file("tiny", channels=["{extra}", "{main}"]), "conda", "__import__('tiny').__version__", "9.0"
    ),
    Shape("the machine", _file("psutil", "wants-unix"), "conda", "__import__('psutil').cpu_count() > 0", True),
    # Solved.
    Shape("python from conda", _file("python={here}.*=*_cp3*"), "conda"),
    Shape("a python range", _file("python>=3.9,<3.14", "tiny"), "conda"),
    Shape("exact", _file("tiny==1.0"), "conda"),
    Shape("exact with a space", _file("tiny 1.0"), "conda"),
    Shape("a build", _file("flavour=1.0=plain_0"), "conda"),
    Shape("a build by pattern", _file("flavour 1.* rich*"), "conda"),
    Shape("in brackets", _file("\"flavour[version='>=1', build=plain*]\""), "conda"),
    Shape("one of two versions", _file('"tiny=1|=3"'), "conda"),
    Shape("not a version", _file('"tiny!=2.0"'), "conda"),
    Shape("compatible", _file('"tiny~=1.0"'), "conda"),
    Shape("letters in a version", _file("dated=2024a"), "conda"),
    Shape("upper case", _file("PyYAML"), "conda"),
    Shape("no code of Python", _file("dated", "where"), "conda"),
    Shape("a pin of what another needs", _file("old-needs", '"tiny>=1"'), "conda"),
    Shape("the same twice", _file("tiny", '"tiny<2"'), "conda"),
    Shape("pip's own options", _file("tiny", pip=["--pre", "idna"]), "conda"),
    Shape("nodefaults", _file("tiny", channels=["{main}", "nodefaults"]), "conda"),
    Shape(
        "comments", "dependencies:\n  - tiny  # small\n  - pip:\n    - idna  # names\nchannels: ['{main}']\n", "conda"
    ),
    # Looked at: their channels are not reached here.
    Shape("conda-forge", _file("numpy", "scipy=1.*", channels=["conda-forge"]), "none"),
    Shape("defaults", _file("numpy", channels=["defaults"]), "none"),
    Shape("no channels", _file("numpy", channels=[]), "none"),
    Shape("pytorch", _file("pytorch::pytorch", "cpuonly", channels=["pytorch", "conda-forge"]), "none"),
    Shape("cuda", _file("pytorch-gpu", "cuda-version=12", channels=["conda-forge"]), "none"),
    Shape("a label", _file("numpy", channels=["conda-forge/label/dev"]), "none"),
    Shape("a platform", _file("conda-forge/linux-64::blas=*=mkl", channels=["conda-forge"]), "none"),
    Shape("a password", _file("numpy", channels=["https://me:secret@example.com/t/tk-1/ch"]), "none"),
    Shape("a git repository", _file("python", pip=["git+https://example.com/six.git@main"]), "none"),
    Shape("a marker", _file("python", pip=["\"six==1.16.0; python_version<'3.14'\""]), "none"),
    Shape("an index", _file("python", pip=["--extra-index-url https://example.com/simple", "six"]), "none"),
    Shape("an old python", _file("python=3.9", pip=["six"]), "none"),
    Shape("an exported file", _file("tiny=1.0=0", more="name: tides\nprefix: /home/me/envs/tides"), "none"),
    Shape("platforms", _file("tiny", more="platforms: [linux-64, osx-arm64]"), "none"),
    Shape("variables", _file("tiny", more="variables: {A: '1'}"), "none", warns="`environment_variables`"),
    Shape("nothing", "channels: [conda-forge]\n", "none"),
    # Refused when they are read.
    Shape("a typo in a key", "dependancies: []\n", "none", fails=("conda_file.dependancies", "mean `dependencies`")),
    Shape("one string", "dependencies: numpy\n", "none", fails=("conda_file.dependencies", "str 'numpy'")),
    Shape("three equals", _file("tiny", "numpy==="), "none", fails=("dependencies[1]", f"'numpy===' {_WRONG}")),
    Shape("half a version", _file("numpy>="), "none", fails=("dependencies[0]", f"'numpy>=' {_WRONG}")),
    Shape("a version alone", _file('"=1.2"'), "none", fails=("dependencies[0]", f"'=1.2' {_WRONG}")),
    Shape("two words", _file("scikit learn"), "none", fails=("dependencies[0]", f"'scikit learn' {_WRONG}")),
    Shape("latest", _file("numpy=latest"), "none", fails=("dependencies[0]", f"'numpy=latest' {_WRONG}")),
    Shape("a pattern", _file('"num*"'), "none", fails=("dependencies[0]", f"'num*' {_WRONG}")),
    Shape("a number", _file("3.11"), "none", fails=("dependencies[0]", "float 3.11 was found")),
    Shape("pip's spelling in conda", _file('"requests[socks]"'), "none", fails=("dependencies[0]", "asks for `socks`")),
    Shape("conda's spelling in pip", _file(pip=["six=1.16"]), "none", fails=(".pip[0]", "pip writes it 'six==1.16'")),
    Shape("pip gone wrong", _file("tiny", pip=["six", "six=="]), "none", fails=("[1].pip[1]", f"'six==' {_WRONG_PIP}")),
    Shape("a file of pip's", _file(pip=["-r more.txt"]), "none", fails=(".pip[0]", "names a file")),
    Shape("a path in pip", _file(pip=["./mine.whl"]), "none", fails=(".pip[0]", "'./mine.whl' is a path")),
    Shape(
        "pip twice", "dependencies:\n  - pip: [six]\n  - pip: [click]\n", "none", fails=("[1].pip", "a second `pip:`")
    ),
    Shape("a path as channel", _file("tiny", channels=["./ch"]), "none", fails=("channels[0]", "'./ch' is a path")),
    Shape("no URL", _file("tiny", channels=["ftp://host/ch"]), "none", fails=("channels[0]", "known are https://")),
    Shape(
        "a bad channel of a package", _file("ftp://host/ch::tiny"), "none", fails=("dependencies[0]", "known are https")
    ),
    Shape("python 2", _file("python=2.7", "tiny"), "none", fails=("python=2.7", "runs on Python 3.9 to 3.13")),
    Shape("python to come", _file("python>=3.14"), "none", fails=("python=>=3.14", "runs on Python 3.9 to 3.13")),
    Shape(
        "all at once",
        _file("numpy===", "tiny", pip=["six=1"], channels=["../ch"]),
        "none",
        fails=("channels[0]", "dependencies[0]", "dependencies[2].pip[0]"),
    ),
    # Refused when they are built.
    Shape("unknown", _file("tiny", "no-such"), "conda", fails=("'no-such' (dependencies[1]) cannot be had",)),
    Shape("no such version", _file("tiny=7"), "conda", fails=("'tiny=7' (dependencies[0]) cannot be had",)),
    Shape("no such build", _file("flavour=1.0=sour"), "conda", fails=("'flavour=1.0=sour' (dependencies[0]) cannot",)),
    Shape(
        "a clash",
        _file("old-needs", "tiny", "new-needs"),
        "conda",
        fails=("'old-needs' and 'new-needs' (dependencies[0], dependencies[2]) exclude each other",),
    ),
    Shape(
        "a need that nobody has", _file("lacks-one"), "conda", fails=("'lacks-one' (dependencies[0]) cannot be had",)
    ),
    Shape("another python", _file("for-another"), "conda", fails=("'for-another' (dependencies[0]) cannot be had",)),
    Shape("a graphics card", _file("wants-gpu"), "conda", fails=("'wants-gpu' (dependencies[0]) cannot be had",)),
    Shape(
        "not there", _file("tiny", channels=["{main}/nothing"]), "conda", fails=("was not found: there is no conda",)
    ),
    Shape(
        "not up", _file("tiny", channels=["http://127.0.0.1:9/ch"]), "conda", fails=("http://127.0.0.1:9/ch could not",)
    ),
    Shape(
        "pip against conda", _file("tiny=1", pip=["tiny==5"]), "conda", fails=("'tiny==5' clashes with 'tiny==1.0'",)
    ),
    Shape(
        "pip against itself",
        _file(pip=["idna==3.9", "idna==3.10"]),
        "venv",
        fails=("'idna==3.10' and 'idna==3.9' excl",),
    ),
    Shape(
        "pip unknown",
        _file(pip=["no-such-package-of-modelport"]),
        "venv",
        fails=("'no-such-package-of-modelport' was",),
    ),
    Shape("pip too new", _file(pip=["idna==999"]), "venv", fails=("'idna==999' was not found",)),
    Shape("pip against scoring", _file(pip=["six==1.15.0"]), "venv", fails=("'six==1.15.0' clashes with 'six>=1.16'",)),
    # Images, which serve.
    Shape("an image alone", "", "image", "1 + 1", 2),
    Shape(
        "an image, and pip on top",
        _file(pip=["idna==3.10"], channels=[]),
        "image",
        "__import__('idna').__version__",
        "3.10",
    ),
    Shape(
        "an image's own python by its version",
        _file("python=3.11", "pip"),
        "image",
        "list(__import__('sys').version_info[:2])",
        [3, 11],
    ),
    Shape(
        "a Dockerfile with a package, and nothing else",
        "",
        "image",
        "__import__('tabulate').__version__",
        "0.9.0",
        dockerfile="FROM {base}\nRUN pip install tabulate==0.9.0\n",
    ),
    Shape(
        "a Dockerfile, and pip on top",
        _file(pip=["idna==3.10"], channels=[]),
        "image",
        "[open('/etc/harbour').read(), __import__('idna').__version__]",
        ["lisbon\n", "3.10"],
        dockerfile="FROM {base}\nRUN echo lisbon > /etc/harbour\n",
    ),
    Shape(
        "a Dockerfile with another user, folder and entry point",
        "",
        "image",
        "__import__('os').environ['TIDE']",
        "high",
        dockerfile='FROM {base}\nRUN mkdir /work\nWORKDIR /work\nENV TIDE=high\nUSER nobody\nENTRYPOINT ["false"]\n',
    ),
    Shape(
        "conda packages on an image without conda",
        _file("python={here}", "tiny", pip=["idna==3.10"]),
        "image",
        "[__import__('tiny').__name__, __import__('idna').__version__]",
        ["tiny", "3.10"],
    ),
    # Images that are not to be had.
    Shape(
        "an image that is nowhere", "", "image", fails=("'modelport-test/nowhere:7'",), image="modelport-test/nowhere:7"
    ),
    Shape(
        "a requirement that no index has, on an image",
        _file(pip=["idna", "no-such-package-of-modelport"], channels=[]),
        "image",
        fails=("'no-such-package-of-modelport' was not found",),
    ),
    Shape(
        "a step of a Dockerfile that fails",
        "",
        "image",
        fails=("Dockerfile line 3", "RUN false"),
        dockerfile="FROM {base}\n# a remark\nRUN false\n",
    ),
    Shape(
        "an instruction that a Dockerfile does not have",
        "",
        "image",
        fails=("Dockerfile line 2", "FETCH"),
        dockerfile="FROM {base}\nFETCH all\n",
    ),
    Shape(
        "a file that is not in the context",
        "",
        "image",
        fails=("Dockerfile line 2", "weights.bin"),
        dockerfile="FROM {base}\nCOPY weights.bin /\n",
    ),
    Shape(
        "a conda package that no channel has, for an image",
        _file("python={here}", "nowhere-package"),
        "image",
        fails=("'nowhere-package'",),
    ),
]
