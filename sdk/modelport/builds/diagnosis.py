"""
Which requirement is at fault, from what uv and rattler say about it.

uv explains a failure as a proof ("Because only six<=1.17.0 is available and you
require six>=99, …"), in which a person has to look for their own line. The words
below were read off real failures; where they do not match, uv's own reason stands.
Of rattler's, the solver's program has found out already which lines are at fault.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from modelport import errors
from modelport.builds.channels import Channel, masked
from modelport.builds.conda import Package, normal, project
from modelport.builds.solver import Verdict

_LAST_LINES = 20
_NAME = r"([A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?)"
_UNREACHABLE = re.compile(r"error sending request|dns error|failed to lookup address|[Cc]ould(?:n't| not) connect")


def failure(sentence: str, lines: Sequence[str], *, what: str = "Environment") -> errors.ImageBuildFailure:
    """The error that the build of `what` fails with: a sentence, and the builder's last lines."""
    last = "\n".join(["The builder's last lines:", *lines[-_LAST_LINES:]])
    message = f"{what} could not be built: {sentence}" + (f" {last}" if lines else "")
    return errors.ImageBuildFailure(masked(message), target="conda_file")


def conda_fault(verdict: Verdict, packages: Sequence[Package], channels: Sequence[Channel]) -> str:
    """One sentence: the line of the conda file that failed, why, and what to do."""
    lines = [packages[index] for index in verdict.specs if packages[index].place]
    ours = [packages[index].line for index in verdict.specs if not packages[index].place]
    asked = _quoted([each.line for each in lines])
    places = f" ({', '.join(each.place for each in lines)})" if lines else ""
    named = _listed(list(dict.fromkeys(each.name for each in channels)))
    if verdict.kind == "spec":
        return f"{asked}{places} is not a conda package: {verdict.reason.splitlines()[0]}."
    if verdict.kind == "absent":
        more = f" and {len(verdict.packages) - 3} more" if len(verdict.packages) > 3 else ""
        return (
            f"the conda packages {_quoted(verdict.packages[:3])}{more} are not in the package cache,"
            " and the network is off. Build once with the network on."
        )
    if verdict.kind == "channel":
        return _channel_fault(verdict, channels, named)
    if verdict.kind != "unsolvable":
        said = verdict.reason.splitlines() or ["no reason was given"]
        why = f"{said[0]}: {said[-1].removeprefix('Caused by: ')}" if said[1:] else said[0]
        return f"its conda packages could not be installed: {why}."
    if not lines:
        return f"{_listed(ours)}, which the scoring server needs, is not in {named}. Add a channel that has it."
    if re.search(r"No candidates were found|no candidates were found", verdict.reason) and len(verdict.specs) == 1:
        missing = verdict.reason.startswith("Cannot solve the request because of: No candidates")
        why = (
            f"{named} has no such package, or not in such a version"
            if missing
            else "something that it needs is in no channel"
        )
        return f"{asked}{places} cannot be had: {why}. Check its name and version, or add a channel that has it."
    if ours:
        return f"{asked}{places} cannot be had with {_listed(ours)}. Ask for another version of one of them."
    if len(lines) == 1:
        return f"{asked}{places} cannot be had from {named} on this machine. Ask for another version."
    return f"{asked}{places} exclude each other. Relax one of them."


def _channel_fault(verdict: Verdict, channels: Sequence[Channel], named: str) -> str:
    found = next((each for each in channels if each.url == verdict.channel), None)
    if found:
        named = found.name if "://" in found.name else f"{found.name} ({found.url})"
    if "repodata cache" in verdict.reason:
        return f"channel {named} is not in the cache, and the network is off. Build once with the network on."
    status = re.search(r"HTTP status [\w ]*\((\d{3})", verdict.reason)
    if status and status[1] in ("401", "403"):
        wrong = "the password or the token in its URL is not right"
        none = "it wants a user and a password, or a token, in its URL"
        return f"channel {named} refused the request ({status[1]}): {wrong if found and found.secrets else none}."
    if (status and status[1] == "404") or "could not find subdir" in verdict.reason:
        return f"channel {named} was not found: there is no conda channel. Check its name, or its URL."
    if status:
        return f"channel {named} answered with an error ({status[1]}). Try again later."
    if "error sending request" in verdict.reason or _UNREACHABLE.search(verdict.reason):
        return f"channel {named} could not be reached. Check the network, and the channel's name or URL."
    return f"channel {named} could not be read: {verdict.reason.splitlines()[0] if verdict.reason else 'no reason'}."


def fault(
    output: str, wanted: Sequence[str], scoring: Sequence[str], pinned: Sequence[str] = (), *, offline: bool = False
) -> str:
    """
    The line of `wanted` that failed, why, and what to do.

    `scoring` is what scoring asks for, `pinned` what conda has installed, `offline` whether the network was off.
    """
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
    # Of versions that it has no more of than their names uv does not always say that the network was off.
    hint = (
        " The network is off: perhaps it only is not in uv's cache. Build once with the network on." if offline else ""
    )
    return _unresolved(text, wanted, scoring, pinned) + hint


def _unresolved(text: str, wanted: Sequence[str], scoring: Sequence[str], pinned: Sequence[str]) -> str:
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
    held = [line for line in pinned if (name := project(line)) and normal(name) in _names(text) and line in text]
    if held and (ours or clash):
        needing = _quoted(ours) if ours else f"{_quoted(clash)}, which the scoring server needs,"
        return (
            f"requirement {needing} clashes with {_quoted(held)}, which conda installs."
            " Ask both for the same version, or leave one out."
        )
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


def _listed(names: Sequence[str]) -> str:
    return " and ".join(names)


def _quoted(lines: Sequence[str]) -> str:
    return " and ".join(f"'{line}'" for line in lines)


def _unwrapped(output: str) -> str:
    """The output as one line, without the frames that uv's older versions draw around causes."""
    return " ".join(re.sub(r"[^\x00-\x7f]", " ", output).split())
