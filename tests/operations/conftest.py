import pytest

from modelport.client import MLClient


@pytest.fixture
def wire_client(live):
    """Another client of the workspace of `live`, which knows nothing of the first."""
    return MLClient._over(live._service.transport)


@pytest.fixture
def wire_client_of():
    """Makes another client of the workspace of a client."""
    return lambda client: MLClient._over(client._service.transport)
