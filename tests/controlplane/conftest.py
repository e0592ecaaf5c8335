import pytest

from modelport.arm.messages import Request


class Wire:
    """A control plane, asked as over the wire."""

    def __init__(self, transport):
        self._transport = transport
        self.workspace = str(transport.workspace)

    def ask(self, method, place, body=None, *, query=None, headers=None, content=None):
        path = place if place.startswith("/") else f"{self.workspace}/{place}".rstrip("/")
        request = Request(method, path, query=query or {}, headers=headers or {}, body=body, content=content)
        return self._transport.send(request)

    def get(self, place, **said):
        return self.ask("GET", place, **said)

    def put(self, place, body, **said):
        return self.ask("PUT", place, body, **said)

    def settled(self, place, until):
        """The resource when no operation is at it any more."""
        ended = {"Succeeded", "Failed", "Canceled"}
        until(lambda: self.get(place).body["properties"]["provisioningState"] in ended)
        return self.get(place).body


@pytest.fixture
def wire_of():
    """A client's control plane as a `Wire`."""
    return lambda client: Wire(client._service.transport)


@pytest.fixture
def wire(ml_client, wire_of):
    return wire_of(ml_client)


@pytest.fixture
def endpoint_body():
    """What a client sends to make an endpoint."""
    return {"location": "local", "tags": {}, "properties": {"authMode": "Key"}}
