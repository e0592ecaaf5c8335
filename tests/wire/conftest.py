"""A service at the transport's seam: it answers what was recorded, and remembers what it was sent."""

from copy import deepcopy

import pytest

from modelport.arm.ids import WorkspaceId
from modelport.arm.messages import Response
from modelport.client import MLClient


class RecordedService:
    """The workspace of the recordings: endpoints are there, `latest` is version 7, what is PUT can be read."""

    def __init__(self):
        self.workspace = WorkspaceId("00000000-0000-0000-0000-000000000000", "rg", "ws")
        self.sent = []
        self.kept = {}

    def send(self, request):
        assert request.path.startswith(str(self.workspace))
        place = request.path.removeprefix(str(self.workspace)).strip("/")
        if request.method == "PUT":
            self.sent.append((place, deepcopy(request.body)))
            self.kept[place] = self.answer(place, request.body)
            return Response(201, self.kept[place])
        assert request.method == "GET", f"{request.method} {place} was not recorded"
        if place in self.kept:
            return Response(200, self.kept[place])
        if not place:
            return Response(200, {"id": str(self.workspace), "name": "ws", "location": "westeurope"})
        kind, *steps = place.split("/")
        if kind == "onlineEndpoints":
            return Response(200, self.answer(place, {"location": "westeurope", "properties": {"authMode": "Key"}}))
        if steps[1:] == ["versions"] and request.query.get("$top") == "1":
            return Response(200, {"value": [self.answer(f"{place}/7", {"properties": {}})]})
        return Response(404, {"error": {"code": "ResourceNotFound", "message": place}})

    def answer(self, place, body):
        document = deepcopy(body)
        document.setdefault("properties", {})["provisioningState"] = "Succeeded"
        return {**document, "id": f"{self.workspace}/{place}", "name": place.rpartition("/")[2]}

    def close(self):
        pass


@pytest.fixture
def service():
    return RecordedService()


@pytest.fixture
def client(service):
    return MLClient._over(service)
