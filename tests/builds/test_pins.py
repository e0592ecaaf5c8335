import re

import pytest
from tests.builds.inspection import prefix

from modelport.builds import marks, pins
from modelport.builds.base import Wanted
from modelport.schema import files


@pytest.fixture
def built(builder, main):
    return builder.build(main("tiny=1", "markupsafe", pip=["idna==3.10"]), print)


def test_a_conda_file_pins_what_conda_and_uv_installed(builder, built, main):
    text = pins.conda_file(prefix(built), marks.environment(prefix(built)))
    said = files.parse(text)
    assert said["name"] == "tides"
    assert said["channels"] == [*main().conda["channels"], "nodefaults"]
    *conda, pip = said["dependencies"]
    assert [each.partition("=")[0] for each in conda] == ["markupsafe", "python", "tiny"]
    assert all(re.fullmatch(r"[a-z]+=[\d.]+=\w+", each) for each in conda)
    assert [each.partition("=")[0] for each in pip["pip"]] == ["idna", "six"]


def test_a_conda_file_of_pins_makes_the_same_again(builder, built):
    text = pins.conda_file(prefix(built), marks.environment(prefix(built)))
    again = builder.build(Wanted(conda=files.parse(text)), print)
    assert again.key != built.key
    assert pins.conda_file(prefix(again), marks.environment(prefix(again))) == text


def test_an_explicit_list_has_urls_and_hashes(builder, built, channels):
    lines = pins.explicit(prefix(built), marks.environment(prefix(built))).splitlines()
    assert lines[0] == f"# Environment {built.key}"
    assert "# pip: idna==3.10" in lines
    urls = lines[lines.index("@EXPLICIT") + 1 :]
    assert len(urls) == 3
    assert all(re.fullmatch(rf"{(channels / 'main').as_uri()}/\S+\.tar\.bz2#[0-9a-f]{{32}}", each) for each in urls)
