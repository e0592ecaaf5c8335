"""How entities look: `repr`, and HTML in notebooks."""

import copy
import pickle
from html.parser import HTMLParser

import pytest

from modelport import entities
from modelport.entities import (
    CodeConfiguration,
    DataCollector,
    DeploymentCollection,
    EndpointAadToken,
    EndpointAuthKeys,
    EndpointAuthToken,
    Environment,
    KubernetesOnlineEndpoint,
    ManagedOnlineDeployment,
    ManagedOnlineEndpoint,
    Model,
    OnlineRequestSettings,
    ProbeSettings,
)
from modelport.schema import faces
from modelport.schema.faces import Face

EVIL = "<script>alert('x')</script>\"&"
SECRETS = [
    EndpointAuthKeys(primary_key="s3cret", secondary_key="s3cret2"),
    EndpointAuthToken(access_token="s3cret", expiry_time_utc=1),
    EndpointAadToken(access_token="s3cret", expiry_time_utc=1),
    ManagedOnlineDeployment(name="blue", environment_variables={"API_KEY": "s3cret"}),
]


class Reader(HTMLParser):
    """The tags, the links and the words of a page; every tag is closed by the next of its name."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.links, self.words = [], set(), [], ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)
        self.tags.add(tag)
        self.links += [value for name, value in attributes if name == "href"]
        assert not [name for name, _ in attributes if name.startswith("on")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data + "\n"


def deployment(**values):
    return ManagedOnlineDeployment(**{"name": "blue", "endpoint_name": "tides", **values})


def test_repr_shows_what_was_said_and_nothing_else():
    assert repr(ManagedOnlineEndpoint(name="tides")) == "ManagedOnlineEndpoint(name='tides')"
    assert repr(OnlineRequestSettings(request_timeout_ms=0 + 5)) == "OnlineRequestSettings(request_timeout_ms=5)"
    assert repr(ProbeSettings()) == "ProbeSettings()"


def test_a_long_repr_has_a_line_for_each_field_and_is_python():
    blue = deployment(
        code_configuration=CodeConfiguration("src", "score.py"),
        model=Model(name="net", path="a/rather/long/path", description="line\nbreak", tags={"a": "b" * 40}),
        instance_count=0,
    )
    assert repr(blue) == (
        "ManagedOnlineDeployment(\n"
        "    name='blue',\n"
        "    endpoint_name='tides',\n"
        "    model=Model(\n"
        "        name='net',\n"
        "        description='line\\nbreak',\n"
        "        path='a/rather/long/path',\n"
        f"        tags={{'a': '{'b' * 40}'}},\n"
        "    ),\n"
        "    code_configuration=CodeConfiguration(code='src', scoring_script='score.py'),\n"
        "    instance_count=0,\n"
        ")"
    )
    assert eval(repr(blue), vars(entities)) == blue


@pytest.mark.parametrize("secret", SECRETS, ids=lambda each: type(each).__name__)
def test_secrets_are_nowhere_shown(secret):
    for text in (repr(secret), str(secret), f"{[secret]}", secret._repr_html_()):
        assert "s3cret" not in text
    assert "'***'" in repr(secret)


def test_an_endpoint_shows_its_state_traffic_address_and_access():
    page = Reader(
        ManagedOnlineEndpoint(
            name="tides",
            traffic={"blue": 90, "green": 10, "red": 0},
            mirror_traffic={"red": 5},
            scoring_uri="https://tides.test/score",
            provisioning_state="Succeeded",
            tags={"team": "harbour"},
        )._repr_html_()
    )
    for words in ("tides", "Succeeded", "blue 90%, green 10%, red 0%", "red 5%", "key", "team=harbour"):
        assert words in page.words
    assert page.links == ["https://tides.test/score"]


def test_a_deployment_shows_its_state_instances_model_and_environment():
    page = Reader(
        deployment(
            provisioning_state="Failed",
            instance_count=2,
            instance_type="Standard_DS3_v2",
            model=Model(name="net", version="3", path="model"),
            environment="azureml:torch:1",
            environment_variables={"API_KEY": "s3cret"},
            code_configuration=CodeConfiguration("src", "score.py"),
        )._repr_html_()
    )
    for words in ("Failed", "tides", "2", "Standard_DS3_v2", "net:3", "azureml:torch:1", "API_KEY", "src · score.py"):
        assert words in page.words
    assert "s3cret" not in page.words


def test_other_entities_show_what_was_said():
    page = Reader(Environment(name="torch", version="2", image="img", conda_file={"channels": ["x"]})._repr_html_())
    for words in ("Environment", "torch:2", "img", "channels"):
        assert words in page.words


def everywhere(text):
    """Records of each kind with `text` wherever a service could have put it."""
    endpoint = {"name": "x", "id": f"/onlineEndpoints/{text}", "tags": {text: text}, "kind": text}
    endpoint["properties"] = {
        "authMode": text,
        "description": text,
        "traffic": {text: 100},
        "mirrorTraffic": {text: 10},
        "scoringUri": f"javascript:{text}",
        "provisioningState": text,
    }
    yield faces.load(entities.OnlineEndpoint, endpoint, Face.RECORD)
    properties = {"model": text, "environmentId": text, "instanceType": text, "provisioningState": text}
    properties |= {"environmentVariables": {text: text}, "codeConfiguration": {"codeId": text, "scoringScript": text}}
    blue = {"id": f"/onlineEndpoints/{text}/deployments/{text}", "tags": {text: text}, "properties": properties}
    yield faces.load(entities.OnlineDeployment, blue, Face.RECORD)
    yield deployment(model=Model(name=text, path=text), environment=Environment(name=text, image=text))
    yield Model(name=text, path=text, tags={text: text})
    yield DataCollector(collections={text: DeploymentCollection(enabled=True)})


@pytest.mark.parametrize("entity", list(everywhere(EVIL)), ids=lambda each: type(each).__name__)
def test_nothing_that_is_said_becomes_html(entity):
    page = entity._repr_html_()
    assert "<script" not in page
    read = Reader(page)
    assert "script" not in read.tags
    assert not [link for link in read.links if not link.startswith(("http://", "https://"))]


def test_odd_traffic_is_shown_and_not_drawn():
    endpoint = KubernetesOnlineEndpoint(name="tides", traffic={"blue": "most", "green": None, "red": -5})
    assert "blue most%, green None%, red -5%" in Reader(endpoint._repr_html_()).words


FULL = deployment(
    model=Model(path="x"),
    environment=Environment(image="i", conda_file={"a": [1]}),
    request_settings=OnlineRequestSettings(1),
    data_collector=DataCollector(collections={"request": DeploymentCollection(enabled="true")}),
    tags={"a": {"b": 1}},
    provisioning_state="Succeeded",
)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
def test_entities_are_copied_and_pickled_whole(copied):
    FULL._unknown = {"properties": {"news": [1]}}
    other = copied(FULL)
    assert (other, other._unknown, other.provisioning_state) == (FULL, FULL._unknown, "Succeeded")
    assert repr(other) == repr(FULL)
    if copied is not copy.copy:
        other.tags["a"]["b"] = 2
        other.data_collector.collections.clear()
        assert FULL.tags == {"a": {"b": 1}}
        assert FULL.data_collector.collections
