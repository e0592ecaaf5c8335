"""
Which requirement is at fault, from what uv says about it.

uv explains a failure as a proof ("Because only six<=1.17.0 is available and you
require six>=99, …"), in which a person has to look for their own line. The words
below were read off real failures; where they do not match, uv's own reason stands.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from modelport import errors
from modelport.builds.conda import normal, project

_NAME = r"([A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?)"
_LAST_LINES = 20
_UNREACHABLE = re.compile(r"error sending request|dns error|failed to lookup address|[Cc]ould(?:n't| not) connect")


def fault(output: str, wanted: Sequence[str], scoring: Sequence[str]) -> str:
    """One sentence: the line of `wanted` that failed, why, and what to do; `scoring` is what scoring asks for."""
    text = _unwrapped(output)
    if "network was disabled" in text or "Network connectivity is disabled" in text:
        return f"{_culprits(text, wanted)} not in uv's cache, and the network is off. Build once with the network on."
    if _UNREACHABLE.search(text):
        url = re.search(r"https?://[^\s)`]+", text)
        where = f" ({url[0]})" if url else ""
        return f"the package index{where} could not be reached. Check the network, and uv's index settings."
    if built := re.search(rf"Failed to (?:build|download and build) `{_NAME}", text):
        line = _line(built[1], wanted)
        return f"requirement '{line}' could not be built from its source. Ask for a version that has a wheel."
    if "build backend returned an error" in text or "Failed to build" in text:
        return f"{_culprits(text, wanted)} not buildable from source. Ask for a version with a wheel."
    if unparsed := re.search(r"Couldn't parse requirement .*? cause: (.*?)(?: \^|$)", text):
        return f"a line of the `pip:` section is not a requirement: {unparsed[1]}."
    return _unresolved(text, wanted, scoring)


def failure(sentence: str, lines: Sequence[str], *, what: str = "Environment") -> errors.ImageBuildFailure:
    """`what` could not be built: the sentence, then the last of the builder's lines."""
    last = "\n".join(["The builder's last lines:", *lines[-_LAST_LINES:]])
    message = f"{what} could not be built: {sentence}" + (f" {last}" if lines else "")
    return errors.ImageBuildFailure(masked(message), target="conda_file")


def masked(text: str) -> str:
    """The text without passwords and tokens in URLs, which requirements and indexes may have."""
    return re.sub(r"(://[^\s?]+\?)\S+", r"\1***", re.sub(r"(?<=://)[^/@\s]+@", "***@", text))


def _unresolved(text: str, wanted: Sequence[str], scoring: Sequence[str]) -> str:
    missing = re.search(rf"{_NAME} was not found in the (?:package registry|provided package locations|cache)", text)
    if missing:
        line = _line(missing[1], wanted)
        return f"requirement '{line}' was not found: the package index has no '{missing[1]}'. Check its name."
    # uv names the very project: "Because only six<=1.17.0 is available and you require six>=99".
    versionless = re.search(
        rf"Because (?:there (?:is|are) no versions? of|only(?: the following versions of)?) {_NAME}(?![\w-])"
        r".*? and you require \1(?![\w-])",
        text,
    )
    if versionless and (line := _line(versionless[1], wanted)) in wanted:
        return f"requirement '{line}' was not found: the package index has no such version. Check the version."
    clash = [line for line in scoring if _asked(line, text)]
    ours = [line for line in wanted if _asked(line, text)]
    if clash and ours:
        return (
            f"requirement {_quoted(ours)} clashes with {_quoted(clash)}, which the scoring server needs."
            " Relax it, or leave it out."
        )
    if len(ours) == 1:
        return f"requirement '{ours[0]}' cannot be met with this Python on this machine. Ask for another version."
    if ours:
        return f"requirements {_quoted(ours)} exclude each other. Relax one of them."
    if clash:
        return f"{_quoted(clash)}, which the scoring server needs, has no release for this Python on this machine."
    return "its requirements could not be installed."


def _asked(line: str, text: str) -> bool:
    """Whether uv's reason says that we require the project of `line`."""
    name = project(line)
    required = re.findall(r"you require (.*?)(?:, we can conclude|, and |\.|$)(?!\d)", text)
    return name is not None and any(normal(name) in _names(part) for part in required)


def _names(text: str) -> set[str]:
    return {normal(name) for name in re.findall(_NAME, re.sub(r"[=<>!~]=?=?[\w.*+!]+", " ", text))}


def _line(name: str, wanted: Sequence[str]) -> str:
    """The user's line that asks for `name`; the name itself when another package brought it."""
    return next((line for line in wanted if normal(project(line) or "") == normal(name)), name)


def _culprits(text: str, wanted: Sequence[str]) -> str:
    here = [line for line in wanted if (name := project(line)) and normal(name) in _names(text)]
    return f"requirement {_quoted(here)} is" if here else "a requirement is"


def _quoted(lines: Sequence[str]) -> str:
    return " and ".join(f"'{line}'" for line in lines)


def _unwrapped(output: str) -> str:
    """The output as one line, without the frames that uv's older versions draw around causes."""
    return " ".join(re.sub(r"[^\x00-\x7f]", " ", output).split())
