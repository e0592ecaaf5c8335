"""
Scoring requests over HTTP.

A POST is sent once and never again: a model that ran twice is worse than an error.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping

import requests
from attrs import frozen

from modelport.errors import ServiceRequestError, ServiceRequestTimeoutError
from modelport.transports.rest import pooled_session, reason


@frozen
class Answer:
    """What came back. `seconds` is the time from sending to the last byte."""

    status: int
    content: bytes
    headers: Mapping[str, str]
    """Names in lower case."""
    encoding: str
    seconds: float


class Scorer:
    """One pool of connections for all endpoints of a client. Threads may share it."""

    def __init__(self) -> None:
        self._session = pooled_session()

    def post(self, url: str, content: bytes, headers: Mapping[str, str], timeout: float | None) -> Answer:
        """
        The answer to one scoring request, whatever its status.

        Args:
            url: The endpoint's scoring URI.
            content: The body.
            headers: Sent with it; a request id is added.
            timeout: Seconds without a byte after which the answer is given up; None waits as long as the endpoint does.

        Raises:
            errors.ServiceRequestError: No answer came.
        """
        said = {"x-ms-client-request-id": str(uuid.uuid4()), **headers}
        try:
            answer = self._session.post(url, data=content, headers=said, timeout=timeout, allow_redirects=False)
        except requests.Timeout as error:
            raise ServiceRequestTimeoutError(f"{url} did not answer within {timeout:g} s.") from error
        except requests.RequestException as error:
            raise ServiceRequestError(f"{url} could not be reached: {reason(error)}.") from error
        names = {name.lower(): value for name, value in answer.headers.items()}
        encoding = answer.encoding or "utf-8"
        return Answer(answer.status_code, answer.content, names, encoding, answer.elapsed.total_seconds())

    def close(self) -> None:
        """Close the connections."""
        self._session.close()
