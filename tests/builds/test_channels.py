import pytest

from modelport.builds.channels import channels, masked


@pytest.mark.parametrize(
    ("said", "urls"),
    [
        ("conda-forge", ["https://conda.anaconda.org/conda-forge"]),
        ("conda-forge/label/dev", ["https://conda.anaconda.org/conda-forge/label/dev"]),
        (" conda-forge/ ", ["https://conda.anaconda.org/conda-forge"]),
        ("https://example.com/ch/", ["https://example.com/ch"]),
        ("https://example.com:8443/ch?x=1#y", ["https://example.com:8443/ch"]),
        ("file:///srv/ch", ["file:///srv/ch"]),
        ("defaults", ["https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r"]),
        ("pkgs/msys2", ["https://repo.anaconda.com/pkgs/msys2"]),
        ("nodefaults", []),
    ],
)
def test_a_channel_is_where_conda_looks_for_it(said, urls):
    assert [each.url for each in channels(said)] == urls


def test_names_are_below_the_alias_with_its_secrets(monkeypatch):
    monkeypatch.setenv("CONDA_CHANNEL_ALIAS", "https://me:secret@example.com/t/tk-1/conda/")
    (channel,) = channels("conda-forge")
    assert channel.url == "https://example.com/conda/conda-forge"
    assert channel.asked == "https://example.com/t/tk-1/conda/conda-forge"
    assert (channel.name, channel.user, channel.password) == ("conda-forge", "me", "secret")
    assert channel.secrets == ("secret", "tk-1")
    assert channels("pkgs/main")[0].url == "https://repo.anaconda.com/pkgs/main"


def test_secrets_are_taken_out_of_a_url():
    (channel,) = channels("https://me:p%40ss@example.com/t/tk-1/team/ch")
    assert (channel.url, channel.token) == ("https://example.com/team/ch", "tk-1")
    assert (channel.user, channel.password) == ("me", "p@ss")
    assert channel.name == "https://***@example.com/t/***/team/ch"
    assert not any(secret in repr(channel) for secret in ("p%40ss", "p@ss", "tk-1"))


def test_a_channel_may_be_all_that_a_token_opens():
    (channel,) = channels("https://example.com/t/tk-1")
    assert (channel.url, channel.token) == ("https://example.com", "tk-1")
    assert (channel.asked, channel.name) == ("https://example.com/t/tk-1", "https://example.com/t/***")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://host/t/tk-1::numpy", "https://host/t/***::numpy"),
        ("https://me:secret@host/ch", "https://***@host/ch"),
        (
            "https://host/t/tk-1/ch::numpy and https://host/t/tk-2/ch",
            "https://host/t/***/ch::numpy and https://host/t/***/ch",
        ),
        ("https://host/ch?sig=abc", "https://host/ch?***"),
        ("nothing hidden", "nothing hidden"),
    ],
)
def test_text_is_shown_without_secrets(text, shown):
    assert masked(text) == shown


def test_secrets_that_are_known_are_hidden_wherever_they_are():
    assert masked("user me with hunter2", ("hunter2",)) == "user me with ***"
