"""`ml_client.online_endpoints`."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from attrs import frozen

from modelport.arm import versions
from modelport.entities import (
    EndpointAadToken,
    EndpointAuthKeys,
    EndpointAuthToken,
    OnlineDeployment,
    OnlineEndpoint,
)
from modelport.entities.base import changed
from modelport.errors import (
    ClientAuthenticationError,
    ResourceNotFoundError,
    ScoringError,
    ServiceRequestError,
    ValidationException,
)
from modelport.operations import scoring
from modelport.operations.base import Service, must_be, refuse_local
from modelport.operations.poller import LROPoller
from modelport.operations.references import resolved_endpoint
from modelport.schema import faces
from modelport.schema.faces import Face
from modelport.transports.scoring import Answer, Scorer

Keys = EndpointAuthKeys | EndpointAuthToken | EndpointAadToken
_REFUSED = frozenset({ClientAuthenticationError.status, ResourceNotFoundError.status})
"""What the gateway says to an old key, and of an endpoint that is gone; both before a model sees anything."""

_AAD_SCOPE = "https://ml.azure.com/.default"


@frozen
class _Door:
    """How to call an endpoint: found once, and again when it no longer opens."""

    uri: str
    key: str


class OnlineEndpointOperations:
    """Create, read, change, call and delete online endpoints. Threads may share it."""

    def __init__(self, service: Service, credential: Any = None) -> None:
        self._service, self._credential = service.speaking(versions.ENDPOINTS), credential
        self._scorer: Scorer | None = None
        self._doors: dict[str, _Door] = {}
        self._lock = threading.Lock()

    def list(self, *, local: bool = False) -> Iterator[OnlineEndpoint]:
        """All endpoints of the workspace, oldest first."""
        refuse_local(local)
        return self._service.list(OnlineEndpoint, "onlineEndpoints")

    def get(self, name: str, *, local: bool = False) -> OnlineEndpoint:
        """
        An endpoint; its `traffic` names deployments without traffic too, with 0.

        Raises:
            errors.ResourceNotFoundError: There is none.
        """
        refuse_local(local)
        endpoint = self._service.get(OnlineEndpoint, f"onlineEndpoints/{name}")
        names = [each.name for each in self._service.list(OnlineDeployment, f"onlineEndpoints/{name}/deployments")]
        return changed(endpoint, traffic={**dict.fromkeys(names, 0), **(endpoint.traffic or {})})

    def get_keys(self, name: str) -> Keys:
        """
        What opens an endpoint: its keys, or a token, as its `auth_mode` says.

        Raises:
            errors.ResourceNotFoundError: There is no such endpoint.
            errors.ClientAuthenticationError: It wants a Microsoft Entra token and the client has no credential.
        """
        endpoint = self._service.get(OnlineEndpoint, f"onlineEndpoints/{name}")
        return self._keys(endpoint)

    def begin_create_or_update(self, endpoint: OnlineEndpoint, *, local: bool = False) -> LROPoller[OnlineEndpoint]:
        """
        Create an endpoint, or replace one.

        `traffic` and `mirror_traffic` that are None stay as they are; `{}` clears them.

        Raises:
            errors.ValidationException: It is not valid; nothing was sent.
            errors.OperationInProgress: Another operation on it has not ended.
        """
        refuse_local(local)
        must_be(OnlineEndpoint, endpoint, "online_endpoints.begin_create_or_update()")
        endpoint.validate()
        sent = resolved_endpoint(self._service, endpoint)
        return self._service.begin_put(sent, f"Endpoint '{endpoint.name}'")

    def begin_delete(self, name: str, *, local: bool = False) -> LROPoller[None]:
        """Delete an endpoint with all its deployments. One that is not there is fine."""
        refuse_local(local)
        self._doors.pop(name.lower(), None)
        return self._service.begin("DELETE", f"onlineEndpoints/{name}", f"Endpoint '{name}'")

    def begin_regenerate_keys(
        self, name: str, *, key_type: Literal["primary", "secondary"] = "primary"
    ) -> LROPoller[None]:
        """
        Replace one of an endpoint's two keys; the other one goes on to open it.

        Raises:
            errors.ValidationException: The endpoint uses tokens, or `key_type` is neither.
        """
        kind = str(key_type).lower()
        if kind not in ("primary", "secondary"):
            raise ValidationException("Key type must be 'primary' or 'secondary'.", target="key_type")
        keys = self.get_keys(name)
        if not isinstance(keys, EndpointAuthKeys):
            raise ValidationException(f"Endpoint '{name}' does not use keys for authentication.", target="auth_mode")
        body = {"keyType": kind.capitalize(), "keyValue": getattr(keys, f"{kind}_key")}
        self._doors.pop(name.lower(), None)
        place = f"onlineEndpoints/{name}/regenerateKeys"
        return self._service.begin("POST", place, f"Keys of '{name}'", body=body)

    def invoke(
        self,
        endpoint_name: str,
        *,
        request_file: str | os.PathLike[str] | None = None,
        deployment_name: str | None = None,
        input_data: Any = None,
        params_override: Any = None,  # noqa: ARG002 (Azure's signature)
        local: bool = False,
        headers: Mapping[str, str] | None = None,
        content_type: str | None = None,
        timeout: float | None = None,
    ) -> scoring.Result:
        """
        Send one request to an endpoint.

        Args:
            endpoint_name: The endpoint.
            request_file: File whose content is the body.
            deployment_name: The deployment that must answer; None leaves it to the traffic rules.
            input_data: The body itself: bytes or text as they are, a data frame or anything that JSON can say.
            params_override: Taken for Azure's sake; it has no meaning for online endpoints.
            local: This machine's Docker.
            headers: Sent with this request only.
            content_type: Of the body; `application/json` when nothing is said, `application/octet-stream` for bytes.
            timeout: Seconds without a byte after which the answer is given up.

        Returns:
            The answer's text, with `json()`, `status_code`, `headers`, `deployment`, `latency_ms` and `request_id`.

        Raises:
            errors.ValidationException: Neither or both of `request_file` and `input_data`, or an unreadable file.
            errors.ResourceNotFoundError: There is no such endpoint.
            errors.ScoringError: The answer was an error; it has the status and the body. It is never sent twice.
            errors.ServiceRequestError: No answer came.
        """
        refuse_local(local)
        content, kind = scoring.body(request_file, input_data, content_type)
        said = {**(headers or {}), "Content-Type": kind}
        if deployment_name:
            said[scoring.DEPLOYMENT] = deployment_name
        answer = self._post(endpoint_name.lower(), content, said, timeout)
        return scoring.result(answer, endpoint_name, deployment_name)

    def _post(self, name: str, content: bytes, headers: Mapping[str, str], timeout: float | None) -> Answer:
        """Post by what is known of the endpoint; by what it is now when the gateway refused that."""
        known = self._doors.get(name)
        door = known or self._door(name)
        try:
            answer = self._send(door, content, headers, timeout)
        except ServiceRequestError:
            self._doors.pop(name, None)
            raise
        refused = answer.status in _REFUSED and scoring.DEPLOYMENT not in answer.headers
        return self._send(self._door(name), content, headers, timeout) if known and refused else answer

    def _send(self, door: _Door, content: bytes, headers: Mapping[str, str], timeout: float | None) -> Answer:
        with self._lock:
            self._scorer = self._scorer or Scorer()
        return self._scorer.post(door.uri, content, {**headers, "Authorization": f"Bearer {door.key}"}, timeout)

    def _door(self, name: str) -> _Door:
        endpoint = self._service.get(OnlineEndpoint, f"onlineEndpoints/{name}")
        if not endpoint.scoring_uri:
            raise ScoringError(f"Endpoint '{name}' has no scoring URI yet: its state is {endpoint.provisioning_state}.")
        keys = self._keys(endpoint)
        key = keys.primary_key if isinstance(keys, EndpointAuthKeys) else keys.access_token
        door = self._doors[name] = _Door(endpoint.scoring_uri, key or "")
        return door

    def _keys(self, endpoint: OnlineEndpoint) -> Keys:
        place = f"onlineEndpoints/{endpoint.name}"
        if endpoint.auth_mode == "key":
            return faces.load(EndpointAuthKeys, self._service.ask("POST", f"{place}/listKeys").body, Face.RECORD)
        if endpoint.auth_mode == "aml_token":
            return faces.load(EndpointAuthToken, self._service.ask("POST", f"{place}/token").body, Face.RECORD)
        if self._credential is None:
            raise ClientAuthenticationError(
                f"Endpoint '{endpoint.name}' wants a Microsoft Entra token: make the MLClient with a credential."
            )
        token = self._credential.get_token(_AAD_SCOPE)
        return EndpointAadToken(access_token=token.token, expiry_time_utc=token.expires_on)
