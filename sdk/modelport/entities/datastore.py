"""Datastores: the storages that a workspace keeps files in. They are read, never made."""

from typing import Any

import attrs

from modelport.entities.base import Entity, Variants, field


@attrs.define(kw_only=True)
class Datastore(Entity):
    """A storage that the workspace knows."""

    home = "properties"
    place = "datastores/{name}"
    variants = Variants(file="type", wire="datastoreType", default="azure_blob")

    name: str | None = field(identity=True)
    """Its name."""

    description: str | None = field()
    """Free text."""

    tags: dict[str, Any] | None = field()
    """Labels."""

    properties: dict[str, Any] | None = field()
    """Labels that Azure never lets one remove."""

    account_name: str | None = field()
    """The storage account."""

    endpoint: str | None = field()
    """What follows on the account's name and the kind of storage in its host's name, `core.windows.net`."""

    protocol: str | None = field()
    """`https`."""

    is_default: bool | None = field(owned=True, file=False)
    """Whether files are put there when nobody says where."""

    credentials: dict[str, Any] | None = field(file=False, show=False)
    """`{"credentialsType"}`: how it lets in; never a secret."""

    id: str | None = field(wire="/id", owned=True, file=False, eq=False)
    """ARM id."""

    system_data: dict[str, Any] | None = field(wire="/systemData", owned=True, file=False, eq=False, show=False)
    """Who made it and changed it last, and when, as the service says."""

    @property
    def type(self) -> str:
        """Which kind of storage, as files say it."""
        return self.variant[0] if self.variant else ""


@attrs.define(kw_only=True)
class AzureBlobDatastore(Datastore):
    """A container of blobs."""

    variant = ("azure_blob", "AzureBlob")

    container_name: str | None = field()
    """The container."""


@attrs.define(kw_only=True)
class AzureFileDatastore(Datastore):
    """A share of files."""

    variant = ("azure_file", "AzureFile")

    file_share_name: str | None = field()
    """The share."""


@attrs.define(kw_only=True)
class AzureDataLakeGen2Datastore(Datastore):
    """A file system of a data lake."""

    variant = ("azure_data_lake_gen2", "AzureDataLakeGen2")

    filesystem: str | None = field()
    """The file system."""


@attrs.define(kw_only=True)
class AzureDataLakeGen1Datastore(Datastore):
    """A data lake of the first generation."""

    variant = ("azure_data_lake_gen1", "AzureDataLakeGen1")

    store_name: str | None = field()
    """The lake."""
