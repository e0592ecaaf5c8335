"""Keys and tokens."""

from modelport.controlplane import auth

NOON = 100 * auth.WINDOW + 1000


def test_keys_are_long_and_never_the_same():
    made = {auth.new_key() for _ in range(100)}
    assert len(made) == 100
    assert all(len(key) == 32 and key.isalnum() for key in made)


def test_either_key_opens():
    credentials = auth.new_credentials()
    assert auth.accepted("Key", credentials, NOON) == (credentials["primary"], credentials["secondary"])


def test_a_token_opens_until_it_expires():
    credentials = auth.new_credentials()
    answer = auth.token(credentials, NOON)
    assert answer["tokenType"] == "Bearer"
    assert NOON < answer["refreshAfterTimeUtc"] < answer["expiryTimeUtc"] <= NOON + 2 * auth.WINDOW
    for moment in (NOON, answer["refreshAfterTimeUtc"], answer["expiryTimeUtc"] - 1):
        assert answer["accessToken"] in auth.accepted("AMLToken", credentials, moment)
    assert answer["accessToken"] not in auth.accepted("AMLToken", credentials, answer["expiryTimeUtc"])


def test_a_token_is_renewed_when_it_says_so():
    credentials = auth.new_credentials()
    first = auth.token(credentials, NOON)
    assert auth.token(credentials, first["refreshAfterTimeUtc"] - 1) == first
    assert auth.token(credentials, first["refreshAfterTimeUtc"])["accessToken"] != first["accessToken"]


def test_a_gateway_that_hears_of_a_window_late_knows_its_tokens_already():
    credentials = auth.new_credentials()
    told = auth.accepted("AMLToken", credentials, NOON)
    assert auth.token(credentials, NOON + auth.WINDOW)["accessToken"] in told


def test_another_endpoints_token_does_not_open():
    one, other = auth.new_credentials(), auth.new_credentials()
    assert auth.token(one, NOON)["accessToken"] not in auth.accepted("AMLToken", other, NOON)


def test_nobody_opens_what_only_azure_can_check():
    assert auth.accepted("AADToken", auth.new_credentials(), NOON) == ()
