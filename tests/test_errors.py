"""The tree that errors.py draws is the tree that it is."""

import re

import pytest

from modelport import errors
from modelport.errors import ModelportError

CLASSES = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, ModelportError)]
LINE = re.compile(r"^    (?P<branch>[│├└─ ]*)(?P<name>[A-Z]\w+)\b")


def drawn():
    """The docstring's tree: (class, parent) pairs; four columns are one level."""
    above = []
    for line in errors.__doc__.splitlines():
        found = LINE.match(line)
        if found:
            level = len(found["branch"]) // 4
            above[level:] = [found["name"]]
            yield found["name"], above[level - 1] if level else "Exception"


def test_the_drawing_is_the_tree():
    assert dict(drawn()) == {each.__name__: each.__bases__[0].__name__ for each in set(CLASSES)}


def test_every_error_is_drawn_once():
    names = [name for name, _ in drawn()]
    assert len(names) == len(set(names)) == len(set(CLASSES))


@pytest.mark.parametrize("kind", sorted(set(CLASSES), key=lambda each: each.__name__))
def test_every_error_says_its_code_and_status_and_carries_what_it_is_given(kind):
    assert 400 <= kind.status < 600
    assert re.fullmatch(r"[A-Z][A-Za-z]+", kind.code)
    error = kind("The thing is at fault: mend it.")
    assert (str(error), error.message, error.target, error.details) == (error.args[0], error.args[0], None, [])
    assert kind.__doc__


def test_codes_are_unique():
    codes = [each.code for each in set(CLASSES)]
    assert len(codes) == len(set(codes))


def test_azures_name_for_the_root_is_the_root():
    assert errors.MlException is ModelportError


@pytest.mark.parametrize(
    "kind",
    [
        errors.ClientAuthenticationError,
        errors.ResourceNotFoundError,
        errors.ResourceExistsError,
        errors.ResourceModifiedError,
        errors.DeploymentFailed,
        errors.ScoringError,
    ],
)
def test_a_handler_written_for_azure_catches_what_a_service_refuses(kind):
    """In azure-core they are HttpResponseErrors, and scripts catch them as such."""
    with pytest.raises(errors.HttpResponseError) as caught:
        raise kind("no")
    error = caught.value
    assert (error.status_code, error.error_code, error.error.code) == (kind.status, kind.code, kind.code)
    assert (error.error.message, error.response, error.request_id, error.error.details) == ("no", None, None, [])
    assert error.reason
    assert errors.HttpResponseError("no", status_code=799).reason == ""
