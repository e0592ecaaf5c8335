import pytest

from modelport.builds.conda import read
from modelport.builds.diagnosis import conda_fault, fault
from modelport.builds.solver import Verdict


def unsatisfiable(reason):
    return (
        "error: No solution found when resolving dependencies\n"
        f"  cause: Because {reason}, we can conclude that your requirements are unsatisfiable."
    )


# As older versions of uv draw it.
FRAMED = """  \u00d7 No solution found when resolving dependencies:
  \u2570\u2500\u25b6 Because there is no version of
      sklearnn==9 and you require sklearnn==9, we can
      conclude that your requirements are unsatisfiable."""

THROUGH_ANOTHER = """error: No solution found when resolving dependencies
  cause: Because granian>=2.8.0 depends on click>=8.1.0 and you require click==7.0, we can conclude that your \
requirements and granian>=2.8.0 are incompatible.
         And because you require granian>=2.8, we can conclude that your requirements are unsatisfiable."""


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (unsatisfiable("sklearnn was not found in the package registry and you require sklearnn==9"), "no 'sklearnn'"),
        (
            unsatisfiable("there is no version of sklearnn==9 and you require sklearnn==9"),
            "'sklearnn==9' was not found",
        ),
        (unsatisfiable("only sklearnn<=1 is available and you require sklearnn>=9"), "'sklearnn==9' was not found"),
        (FRAMED, "'sklearnn==9' was not found"),
        (unsatisfiable("you require granian>=2.7 and granian==1.0"), "'granian==1.0' clashes with 'granian>=2.5'"),
        (THROUGH_ANOTHER, "'click==7.0' clashes with 'granian>=2.5', which the scoring server needs"),
        (unsatisfiable("you require six==1.16.0 and six==99"), "'six==1.16.0' and 'six==99' exclude each other"),
        (unsatisfiable("click==7.0 has no wheels with a matching tag and you require click==7.0"), "with this Python"),
        (
            unsatisfiable("granian>=2.7 depends on Python>=3.10 and you require granian>=2.7"),
            "which the scoring server",
        ),
        ("error: Failed to build `sklearnn==9`\n  cause: backend error", "'sklearnn==9' could not be built"),
        ("error: Failed to fetch: http://127.0.0.1:9/six/\n  cause: dns error", "(http://127.0.0.1:9/six/) could not"),
        ("error: something else", "its requirements could not be installed"),
    ],
)
def test_the_requirement_at_fault_is_named(output, words):
    wanted = ["click==7.0", "six==1.16.0", "six==99", "sklearnn==9"]
    if "granian==1.0" in output:
        wanted.append("granian==1.0")
    assert words in fault(output, wanted, ["granian>=2.5"])


def test_what_uv_has_only_heard_of_may_be_missing_because_the_network_is_off():
    reason = (
        "only the following versions of granian are available: granian<2.8 granian>=2.9 and you require granian>=2.8"
    )
    assert "no release for this Python" in fault(unsatisfiable(reason), [], ["granian>=2.8"])
    assert "The network is off" in fault(unsatisfiable(reason), [], ["granian>=2.8"], offline=True)


FILE = read({"channels": ["conda-forge", "https://me:secret@example.com/ch"], "dependencies": ["numpy=1", "scipy>=2"]})


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (
            {"kind": "spec", "specs": [1], "reason": "bad build"},
            "'scipy>=2' (dependencies[1]) is not a conda package: bad",
        ),
        (
            {"kind": "unsolvable", "specs": [0], "reason": "numpy clashes"},
            "'numpy=1' (dependencies[0]) cannot be had from",
        ),
        (
            {"kind": "unsolvable", "specs": [0, 1], "reason": "x"},
            "'numpy=1' and 'scipy>=2' (dependencies[0], dependencies[1])",
        ),
        ({"kind": "absent", "packages": list("abcde"), "reason": ""}, "'a' and 'b' and 'c' and 2 more are not in the"),
        ({"kind": "other", "reason": "disk full"}, "could not be installed: disk full."),
        (
            {"kind": "other", "reason": "failed to fetch a\nCaused by: x\nCaused by: HTTP status 404"},
            "could not be installed: failed to fetch a: HTTP status 404.",
        ),
        (
            {"kind": "channel", "channel": FILE.channels[0].url, "reason": "error sending request for url"},
            "channel conda-forge (https://conda.anaconda.org/conda-forge) could not be reached",
        ),
        (
            {"kind": "channel", "channel": FILE.channels[1].url, "reason": "HTTP status server error (503 Busy)"},
            "channel https://***@example.com/ch answered with an error (503). Try again later.",
        ),
        ({"kind": "channel", "reason": "HTTP status client error (404 Not)"}, "channel conda-forge and https://***@ex"),
        ({"kind": "channel", "reason": "odd\nmore"}, "could not be read: odd."),
    ],
)
def test_the_line_or_channel_at_fault_is_named(verdict, words):
    sentence = conda_fault(Verdict(**verdict), FILE.packages, FILE.channels)
    assert words in sentence
    assert "secret" not in sentence
