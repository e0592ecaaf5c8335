"""
Images for replicas, made from what an environment names and kept by the hash of what went into them.

An image is made least-changing part first: what the user's Dockerfile says, then the
environment, then our scoring server. Each is an image of its own under its own key, so
that another scoring server, or the same environment in another deployment, starts from
what is there. Code and models are mounted, and never in an image.

Locks, logs and notes are files, as they are for environments without containers. What
a killed build leaves in the engine is one container, labelled with the lock that it was
made under: where nobody holds that lock, it is removed by whoever comes next.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from docker import DockerClient
from docker.types import Mount

from modelport import engine, errors
from modelport.builds import environments, interpreters, pythons, recipes, shelves
from modelport.builds.base import Builder, Built, Wanted, is_offline
from modelport.builds.bases import Base, Bases
from modelport.builds.contexts import Context
from modelport.builds.diagnosis import failure
from modelport.builds.environments import Filling
from modelport.builds.layers import Layer
from modelport.builds.recipes import Recipe
from modelport.builds.records import Record, Records
from modelport.builds.scoring import ScoringPackage
from modelport.builds.shelves import Shelf
from modelport.builds.streams import Closers

Tell = Callable[[str], None]

PACKAGES = "modelport-packages"
"""The volume with uv's cache, which all builds share."""

_ANSWER_SECONDS = 1800.0  # the engine is silent while it commits gigabytes


