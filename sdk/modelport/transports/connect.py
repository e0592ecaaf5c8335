"""Where a client says where, into a transport."""

from __future__ import annotations

import shlex
from pathlib import Path
from urllib.parse import quote, urlsplit

from attrs import evolve

from modelport.arm import faults, ids, versions
from modelport.arm.ids import LOCAL_WORKSPACE, RegistryId, WorkspaceId
from modelport.arm.messages import Request, Response
from modelport.errors import HttpResponseError, ServiceRequestError, ServiceRequestTimeoutError, ValidationException
from modelport.transports import launch
from modelport.transports.clouds import Cloud
from modelport.transports.options import Options
from modelport.transports.rest import RestTransport
from modelport.transports.tokens import Entra, Fixed, Policy, Signer, TokenCredential


def local(home: Path | None, backend: str | None) -> Background:
    """
    To the background server of a workspace on this machine, started when none runs.

    Args:
        home: The workspace's folder; None is the user's own for the backend.
        backend: What runs its replicas; None is what has run them before, at first processes.

    Raises:
        errors.LocalServerError: It could not be started.
        errors.DockerEngineNotAvailableError: It would need Docker's engine, which does not answer.
    """
    folder = (home or launch.home_folder(backend or "process")).expanduser().resolve()
    return Background(launch.find_or_start(folder, backend))


def server(url: str, token: str, options: Options | None = None) -> RestTransport:
    """
    To a Modelport server.

    Raises:
        errors.ValidationException: `url` is not an http or https URL.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise ValidationException(f"'{url}' is not an http or https URL.", target="url")
    return _Server(url, LOCAL_WORKSPACE, Fixed(lambda: token), options or Options())


def azure(
    credential: TokenCredential | None,
    workspace: tuple[str, str, str],
    cloud: Cloud | None = None,
    options: Options | None = None,
) -> _Azure:
    """
    To Azure.

    Args:
        credential: Whose tokens; None is azure-identity's `DefaultAzureCredential`.
        workspace: Its subscription, its resource group and its name.
        cloud: Which cloud; the public one when it is None.
        options: How to connect.
    """
    cloud, options = cloud or Cloud(), options or Options()
    tokens = Entra(credential, cloud)
    signer = Policy(options.authentication_policy, tokens) if options.authentication_policy else tokens
    return _Azure(cloud, WorkspaceId(*workspace), signer, options)


def azure_registry(
    credential: TokenCredential | None, name: str, cloud: Cloud | None = None, options: Options | None = None
) -> RestTransport:
    """
    To a registry in Azure, which is looked up; as for `azure` else.

    Raises:
        errors.ResourceNotFoundError: There is none of this name.
        errors.HttpResponseError: What the service says.
    """
    anywhere = azure(credential, ("", "", ""), cloud, options)
    try:
        return anywhere.registry(name)
    except BaseException:
        anywhere.close()
        raise


class _Server(RestTransport):
    """To a Modelport server."""

    def _to_docker(self) -> RestTransport:
        return local(None, "docker")


class _Azure(RestTransport):
    """To a workspace in Azure, or to a registry, whose address a service of Azure's knows."""

    def __init__(self, cloud: Cloud, workspace: WorkspaceId, signer: Signer, options: Options) -> None:
        super().__init__(cloud.base_url, workspace, signer, options, also=(cloud.resource_manager,))
        self._cloud = cloud

    def _to_docker(self) -> RestTransport:
        return local(None, "docker")

    def registry(self, name: str) -> RestTransport:
        """
        The registry, once it was found.

        Raises:
            errors.ResourceNotFoundError: There is none of this name.
            errors.HttpResponseError: What the service says.

        Source: azure-ai-ml 1.35.2: one address in each cloud knows all registries; it and they take tokens for the
        management API.
        """
        place = f"/registrymanagement/v1.0/registries/{quote(ids.checked(name), safe='')}/discovery"
        discovery = self.beside(self._cloud.registry_discovery_endpoint, self.workspace)
        answer = discovery.send(Request("GET", place, api_version=versions.DISCOVERY))
        said = faults.raise_for(answer, f"Looking for registry '{name}'").body
        try:
            where = RegistryId(str(said["subscriptionId"]), str(said["resourceGroup"]), name)
            front = f"{str(said['primaryRegionResourceProviderUri']).rstrip('/')}/mferp/managementfrontend"
        except (KeyError, TypeError) as error:
            message = f"Looking for registry '{name}': the answer does not say where it is."
            raise HttpResponseError(message, status_code=answer.status) from error
        return self.beside(front, where)


class Background(RestTransport):
    """To the background server, which may be another one, at another address, by the next request."""

    def __init__(self, server: launch.Server) -> None:
        super().__init__(server.url, LOCAL_WORKSPACE, Fixed(lambda: server.token), Options())
        self._home, self.backend = server.home, server.backend

    def _to_docker(self) -> RestTransport:
        return self if self.backend == "docker" else local(self._home / "docker", "docker")

    def _send(self, request: Request) -> Response:
        try:
            return super()._send(request)
        except ServiceRequestTimeoutError:
            raise
        except ServiceRequestError as error:
            found = launch.find(self._home)
            if found is None:
                up = shlex.join(["modelport", "up", "--home", str(self._home)])
                message = f"The background server of '{self._home}' is not up. Run `{up}`, then try again."
                raise ServiceRequestError(message) from error
            self._base_url = found.url  # what can be sent twice without harm is; the rest finds it the next time
            raise

    def _addressed(self, request: Request) -> Request:
        """URLs that an earlier server gave out are the present one's."""
        here = urlsplit(request.path)._replace(scheme="", netloc="")
        return super()._addressed(evolve(request, path=here.geturl()))
