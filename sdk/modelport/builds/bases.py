"""The images that environments are added to: built from a Dockerfile, pulled, or here already."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from attrs import frozen
from docker import DockerClient
from docker.errors import APIError
from docker.utils import parse_repository_tag

from modelport import engine, errors
from modelport.builds import contexts, recipes, streams
from modelport.builds.base import Wanted
from modelport.builds.channels import masked
from modelport.builds.contexts import Context
from modelport.builds.records import Record, Records
from modelport.builds.shelves import Shelf
from modelport.builds.streams import Closers

Tell = Callable[[str], None]


@frozen(kw_only=True)
class Base:
    """The image that an environment is added to."""

    id: str
    name: str
    """For sentences."""
    user: str
    """Who its programs run as; empty: root."""
    under: tuple[str, ...] = ()
    """Its key, when it was built here."""


class Bases:
    """
    Gets them. `go_on` raises where nothing may be begun any more.

    `offline` keeps from pulling, and `pull` asks the registry for images that are here too.
    """

    def __init__(
        self,
        records: Records,
        shelf: Shelf,
        closers: Closers,
        *,
        go_on: Callable[[], None],
        offline: bool,
        pull: bool,
    ) -> None:
        self._records = records
        self._shelf = shelf
        self._closers = closers
        self._go_on = go_on
        self._offline = offline
        self._pull = pull and not offline

    def name(self, wanted: Wanted) -> str:
        """
        The name of the image to start from; that of a Dockerfile's has the hash of what it is built from.

        Raises:
            errors.ValidationException: No image is named.
        """
        if wanted.context is not None:
            return self._context_name(Context(folder=wanted.context, dockerfile=wanted.dockerfile))[1]
        if not wanted.image:
            raise errors.ValidationException(
                "The environment names no image to start from. Give it `image`, or `build`.", target="environment.image"
            )
        return wanted.image

    def get(self, wanted: Wanted, report: Tell) -> Base:
        """
        The image to start from, which is here now.

        Raises:
            errors.ImageBuildFailure: It can be neither built nor pulled.
        """
        if wanted.context is not None:
            return self._from_context(Context(folder=wanted.context, dockerfile=wanted.dockerfile), report)
        name = self.name(wanted)
        if self._pull or self._shelf.image(name) is None:
            self._pulled(name, report)
        return self._about(name, name)

    def _about(self, image: str, name: str, under: tuple[str, ...] = ()) -> Base:
        about = self._shelf.inspect(image)
        if not about:
            raise errors.ImageBuildFailure(f"Image '{name}' was removed meanwhile. Try again.")
        return Base(id=about["Id"], name=name, user=(about.get("Config") or {}).get("User") or "", under=under)

    def _pulled(self, name: str, report: Tell) -> None:
        if self._offline:
            raise errors.ImageBuildFailure(
                f"Image '{name}' is not here, and the network is off. Pull it once with the network on, or load it."
            )
        repository, tag = parse_repository_tag(name)
        report(f"Pulling image '{name}'.")
        seen = set()

        def ask(client: DockerClient) -> Iterator[dict[str, Any]]:
            answer: Iterator[dict[str, Any]] = client.api.pull(
                repository, tag=tag or "latest", stream=True, decode=True
            )
            return answer

        try:
            with streams.messages(ask, self._closers) as messages:
                for message in messages:
                    if "error" in message:
                        raise _not_pulled(name, message["error"])
                    line = " ".join(filter(None, [message.get("id"), message.get("status")]))
                    if line not in seen:  # bars of progress come again and again
                        seen.add(line)
                        report(line)
        except APIError as error:
            raise _not_pulled(name, engine.words(error)) from error
        self._go_on()

    def _from_context(self, context: Context, report: Tell) -> Base:
        key, name = self._context_name(context)
        with self._records.locked(key, lambda: report("Waiting for another build of this image.")):
            record = self._shelf.found(key)
            if record is None or self._pull:
                engine.readable(context.folder)  # what is copied keeps its mode, and uploads are their owner's alone
                build = contexts.built_with_buildx if contexts.has_buildx() else contexts.built_classic
                with self._records.told(key, report) as tell:
                    self._go_on()
                    image = build(context, name, self._shelf.labels(key), tell, self._closers, pull=self._pull)
                record = Record(
                    image=self._shelf.image(image) or image, size_bytes=self._shelf.size_bytes(image), steps=True
                )
                self._records.put(key, record)
        self._records.touch(key)
        return self._about(record.image, f"of {context.dockerfile}", (key,))

    def _context_name(self, context: Context) -> tuple[str, str]:
        """Key and name of the image that a context becomes."""
        key = recipes.hashed({"format": recipes.FORMAT, "context": context.digest()})
        return key, self._records.image_name("context", key)


def _not_pulled(name: str, said: str) -> errors.ImageBuildFailure:
    said = " ".join(masked(said).split()).rstrip(".")
    return errors.ImageBuildFailure(
        f"Image '{name}' could not be pulled: {said}. "
        "Check its name and the network, log in with `docker login`, or build it here."
    )
