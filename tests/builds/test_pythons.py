import sys

import pytest

from modelport import errors
from modelport.builds.pythons import admits, minor, specifiers


@pytest.mark.parametrize(
    ("constraint", "version", "met"),
    [
        (None, (3, 11, 7), True),
        ("3", (3, 11, 7), True),
        ("3.11", (3, 11, 7), True),
        ("==3.11", (3, 11, 7), True),
        ("3.11.7", (3, 11, 8), False),
        ("3.1", (3, 11, 0), False),
        (">=3.9,<3.11", (3, 11, 0), False),
        (">3.10", (3, 11, 0), True),
        ("<=3.10", (3, 10, 1), False),
        ("~=3.10", (3, 12, 0), True),
        ("~=3.10.2", (3, 11, 0), False),
        ("!=3.11.*", (3, 11, 2), False),
    ],
)
def test_a_version_meets_a_constraint_or_not(constraint, version, met):
    assert admits(constraint, version) is met


def test_the_running_python_is_taken_where_it_will_do():
    assert minor(">=3.9") == minor(None) == (sys.version_info.minor, ())


def test_the_newest_that_will_do_is_taken_otherwise():
    assert minor(f">=3.9,!=3.{sys.version_info.minor}.*,<3.{sys.version_info.minor}")[0] < sys.version_info.minor


def test_a_python_that_cannot_serve_is_refused():
    with pytest.raises(errors.ValidationException, match=r"python=3\.8 of the conda file cannot serve"):
        minor("3.8")


def test_a_constraint_is_said_in_uv_s_words():
    assert specifiers(">=3.9,<3.12.*") == (">=3.9", "<3.12")
    assert specifiers("3.10.*") == specifiers("=3.10") == specifiers("==3.10") == ("==3.10.*",)
    assert specifiers(None) == specifiers("*") == ()