class ImageBuilder:
    """
    Builds images in this machine's Docker; notes, locks and logs are files in `cache`.

    Args:
        cache: Folder of its own; what stands there in notes is what `prune` removes.
        scoring: The folder of the `modelport_scoring` package that is put into images.
        offline: Only what the packages' volume has can be installed, and nothing is pulled; so it is with
            MODELPORT_OFFLINE=1 too.
        pull: Ask the registry for images that are here too.
        prefixes: Makes environments on this machine, for images that lack what the conda file asks for.
        workspace: Label of the containers that build.
        packages: Name of the volume with uv's cache.
    """

    def __init__(
        self,
        cache: Path,
        *,
        scoring: Path | None = None,
        offline: bool = False,
        pull: bool = False,
        prefixes: Builder | None = None,
        workspace: str = "",
        packages: str = PACKAGES,
    ) -> None:
        self._records = Records(cache)
        self._shelf = Shelf(self._records, lambda: self._engine)
        self._scoring = ScoringPackage(scoring)
        self._offline = offline = offline or is_offline()
        self._prefixes = prefixes
        self._workspace = workspace
        self._packages = packages
        self._closed = False
        self._closers: Closers = set()
        self._connecting = threading.Lock()
        self._connection: DockerClient | None = None
        self._bases = Bases(
            self._records,
            self._shelf,
            self._closers,
            go_on=self._go_on,
            offline=offline,
            pull=pull,
        )

    def key(self, wanted: Wanted) -> str:
        """
        The name of what would be built: equal for those who ask for the same thing, as long as the image is the same.

        Raises:
            errors.ValidationException: As `check`.
        """
        self.check(wanted)
        image = self._bases.name(wanted)
        with suppress(errors.DockerEngineNotAvailableError):
            image = self._shelf.image(image) or image
        return self._key(wanted, image)

    def check(self, wanted: Wanted) -> tuple[str, ...]:
        """
        Sentences about what will be met in another way than asked for; quick, without the network and the engine.

        Raises:
            errors.ValidationException: The file is not a conda file, no image is named, or the Dockerfile is not there.
        """
        if wanted.context is not None:
            Context(folder=wanted.context, dockerfile=wanted.dockerfile).check()
        else:
            self._bases.name(wanted)
        requirements = recipes.read(wanted)
        if not (wanted.own_server or wanted.azure_server):
            pythons.minor(requirements.python)
        return requirements.warnings

    def build(self, wanted: Wanted, report: Tell) -> Built:
        """
        The image, made now or found; `report` gets the builders' lines as they come.

        A `report` that raises ends the build.

        Raises:
            errors.ValidationException: As `check`.
            errors.ImageBuildFailure: It could not be made; ends with the builder's last lines.
            errors.DockerEngineNotAvailableError: The engine does not answer.
        """
        warnings = self.check(wanted)
        try:
            base = self._bases.get(wanted, report)
            key = self._key(wanted, base.id)
            if wanted.own_server:
                record = Record(image=base.id, under=base.under, ours=False)
                self._records.put(key, record)
            else:
                record, more = self._served(key, wanted, base, report)
                warnings = tuple(dict.fromkeys([*warnings, *more]))
        except errors.ModelportError as error:
            if self._closed and not isinstance(error, errors.OperationCanceled):
                raise failure("it was given up, since Modelport ends.", [], what="Image") from error
            raise
        self._records.touch(key)
        return Built(key=key, python=record.python, image=record.image, warnings=warnings)

    def has(self, key: str) -> bool:
        """Whether what was built under `key` is there still; an engine that does not answer may have it."""
        record = self._records.get(key)
        try:
            return record is not None and self._shelf.image(record.image) is not None
        except errors.DockerEngineNotAvailableError:
            return True

    def close(self) -> None:
        """End the builds that run; they fail, and what they left is removed by the next one."""
        self._closed = True
        for end in list(self._closers):
            with suppress(errors.ModelportError):
                end()
        if self._prefixes is not None:
            self._prefixes.close()
        with self._connecting:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def prune(self, keep: Collection[str], max_bytes: int | None) -> list[str]:
        """
        Remove images until at most `max_bytes` are left, the longest unused first; None removes all.

        Those whose keys are in `keep`, those that are being built and those that a container uses stay, with what
        they were made from. Containers of builds that were cut off go in any case; with None, so do images of folders
        that are gone, and the volume of packages, unless a build uses it. Returns the keys, and names, removed.
        """
        self._shelf.sweep()
        removed = self._shelf.prune(keep, max_bytes)
        if max_bytes is None:
            removed += self._shelf.remove_strays()
            self._shelf.remove_volume(self._packages)
        return removed

    # Keys

    def _key(self, wanted: Wanted, image: str) -> str:
        requirements = recipes.read(wanted)
        ours = not (wanted.own_server or wanted.azure_server)
        packages = sorted(each.spec for each in requirements.packages)
        asked = None if wanted.conda is None else [requirements.python, requirements.lines, packages]
        ingredients = {
            "format": recipes.FORMAT,
            "image": image,
            "conda": None if wanted.own_server else asked,
            "channels": [each.url for each in requirements.channels] if packages else None,
            "tools": [] if wanted.own_server else sorted(wanted.tools),
            "server": "own" if wanted.own_server else "azure" if wanted.azure_server else "ours",
            "scoring": self._scoring.digest() if ours else None,
        }
        return recipes.hashed(ingredients)

    @property
    def _engine(self) -> DockerClient:
        with self._connecting:
            if self._connection is None:
                self._connection = engine.connect(timeout=_ANSWER_SECONDS)
            return self._connection

    # What is added to it

    def _served(self, key: str, wanted: Wanted, base: Base, report: Tell) -> tuple[Record, tuple[str, ...]]:
        """The image of `key`, and what is to be said about it."""
        recipe = recipes.recipe(
            wanted, self._asked(base.id, report), image=base.name, prefixes=self._prefixes is not None
        )
        if recipe.way == "as it is":
            assert recipe.python
            record = Record(image=base.id, python=recipe.python.path, under=base.under, ours=False)
            self._records.put(key, record)
            return record, recipe.warnings
        name = self._records.image_name("env", key)
        with self._records.locked(key, lambda: report("Waiting for another build of this image.")):
            record_there = self._shelf.found(key)
            if record_there:
                return record_there, recipe.warnings
            with self._records.told(key, report) as tell:
                environment, layer = self._environment(recipe, wanted, base, tell)
                under = (*base.under, layer)
                if wanted.azure_server or recipe.way == "prefix":
                    record = Record(image=environment.image, python=environment.python, under=under, ours=False)
                else:
                    image = self._with_scoring(key, name, base, environment, tell)
                    record = Record(
                        image=image, size_bytes=self._shelf.size_bytes(image), python=environment.python, under=under
                    )
            self._records.put(key, record)
        return record, recipe.warnings

    def _asked(self, image: str, report: Tell) -> interpreters.Found:
        """What the image has for making an environment; asked once."""
        about = f"about-{image.rpartition(':')[2][:20]}"
        noted = self._records.note(about)
        if noted is None:
            with self._records.locked(about, lambda: report("Waiting for another build that looks into the image.")):
                noted = self._records.note(about)
                if noted is None:
                    self._shelf.remove_builds(about)
                    self._go_on()
                    noted = interpreters.found_in(self._engine, image, self._build_labels(about))
                    self._records.put_note(about, noted)
        return interpreters.parsed(noted)

    def _environment(self, recipe: Recipe, wanted: Wanted, base: Base, tell: Tell) -> tuple[Record, str]:
        """The image with the environment, and its key."""
        outside = self._outside(recipe, wanted, tell)
        scoring = [] if wanted.azure_server else self._scoring.lines()
        key = recipes.hashed(
            {
                "format": recipes.FORMAT,
                "image": base.id,
                "way": recipe.way,
                "python": recipe.python and recipe.python.path,
                "asked": [recipe.requirements.python, recipe.requirements.pip, recipe.packages, sorted(wanted.tools)],
                "channels": wanted.conda.get("channels") if wanted.conda and recipe.way == "conda" else None,
                "clean": wanted.conda is not None,
                "scoring": scoring,
                "outside": outside and outside.key,
            }
        )
        name = self._records.image_name("layer", key)
        with self._records.locked(key, lambda: tell("Waiting for another build of this environment.")):
            record = self._shelf.found(key)
            if record is None:
                with (
                    environments.mounted(
                        recipe,
                        wanted,
                        scoring=self._scoring,
                        packages=self._volume(),
                        outside=outside,
                        work=self._records.folder,
                    ) as mounts,
                    self._layer(key, base.id, mounts) as layer,
                ):
                    filling = Filling(
                        layer=layer,
                        recipe=recipe,
                        wanted=wanted,
                        image=base.name,
                        scoring=scoring,
                        offline=self._offline,
                        tell=tell,
                    )
                    python = filling.make(outside)
                    self._go_on()
                    image = layer.commit(name, self._shelf.labels(key), [python], base.user)
                record = Record(image=image, size_bytes=self._shelf.size_bytes(image), python=python, under=base.under)
                self._records.put(key, record)
        return record, key

    def _with_scoring(self, key: str, name: str, base: Base, environment: Record, tell: Tell) -> str:
        """The id of the image with the environment and the scoring server."""
        with self._layer(key, environment.image, [environments.scoring_mounted(self._scoring)]) as layer:
            tell("Adding the scoring server.")
            environments.copy_scoring(layer, environment.python, tell)
            self._go_on()
            return layer.commit(
                name, self._shelf.labels(key), [environment.python, "-m", "modelport_scoring"], base.user
            )

    def _outside(self, recipe: Recipe, wanted: Wanted, tell: Tell) -> Built | None:
        if recipe.way != "prefix":
            return None
        assert self._prefixes
        return self._prefixes.build(Wanted(conda=wanted.conda, tools=wanted.tools), tell)

    def _volume(self) -> str:
        """The volume with the packages, which is there."""
        with engine.told("The volume of packages"):
            self._engine.api.create_volume(self._packages, labels={engine.KIND: "cache"})
        return self._packages

    # What goes on

    @contextmanager
    def _layer(self, key: str, image: str, mounts: Sequence[Mount]) -> Iterator[Layer]:
        """A container under the lock of `key`, which is removed in the end, or by `close`."""
        self._shelf.remove_builds(key)
        self._go_on()
        layer = Layer(self._engine, image, self._build_labels(key), mounts)
        self._closers.add(layer.remove)
        try:
            self._go_on()  # `close` may not have seen it
            yield layer
        finally:
            layer.remove()
            self._closers.discard(layer.remove)

    def _go_on(self) -> None:
        if self._closed:
            raise failure("it was given up, since Modelport ends.", [], what="Image")

    def _build_labels(self, key: str) -> dict[str, str]:
        """Labels of a container that works under the lock of `key`."""
        workspace = {engine.WORKSPACE: self._workspace} if self._workspace else {}
        return {engine.KIND: "build", shelves.LOCK: str(self._records.lock(key)), **workspace}
