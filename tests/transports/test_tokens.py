"""Tokens: asked for when they are needed, kept while they last, whatever the clock does."""

import base64
import threading
import time
from types import SimpleNamespace

import pytest

from modelport.errors import ClientAuthenticationError
from modelport.transports import clouds
from modelport.transports.tokens import Entra, Fixed, Policy

URL = "https://management.azure.com/subscriptions/s"
CLOUD = clouds.named("AzureCloud")


class Credential:
    """Tokens that last as many seconds as they are told to."""

    def __init__(self, *lives, reuse=False):
        self.lives, self.asked, self.reuse = list(lives), [], reuse

    def get_token(self, *scopes, **keywords):
        self.asked.append((scopes, keywords))
        number = 1 if self.reuse else len(self.asked)
        return SimpleNamespace(token=f"token-{number}", expires_on=time.time() + self.lives.pop(0))


class Clock:
    """A monotonic clock that stands until it is moved."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def _signed(tokens, whose="service", url=URL):
    return tokens.sign("GET", url, whose).get("Authorization", "").removeprefix("Bearer ")


def test_a_token_is_asked_for_when_it_is_needed_and_kept_while_it_lasts():
    credential = Credential(3600)
    tokens = Entra(credential, CLOUD)
    assert credential.asked == []
    assert [_signed(tokens), _signed(tokens)] == ["token-1"] * 2
    assert credential.asked == [(("https://management.azure.com/.default",), {})]


def test_a_token_that_nears_its_end_is_renewed():
    clock = Clock()
    tokens = Entra(Credential(3600, 3600), CLOUD, clock=clock)
    said = [_signed(tokens)]
    for seconds in (3600 - 121, 2):
        clock.now += seconds
        said.append(_signed(tokens))
    assert said == ["token-1", "token-1", "token-2"]


@pytest.mark.parametrize("jump", [86400, -86400])
def test_a_clock_that_jumps_neither_renews_a_token_nor_keeps_it(monkeypatch, jump):
    clock, now = Clock(), time.time
    tokens = Entra(Credential(3600, 3600), CLOUD, clock=clock)
    assert _signed(tokens) == "token-1"
    monkeypatch.setattr(time, "time", lambda: now() + jump)
    assert _signed(tokens) == "token-1"
    clock.now += 3600
    assert _signed(tokens) == "token-2"


def test_a_token_that_seems_to_have_ended_when_it_is_given_is_used_all_the_same(monkeypatch):
    """A clock that is a day ahead would otherwise ask for a token with every request."""
    clock = Clock()
    credential = SimpleNamespace(asked=0)

    def get_token(*_scopes):
        credential.asked += 1
        return SimpleNamespace(token="t", expires_on=0)

    credential.get_token = get_token
    tokens = Entra(credential, CLOUD, clock=clock)
    assert {_signed(tokens) for _ in range(50)} == {"t"}
    assert credential.asked == 1


def test_threads_that_need_a_token_ask_once():
    gate = threading.Barrier(16)

    class Slow(Credential):
        def get_token(self, *scopes, **keywords):
            threading.Event().wait(0.05)
            return super().get_token(*scopes, **keywords)

    credential = Slow(3600, 3600)
    tokens, said = Entra(credential, CLOUD), []

    def ask():
        gate.wait(10)
        said.append(_signed(tokens))

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(10)
    assert (set(said), len(credential.asked)) == ({"token-1"}, 1)


def test_threads_whose_token_was_refused_ask_once_too():
    credential = Credential(3600, 3600)
    tokens = Entra(credential, CLOUD)
    signed = tokens.sign("GET", URL, "service")
    assert [tokens.renewed("service", signed, "") for _ in range(5)] == [True] * 5
    assert len(credential.asked) == 2


def test_a_credential_that_gives_the_same_token_again_is_not_believed():
    tokens = Entra(Credential(3600, 3600, reuse=True), CLOUD)
    assert not tokens.renewed("service", tokens.sign("GET", URL, "service"), "")


def test_what_the_service_wants_of_a_token_is_passed_on():
    credential = Credential(3600, 3600)
    tokens = Entra(credential, CLOUD)
    claims = base64.urlsafe_b64encode(b'{"access_token": {}}').decode().rstrip("=")
    challenge = f'Bearer error="insufficient_claims", claims="{claims}"'
    assert tokens.renewed("service", tokens.sign("GET", URL, "service"), challenge)
    assert credential.asked[1][1] == {"claims": '{"access_token": {}}'}


def test_storage_has_a_token_of_its_own_and_a_signature_needs_none():
    credential = Credential(3600, 3600)
    tokens = Entra(credential, CLOUD)
    assert _signed(tokens, "storage", "https://a.blob.core.windows.net/x") == "token-1"
    assert credential.asked[0][0] == ("https://storage.azure.com/.default",)
    assert tokens.sign("GET", URL, "none") == {}
    assert len(credential.asked) == 1


@pytest.mark.parametrize(
    "url",
    [
        "https://stranger.example/azureml-blobstore/x",
        "https://a.blob.core.windows.net.stranger.example/x",
        "https://acore.windows.net/x",
        "https://a.blob.core.windows.net@stranger.example/x",
        "https://a.blob.core.chinacloudapi.cn/x",
    ],
)
def test_the_token_for_storage_goes_to_accounts_of_the_cloud_alone(url):
    credential = Credential()
    with pytest.raises(ClientAuthenticationError, match="no storage account of the cloud 'AzureCloud'"):
        Entra(credential, CLOUD).sign("GET", url, "storage")
    assert credential.asked == []


def test_accounts_in_dns_zones_and_of_clouds_of_ones_own_are_storage_too():
    own = clouds.named("Mine", {"resource_manager": "https://m.example", "storage_endpoint": "s.example"})
    assert _signed(Entra(Credential(3600), CLOUD), "storage", "https://a.z01.blob.storage.azure.net/x") == "token-1"
    assert _signed(Entra(Credential(3600), own), "storage", "https://a.blob.s.example/x") == "token-1"


def test_endpoints_with_aad_tokens_have_their_clouds_scope():
    credential = Credential(3600)
    assert Entra(credential, clouds.named("AzureChinaCloud")).scoring_token().token == "token-1"
    assert credential.asked[0][0] == ("https://ml.azure.cn/.default",)


def test_a_credential_that_fails_is_told_in_its_own_words():
    class Broken:
        def get_token(self, *_):
            raise RuntimeError("no account is logged in; run az login")

    with pytest.raises(ClientAuthenticationError, match=r"Broken gave no token for .*run az login") as caught:
        _signed(Entra(Broken(), CLOUD))
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_what_is_no_credential_is_told():
    with pytest.raises(ClientAuthenticationError, match=r"object gave no token.*get_token"):
        _signed(Entra(object(), CLOUD))


def test_a_token_is_not_sent_where_everybody_can_read_it():
    tokens = Entra(Credential(3600, 3600), CLOUD)
    with pytest.raises(ClientAuthenticationError, match=r"not sent to http://management\.azure\.com"):
        _signed(tokens, url="http://management.azure.com/x")
    assert _signed(tokens, url="http://127.0.0.1:8080/x") == "token-1"


def test_a_policy_writes_what_it_wants_in_place_of_a_token():
    class Signed:
        def on_request(self, request):
            request.context.options.pop("enforce_https")
            request.http_request.headers["Authorization"] = f"Mine {request.http_request.method}"

    tokens = Policy(Signed(), Entra(Credential(3600, 3600), CLOUD))
    assert tokens.sign("PUT", URL, "service") == {"Authorization": "Mine PUT"}
    assert _signed(tokens, "storage", "https://a.blob.core.windows.net/x") == "token-1"
    assert not tokens.renewed("service", {}, "")
    assert tokens.scoring_token().token == "token-2"


def test_a_servers_token_is_the_servers_alone():
    tokens = Fixed(lambda: "secret")
    assert _signed(tokens) == "secret"
    assert tokens.sign("GET", URL, "storage") == {}
    assert not tokens.renewed("service", tokens.sign("GET", URL, "service"), "")
    with pytest.raises(ClientAuthenticationError, match="make the MLClient with a credential"):
        tokens.scoring_token()
