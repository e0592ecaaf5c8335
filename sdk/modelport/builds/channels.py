"""
What the names of channels mean, and how they are asked.

A channel is written as a name (`conda-forge`), a URL, or a folder (`file:///…`). Passwords
and tokens in URLs are taken out before anything else sees them: they are no part of an
environment's key, nor of its lock, and are put back only into the requests themselves.
"""

from __future__ import annotations

import os
import re
from urllib.parse import unquote, urlsplit, urlunsplit

from attrs import field, frozen

_ALIAS = "https://conda.anaconda.org"
_DEFAULTS = ("https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r")
_NAME = re.compile(r"[A-Za-z0-9_][\w.-]*(/[\w.-]+)*")
_SUBDIR = re.compile(r"/(noarch|(linux|osx|win|freebsd|emscripten|wasi|zos)-\w+)$")


@frozen
class Channel:
    """A place that has packages."""

    name: str
    """As it was written, without secrets."""
    url: str
    """Without secrets, and without a slash at its end."""
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be shown."""
        return tuple(filter(None, (self.password, self.token)))

    @property
    def asked(self) -> str:
        """Where requests go: `url`, with the token in its path."""
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(path=f"/t/{self.token}{parts.path}")) if self.token else self.url


def channels(text: str) -> tuple[Channel, ...]:
    """
    The channels that are meant by a line of a conda file; `defaults` are several, `nodefaults` none.

    Names are looked up below CONDA_CHANNEL_ALIAS, as conda does.

    Raises:
        ValueError: It is no channel; the sentence says what was expected.
    """
    said = text.strip().rstrip("/")
    if said == "nodefaults":
        return ()
    if said == "defaults":
        return tuple(Channel("defaults", url) for url in _DEFAULTS)
    if "://" in said:
        return (_from_url(said, masked(said)),)
    if said.startswith("~") or text.strip().startswith(("/", "./", "../", "..")) or said == "." or "\\" in said:
        example = f"file://{said}" if said.startswith("/") else "file:///path/of/it"
        raise ValueError(f"'{said or text}' is a path; write a folder of this machine as a URL: '{example}'")
    if not _NAME.fullmatch(said):
        raise ValueError(f"'{masked(said)}' is no channel; write a name such as `conda-forge`, or a URL")
    if said.startswith("pkgs/"):  # conda's own exception
        return (Channel(said, f"https://repo.anaconda.com/{said}"),)
    alias = os.environ.get("CONDA_CHANNEL_ALIAS") or _ALIAS
    return (_from_url(f"{alias.rstrip('/')}/{said}", said),)


def without_platform(channel: str) -> str:
    """The channel of what stands before `::`, where conda takes `conda-forge/linux-64` too."""
    return _SUBDIR.sub("", channel)


def masked(text: str, secrets: tuple[str, ...] = ()) -> str:
    """The text without the passwords and tokens that URLs may have, nor `secrets`."""
    for secret in (each for each in secrets if len(each) > 3):  # one letter is in every word
        text = text.replace(secret, "***")
    text = re.sub(r"(?<=://)[^/@\s]+@", "***@", text)
    text = re.sub(r"(://\S*?/t/)[^/\s:'\"]+", r"\1***", text)
    return re.sub(r"(://[^\s?]+\?)\S+", r"\1***", text)


def _from_url(text: str, name: str) -> Channel:
    parts = urlsplit(text)
    if parts.scheme not in ("https", "http", "file") or not (parts.hostname or parts.scheme == "file"):
        raise ValueError(f"'{name}' is not a URL that is understood here; known are https://, http:// and file:///")
    if parts.scheme == "file" and parts.netloc not in ("", "localhost"):
        raise ValueError(f"'{name}' names a host; write a folder of this machine with three slashes: 'file:///…'")
    host = parts.netloc.rpartition("@")[2]
    token = re.fullmatch(r"/t/([^/]+)(/.*|)", parts.path)
    return Channel(
        name=name,
        url=urlunsplit((parts.scheme, host, token[2] if token else parts.path, "", "")),
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        token=token[1] if token else "",
    )
