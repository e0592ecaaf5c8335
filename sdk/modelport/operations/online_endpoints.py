"""`ml_client.online_endpoints`."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from math import inf
from typing import Any, Literal, overload

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
    ScoringError,
    ServiceRequestError,
    ServiceRequestTimeoutError,
    ValidationException,
)
from modelport.operations import local as in_docker
from modelport.operations import scoring
from modelport.operations.base import Service, must_be
from modelport.operations.doors import Door, Doors
from modelport.operations.poller import LROPoller
from modelport.operations.references import resolved_endpoint
from modelport.schema import faces
from modelport.schema.faces import Face
from modelport.transports.rest import pooled_session
from modelport.transports.scoring import Answer, Opened, Scorer

Keys = EndpointAuthKeys | EndpointAuthToken | EndpointAadToken
_SPARE = 300
"""Seconds before its end at which a Microsoft Entra token is no longer used."""


class OnlineEndpointOperations:
    """Create, read, change, call and delete online endpoints. Threads may share it."""

    def __init__(self, service: Service) -> None:
        self._service = service.speaking(versions.ENDPOINTS)
        self._scorer: Scorer | None = None
        self._doors = Doors(self._door, self._deployments)
        self._lock = threading.Lock()
        self._in_docker: OnlineEndpointOperations | None = None

    def list(self, *, local: bool = False) -> Iterator[OnlineEndpoint]:
        """All endpoints of the workspace, oldest first; with `local`, of this machine's Docker."""
        if local:
            return self._docker().list()
        return self._service.list(OnlineEndpoint, "onlineEndpoints")

    def get(self, name: str, *, local: bool = False) -> OnlineEndpoint:
        """
        An endpoint; its `traffic` names deployments without traffic too, with 0.

        Raises:
            errors.ResourceNotFoundError: There is none.
        """
        if local:
            with in_docker.found():
                return self._docker().get(name)
        endpoint = self._service.get(OnlineEndpoint, f"onlineEndpoints/{name}")
        names = self._deployments(name)
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

    def begin_create_or_update(
        self,
        endpoint: OnlineEndpoint,
        *,
        local: bool = False,
        if_match: str | None = None,
        continuation_token: str | None = None,
    ) -> LROPoller[OnlineEndpoint]:
        """
        Create an endpoint, or replace one.

        `traffic` and `mirror_traffic` that are None stay as they are; `{}` clears them.

        Args:
            endpoint: What is wanted, whole.
            local: In this machine's Docker; it returns when all is done.
            if_match: The `etag` of the endpoint that this one was made from: nobody else's change is lost.
            continuation_token: Of a poller: nothing is sent, the operation that it followed is followed.

        Raises:
            errors.ValidationException: It is not valid; nothing was sent.
            errors.OperationInProgress: Another operation on it has not ended.
        """
        if local:
            return in_docker.done(self._docker().begin_create_or_update(endpoint, if_match=if_match))
        if continuation_token:
            return self._service.resume(continuation_token, OnlineEndpoint)
        must_be(OnlineEndpoint, endpoint, "online_endpoints.begin_create_or_update()")
        endpoint.validate()
        sent = resolved_endpoint(self._service, endpoint)
        return self._service.begin_put(sent, f"Endpoint '{endpoint.name}'", if_match=if_match)

    def begin_delete(
        self, name: str | None = None, *, local: bool = False, continuation_token: str | None = None
    ) -> LROPoller[None]:
        """
        Delete an endpoint with all its deployments. One that is not there is fine.

        Args:
            name: Which.
            local: In this machine's Docker; it returns when all is done.
            continuation_token: Of a poller: nothing is sent, the operation that it followed is followed.

        Raises:
            errors.ValidationException: No name was given, which Azure's signature allows.
        """
        if continuation_token:
            return self._service.resume(continuation_token)
        if not name:
            raise ValidationException("begin_delete() deletes no endpoint without its name: give one.", target="name")
        if local:
            return in_docker.done(self._docker().begin_delete(name))
        self._doors.forget(name.lower())
        return self._service.begin("DELETE", f"onlineEndpoints/{name}", f"Endpoint '{name}'")

    def begin_regenerate_keys(
        self, name: str, *, key_type: str = "primary", continuation_token: str | None = None
    ) -> LROPoller[None]:
        """
        Replace one of an endpoint's two keys; the other one goes on to open it.

        Args:
            name: Whose.
            key_type: `primary` or `secondary`.
            continuation_token: Of a poller: nothing is sent, the operation that it followed is followed.

        Raises:
            errors.ValidationException: The endpoint uses tokens, or `key_type` is neither.
        """
        if continuation_token:
            return self._service.resume(continuation_token)
        kind = str(key_type).lower()
        if kind not in ("primary", "secondary"):
            raise ValidationException("Key type must be 'primary' or 'secondary'.", target="key_type")
        endpoint = self._service.get(OnlineEndpoint, f"onlineEndpoints/{name}")
        keys = self._keys(endpoint) if endpoint.auth_mode == "key" else None
        if not isinstance(keys, EndpointAuthKeys):
            raise ValidationException(f"Endpoint '{name}' does not use keys for authentication.", target="auth_mode")
        body = {"keyType": kind.capitalize(), "keyValue": getattr(keys, f"{kind}_key")}
        self._doors.forget(name.lower())
        place = f"onlineEndpoints/{name}/regenerateKeys"
        return self._service.begin("POST", place, f"Keys of '{name}'", body=body)

    @overload
    def invoke(
        self,
        endpoint_name: str,
        *,
        request_file: str | os.PathLike[str] | None = ...,
        deployment_name: str | None = ...,
        input_data: Any = ...,
        params_override: Any = ...,
        local: bool = ...,
        headers: Mapping[str, str] | None = ...,
        content_type: str | None = ...,
        files: Any = ...,
        stream: Literal[False] = ...,
        timeout: float | None = ...,
    ) -> scoring.Result: ...

    @overload
    def invoke(
        self,
        endpoint_name: str,
        *,
        request_file: str | os.PathLike[str] | None = ...,
        deployment_name: str | None = ...,
        input_data: Any = ...,
        params_override: Any = ...,
        local: bool = ...,
        headers: Mapping[str, str] | None = ...,
        content_type: str | None = ...,
        files: Any = ...,
        stream: Literal[True],
        timeout: float | None = ...,
    ) -> scoring.Stream: ...

    def invoke(
        self,
        endpoint_name: str,
        *,
        request_file: str | os.PathLike[str] | None = None,
        deployment_name: str | None = None,
        input_data: Any = None,
        params_override: Any = None,
        local: bool = False,
        headers: Mapping[str, str] | None = None,
        content_type: str | None = None,
        files: Any = None,
        stream: bool = False,
        timeout: float | None = None,
    ) -> scoring.Result | scoring.Stream:
        """
        Send one request to an endpoint. Threads may do so at once.

        Args:
            endpoint_name: The endpoint.
            request_file: File whose content is the body; a large one is sent from the disk.
            deployment_name: The deployment that must answer; None leaves it to the traffic rules.
            input_data: The body itself: bytes or text as they are, an open binary file or an iterator of bytes piece
                by piece, a data frame or anything that JSON can say. With `files`, the form's other fields.
            params_override: Taken for Azure's sake; it has no meaning for online endpoints.
            local: To an endpoint in this machine's Docker. Without traffic rules, its only deployment answers.
            headers: Sent with this request only.
            content_type: Of the body. By default what the file's name says, `application/octet-stream` for bytes and
                pieces, else `application/json`.
            files: Files of a form, as for `requests`: `{"image": open("tide.png", "rb")}`; sent as multipart/form-data.
            stream: Return as soon as the answer begins.
            timeout: Seconds to connect, and seconds without a byte, after which the answer is given up. By default as
                long as an endpoint may take.

        Returns:
            The answer's text, with `json()`, `content`, `status_code`, `headers`, `deployment`, `latency_ms` and
            `request_id`. With `stream`, an iterator of bytes, with the same and `lines()`, to be closed.

        Raises:
            errors.ValidationException: Not just one body, one that cannot be sent, or no such deployment.
            errors.ResourceNotFoundError: There is no such endpoint.
            errors.ScoringError: The answer was an error; it has the status and the body. It is never sent twice.
            errors.ServiceRequestError: No answer came.
        """
        del params_override
        if local:
            with in_docker.found():
                how: dict[str, Any] = {
                    "request_file": request_file,
                    "input_data": input_data,
                    "headers": headers,
                    "timeout": timeout,
                }
                how |= {"content_type": content_type, "files": files}
                return self._docker()._invoke_local(endpoint_name, deployment_name, stream, how)  # noqa: SLF001
        if timeout is not None and not (isinstance(timeout, (int, float)) and timeout > 0):
            raise ValidationException(f"timeout is {timeout!r}: give it seconds, more than 0.", target="timeout")
        body = scoring.body(request_file, input_data, content_type, files)
        said = {"Content-Type": body.kind} if content_type or not _names_type(headers) else {}
        said = {**(headers or {}), **said}
        if deployment_name:
            said[scoring.DEPLOYMENT] = deployment_name = deployment_name.lower()
        answer = self._call(endpoint_name.lower(), body, said, timeout, deployment_name, stream)
        if isinstance(answer, Opened):
            return scoring.streamed(answer, endpoint_name, deployment_name, body)
        return scoring.result(answer, endpoint_name, deployment_name, body)

    def _docker(self) -> OnlineEndpointOperations:
        """These operations in this machine's Docker."""
        with self._lock:
            if self._in_docker is None:
                docker = self._service.docker()
                self._in_docker = self if docker is self._service else OnlineEndpointOperations(docker)
            return self._in_docker

    def _invoke_local(
        self, name: str, deployment: str | None, stream: bool, how: Mapping[str, Any]
    ) -> scoring.Result | scoring.Stream:
        """As `invoke`; without traffic rules, the only deployment answers, as Azure's local endpoints do."""
        if not deployment:
            endpoint = self._service.get(OnlineEndpoint, f"onlineEndpoints/{name.lower()}")
            if not any((endpoint.traffic or {}).values()):
                deployment = in_docker.only_deployment(self._service, endpoint)
                if deployment is None:
                    return scoring.told(in_docker.NO_DEPLOYMENTS)
        asked: scoring.Result | scoring.Stream = self.invoke(name, deployment_name=deployment, stream=stream, **how)  # type: ignore[call-overload]
        return asked

    def _call(
        self,
        name: str,
        body: scoring.Body,
        headers: Mapping[str, str],
        timeout: float | None,
        deployment: str | None,
        stream: bool,
    ) -> Answer | Opened:
        """Send by what is known of the endpoint; by what it is now when the gateway refused that."""
        if deployment:
            self._doors.must_have(name, deployment)
        known = self._doors.knows(name)
        door = self._doors.door(name)
        answer = self._send(name, door, body, headers, timeout, stream)
        if not known or not scoring.by_gateway(answer.status, answer.headers):
            return answer
        if isinstance(answer, Opened):
            answer = answer.whole()
        now = self._doors.door(name, instead_of=door)
        if deployment:
            self._doors.must_have(name, deployment, look=True)
        if now == door:
            return answer
        if not body.again:
            error = scoring.refusal(answer, name, deployment, body)
            raise ScoringError(
                f"{error.message}\nIts key had been replaced. The new one is known now, but what an iterator gave "
                "cannot be sent twice: call again with a new one.",
                status_code=error.status_code,
                body=error.body,
                headers=error.headers,
                deployment=error.deployment,
                request_id=error.request_id,
            )
        return self._send(name, now, body, headers, timeout, stream)

    def _send(
        self, name: str, door: Door, body: scoring.Body, headers: Mapping[str, str], timeout: float | None, stream: bool
    ) -> Answer | Opened:
        said = {**headers, "Authorization": f"Bearer {door.key}"}
        post = self._scores().open if stream else self._scores().post
        try:
            return post(door.uri, body.content, said, timeout)
        except ServiceRequestTimeoutError:
            raise
        except ServiceRequestError:
            self._doors.forget(name)
            raise

    def _scores(self) -> Scorer:
        with self._lock:
            if self._scorer is None:
                self._scorer = Scorer(pooled_session(self._service.transport.options))
            return self._scorer

    def _deployments(self, name: str) -> tuple[str, ...]:
        place = f"onlineEndpoints/{name}/deployments"
        return tuple(each.name for each in self._service.list(OnlineDeployment, place))

    def _door(self, name: str) -> Door:
        endpoint = self._service.get(OnlineEndpoint, f"onlineEndpoints/{name}")
        if not endpoint.scoring_uri:
            raise ScoringError(f"Endpoint '{name}' has no scoring URI yet: its state is {endpoint.provisioning_state}.")
        keys = self._keys(endpoint)
        if isinstance(keys, EndpointAuthKeys):
            return Door(endpoint.scoring_uri, keys.primary_key or "")
        if isinstance(keys, EndpointAuthToken):
            until = keys.refresh_after_time_utc or keys.expiry_time_utc or inf
        else:
            until = (keys.expiry_time_utc or inf) - _SPARE
        return Door(endpoint.scoring_uri, keys.access_token or "", until - time.time())

    def _keys(self, endpoint: OnlineEndpoint) -> Keys:
        place = f"onlineEndpoints/{endpoint.name}"
        if endpoint.auth_mode == "key":
            return faces.load(EndpointAuthKeys, self._service.ask("POST", f"{place}/listKeys").body, Face.RECORD)
        if endpoint.auth_mode == "aml_token":
            return faces.load(EndpointAuthToken, self._service.ask("POST", f"{place}/token").body, Face.RECORD)
        token = self._service.transport.scoring_token()
        return EndpointAadToken(access_token=token.token, expiry_time_utc=token.expires_on)


def _names_type(headers: Mapping[str, str] | None) -> bool:
    return any(name.lower() == "content-type" for name in headers or {})
