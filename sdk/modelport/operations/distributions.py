"""
Which packages bring which modules: what a conda file gives a script to import.

Nothing is looked up outside this machine. What is installed here says what it brings
and what it needs; for the best known packages a small table does; for the rest a
package is taken to bring the module of its own name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import metadata
from typing import Any

from attrs import frozen

from modelport.builds.conda import normal, project

# Module to the distributions that bring it, where the names differ; conda's names too.
_BROUGHT_BY: Mapping[str, tuple[str, ...]] = {
    "azureml.core": ("azureml-core", "azureml-defaults", "azureml-sdk"),
    "azure.ai.ml": ("azure-ai-ml",),
    "azure.identity": ("azure-identity",),
    "azure.storage.blob": ("azure-storage-blob",),
    "attr": ("attrs",),
    "bs4": ("beautifulsoup4",),
    "catboost": ("catboost",),
    "Crypto": ("pycryptodome",),
    "cv2": (
        "opencv-python",
        "opencv-python-headless",
        "opencv-contrib-python",
        "opencv-contrib-python-headless",
        "opencv",
        "py-opencv",
    ),
    "dateutil": ("python-dateutil",),
    "docx": ("python-docx",),
    "dotenv": ("python-dotenv",),
    "faiss": ("faiss-cpu", "faiss-gpu", "faiss"),
    "fitz": ("pymupdf",),
    "google.protobuf": ("protobuf",),
    "grpc": ("grpcio",),
    "jose": ("python-jose",),
    "jwt": ("pyjwt",),
    "lightgbm": ("lightgbm",),
    "magic": ("python-magic",),
    "mlflow": ("mlflow", "mlflow-skinny"),
    "msgpack": ("msgpack", "msgpack-python"),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "OpenSSL": ("pyopenssl",),
    "opentelemetry": ("opentelemetry-api", "opentelemetry-sdk"),
    "PIL": ("pillow", "pillow-simd"),
    "psycopg2": ("psycopg2", "psycopg2-binary"),
    "pythoncom": ("pywin32",),
    "serial": ("pyserial",),
    "skimage": ("scikit-image",),
    "sklearn": ("scikit-learn", "scikit-learn-intelex"),
    "slugify": ("python-slugify",),
    "tables": ("tables", "pytables"),
    "tensorflow": ("tensorflow", "tensorflow-cpu", "tensorflow-gpu", "intel-tensorflow"),
    "tflite_runtime": ("tflite-runtime",),
    "torch": ("torch", "pytorch", "pytorch-cpu", "pytorch-gpu"),
    "umap": ("umap-learn",),
    "usb": ("pyusb",),
    "xgboost": ("xgboost", "py-xgboost", "xgboost-cpu", "py-xgboost-cpu", "py-xgboost-gpu"),
    "yaml": ("pyyaml",),
    "zmq": ("pyzmq",),
}

# What the best known ones need in their turn; for those that are not installed here.
_NEEDS: Mapping[str, tuple[str, ...]] = {
    "azureml-defaults": ("azureml-core", "azureml-inference-server-http", "azureml-dataset-runtime"),
    "azureml-core": ("requests", "python-dateutil", "pytz", "azure-core", "cryptography", "pyjwt", "docker"),
    "azureml-inference-server-http": ("flask", "gunicorn", "inference-schema", "waitress", "pydantic"),
    "azureml-mlflow": ("mlflow-skinny", "azure-identity"),
    "azureml-ai-monitoring": ("pandas",),
    "catboost": ("numpy", "pandas", "scipy", "matplotlib", "plotly"),
    "fastai": ("torch", "torchvision", "numpy", "pandas", "pillow", "scikit-learn", "scipy", "pyyaml", "requests"),
    "flask": ("werkzeug", "jinja2", "click", "itsdangerous", "blinker", "markupsafe"),
    "inference-schema": ("pytz", "python-dateutil", "wrapt"),
    "keras": ("numpy", "h5py"),
    "lightgbm": ("numpy", "scipy"),
    "mlflow": ("mlflow-skinny", "numpy", "pandas", "scikit-learn", "scipy", "matplotlib", "pyarrow", "flask", "jinja2"),
    "mlflow-skinny": ("pyyaml", "requests", "protobuf", "packaging", "cloudpickle", "click", "gitpython", "pytz"),
    "onnxruntime": ("numpy", "protobuf", "packaging", "flatbuffers"),
    "opencv-python": ("numpy",),
    "opencv-python-headless": ("numpy",),
    "pandas": ("numpy", "python-dateutil", "pytz"),
    "pytorch": ("numpy", "typing-extensions"),
    "requests": ("urllib3", "certifi", "idna", "charset-normalizer"),
    "scikit-image": ("numpy", "scipy", "networkx", "pillow", "imageio", "packaging"),
    "scikit-learn": ("numpy", "scipy", "joblib", "threadpoolctl"),
    "scipy": ("numpy",),
    "sentence-transformers": ("transformers", "torch", "numpy", "scikit-learn", "scipy", "pillow", "tqdm"),
    "statsmodels": ("numpy", "scipy", "pandas", "patsy", "packaging"),
    "tensorflow": ("numpy", "keras", "protobuf", "h5py", "grpcio", "six", "wrapt", "packaging", "requests"),
    "torch": ("typing-extensions", "jinja2", "networkx", "sympy", "filelock", "fsspec"),
    "torchvision": ("torch", "numpy", "pillow"),
    "transformers": ("numpy", "pyyaml", "requests", "tqdm", "regex", "packaging", "filelock", "huggingface-hub"),
    "xgboost": ("numpy", "scipy"),
}

# Always there: with Python itself, or with the scoring server.
_GIVEN = ("azureml.contrib.services", "azureml_inference_server_http", "pip", "setuptools", "pkg_resources", "wheel")
# What our scoring server brings, and Azure's does not: `batched`, `Event` and the like.
_OURS = ("modelport_scoring",)

_NAMESPACES = ("azure", "azureml", "google", "ruamel")


@frozen
class Packages:
    """The packages that an environment asks for, by normalised name; `known` is False where some cannot be told."""

    names: frozenset[str]
    known: bool = True


def packages(conda: Mapping[str, Any]) -> Packages:
    """What a parsed conda file asks for. A requirements file, a folder or a URL in it may bring anything."""
    names: set[str] = set()
    known = True
    for item in conda.get("dependencies") or []:
        if isinstance(item, Mapping):
            for line in map(str, item.get("pip") or []):
                found = None if line.lstrip().startswith("-") else project(line)
                if found:
                    names.add(found)
                elif not re.match(r"\s*--?(i|f|index-url|extra-index-url|find-links|trusted-host|pre|no-)", line):
                    known = False
        elif isinstance(item, str):
            spec = re.match(r"\s*(?:[^\s:]+::)?([A-Za-z0-9_][\w.-]*)", item)
            if spec:
                names.add(normal(spec[1]))
    return Packages(frozenset(names), known)


def missing(modules: Iterable[str], given: Packages, *, azure: bool) -> Iterator[tuple[str, str]]:
    """
    Modules that no package of these brings, and the package that would: `("sklearn", "scikit-learn")`.

    Args:
        modules: Full names.
        given: What the environment asks for.
        azure: Whether the script is for Azure's scoring server.
    """
    if not given.known:
        return
    there = _with_needs(given.names)
    served = _GIVEN if azure else (*_GIVEN, *_OURS)
    for module in modules:
        if any(_within(module, each) for each in served):
            continue
        bringing = _bringing(module)
        if not there & set(bringing):
            yield module, bringing[0]


def _with_needs(names: Iterable[str]) -> set[str]:
    """The names with all that they need, as far as that can be told here."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _needs(name)
    return found


def _needs(name: str) -> list[str]:
    needed = set(_NEEDS.get(name, ()))
    try:
        lines = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        lines = []
    # Without extras; a condition on the platform or on Python's version is taken to hold.
    needed |= {found for line in lines if "extra ==" not in line and (found := project(line))}
    return [normal(each) for each in needed]


def _bringing(module: str) -> tuple[str, ...]:
    """Normalised names of the distributions that bring a module, the likeliest first."""
    top = module.partition(".")[0]
    for known, names in _BROUGHT_BY.items():
        if _within(module, known):
            return names
    if top in _NAMESPACES:  # whose parts are packages of their own: azure.storage.blob is azure-storage-blob's
        steps = normal(module.replace(".", "-")).split("-")
        return tuple("-".join(steps[:count]) for count in range(len(steps), 1, -1)) or (top,)
    return (*(normal(each) for each in _installed().get(top, ())), normal(top))


@cache
def _installed() -> Mapping[str, list[str]]:
    """Modules to distributions, of what is installed here; reading it takes a moment."""
    return metadata.packages_distributions()


def _within(module: str, known: str) -> bool:
    return module == known or module.startswith(f"{known}.")
