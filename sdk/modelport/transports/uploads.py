"""
Files to a container, addressed by their content, so that nothing is sent twice.

The first file goes first and alone, and gets a mark when all the others are there.
So one look at it says what is to do: it has the mark (nothing), it is there without
(an upload was cut off: send what is missing), or it is not (send everything). Large
files go in blocks, of which the account keeps those that arrived.
"""

from __future__ import annotations

import base64
from collections.abc import Callable

from attrs import define, field

from modelport.errors import ClientAuthenticationError, ResourceExistsError, ServiceRequestError, ValidationException
from modelport.transports.progress import bar
from modelport.transports.sources import File, Source
from modelport.transports.storage import Container
from modelport.transports.tasks import all_done, task

PLACE = "LocalUpload"
OLD_PLACE = "az-ml-artifacts"


def upload(
    container: Container,
    source: Source,
    under: str = "",
    *,
    asset: str,
    version: str,
    show_progress: bool = False,
    anew: bool = False,
) -> str:
    """
    Send what the container does not have yet; returns where it is in the container.

    Args:
        container: Where to.
        source: What; its hash was made, which is a part of `under` or of the container's name.
        under: Path in the container, `LocalUpload/{hash}`; empty for its root.
        asset: Name of the asset that the files are for, noted with them.
        version: Its version.
        show_progress: Whether to draw a bar on a terminal.
        anew: Whether what is there already is written again: nothing in its place says what its content is.

    Raises:
        errors.ServiceRequestError: It was cut off. Call again to send the rest.
        errors.ValidationException: A file changed since its hash was made.
    """
    where = f"{under}/{source.name}" if under else source.name
    try:
        return _Upload(container, source, where, anew).run(asset, version, show_progress=show_progress)
    except ServiceRequestError as error:
        hint = "Call again." if anew else "What arrived is kept: call again to go on."
        message = f"Uploading '{source.path}' was cut off: {error.message} {hint}"
        raise type(error)(message, target="path") from error


@define
class _Upload:
    """An upload that is under way."""

    container: Container
    source: Source
    where: str
    anew: bool = False
    there: dict[str, int] = field(factory=dict)
    """The blobs that an earlier upload left, each with its size in bytes."""

    moved: Callable[[int], None] = field(default=lambda _: None)

    def run(self, asset: str, version: str, *, show_progress: bool) -> str:
        """Send what is missing; returns where it all is."""
        files = self.source.files
        first = self.name(files[0])
        mark = self.container.head(first)
        if mark and self.anew:
            self.there = self._found()
            self._refuse_others(files)
        elif mark:
            # Source: recordings. Older clients of Azure put files elsewhere, and what is there serves as well.
            old = first.replace(PLACE, OLD_PLACE)
            there = self.container.head(old) if old != first else None
            if there and there.completed:
                return self.where.replace(PLACE, OLD_PLACE)
            if mark.completed:
                return self.where
            self.there = self._found()
        with bar(f"Uploading {self.source.name}", sum(each.size for each in files), show=show_progress) as self.moved:
            self.send(files[:1])
            self.send(files[1:])
        self.container.complete(first, asset, version)
        return self.where

    @property
    def checked(self) -> bool:
        """Whether checksums are sent: of a folder's files, as Azure's client does, which sends none of a large file."""
        return not self.source.is_file

    def _found(self) -> dict[str, int]:
        """The blobs that an earlier upload left, each with its size in bytes."""
        below = self.where if self.source.is_file else f"{self.where}/"
        try:
            return {each.name: each.size for each in self.container.listed(below)}
        except ClientAuthenticationError:  # a signature may let one read and write, and not list
            found: dict[str, int] = {}

            def look(name: str) -> None:
                there = self.container.head(name)
                if there:
                    found[name] = there.size

            all_done(task(look, self.name(each)) for each in self.source.files)
            return found

    def _refuse_others(self, files: list[File]) -> None:
        """What has to be written anew must not be mixed with files that are no longer a part of it."""
        others = sorted(set(self.there) - {self.name(each) for each in files})
        if others:
            raise ValidationException(
                f"An earlier upload of '{self.source.path}' left '{others[0]}', which it does not have now, and which "
                "would stay. Choose another version.",
                target="version",
            )

    def name(self, file: File) -> str:
        """A file's blob."""
        return self.where if self.source.is_file else f"{self.where}/{file.name}"

    def send(self, files: list[File]) -> None:
        """Send files that are not there, many at once."""
        missing = [each for each in files if self.anew or self.there.get(self.name(each)) != each.size]
        self.moved(sum(each.size for each in files) - sum(each.size for each in missing))
        tasks: list[Callable[[], None]] = []
        large = []
        for each in missing:
            if len(self.source.blocks(each)) > 1:
                large.append(each)
                tasks += self._missing_blocks(each)
            else:
                tasks.append(task(self._whole, each))
        all_done(tasks)
        all_done(task(self._commit, each) for each in large)

    def _whole(self, file: File) -> None:
        data, checked = self.source.read(file, 0, file.size), self.checked
        self._put(file, lambda replace: self.container.put(self.name(file), data, checked=checked, replace=replace))
        self.moved(file.size)

    def _missing_blocks(self, file: File) -> list[Callable[[], None]]:
        have = {} if self.anew else self.container.uncommitted(self.name(file))
        missing = []
        for start, length in self.source.blocks(file):
            if have.get(_block_id(start)) == length:
                self.moved(length)
            else:
                missing.append(task(self._block, file, start, length))
        return missing

    def _block(self, file: File, start: int, length: int) -> None:
        data = self.source.read(file, start, length)
        self.container.put_block(self.name(file), _block_id(start), data, checked=self.checked)
        self.moved(length)

    def _commit(self, file: File) -> None:
        blocks = [_block_id(start) for start, _ in self.source.blocks(file)]
        self._put(file, lambda replace: self.container.put_blocks(self.name(file), blocks, replace=replace))

    def _put(self, file: File, put: Callable[[bool], None]) -> None:
        """Write a blob; one that is there already is fine, as its name says what is in it, unless its size differs."""
        name = self.name(file)
        try:
            put(name in self.there)
        except ResourceExistsError:
            there = self.container.head(name)
            if self.anew or there is None or there.size != file.size:
                put(True)


def _block_id(start: int) -> str:
    """What a block is called: by where it begins. All of a blob are equally long, those of Azure's SDK too."""
    return base64.b64encode(f"{start:048d}".encode()).decode()
