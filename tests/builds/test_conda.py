import pytest

from modelport import errors
from modelport.builds.conda import project, read


def packages(*specs):
    return [(each.name, each.spec) for each in read({"dependencies": [*specs]}).packages]


@pytest.mark.parametrize(
    "spec",
    [
        "numpy",
        "numpy=1.26",
        "numpy=1.26.*",
        "numpy==1.26.4",
        "numpy 1.26.4",
        "numpy 1.26.*",
        "numpy=1.26.4=py311h64a7726_0",
        "numpy 1.26.4 py311h64a7726_0",
        "numpy=1.26.*=py311*",
        "numpy>=1.20,<2",
        "numpy >=1.20, <2.0a0",
        "numpy>=1.20,!=1.21.0",
        "numpy~=1.26.0",
        "numpy=2.0.0rc1",
        "numpy=*",
        "numpy=1.2|=1.3",
        "numpy (>=1.2,<2)|3.*",
        "numpy=1.2*",
        "numpy[version='>=1.2,<2', build=py311*]",
        "numpy >=1.2[build_number='>1']",
        "libblas=*=*mkl",
        "jpeg=9e",
        "tzdata>=2024a",
        "_openmp_mutex",
        "cudatoolkit=11.8",
    ],
)
def test_a_conda_package_is_asked_for_as_written(spec):
    name = spec.replace("[", " ").replace("=", " ").replace(">", " ").replace("~", " ").split()[0]
    assert packages(spec) == [(name, spec)]


@pytest.mark.parametrize(
    ("spec", "meant"),
    [
        ("conda-forge::numpy", "https://conda.anaconda.org/conda-forge::numpy"),
        ("conda-forge/linux-64::numpy=1.26", "https://conda.anaconda.org/conda-forge/linux-64::numpy=1.26"),
        ("conda-forge/label/dev::numpy", "https://conda.anaconda.org/conda-forge/label/dev::numpy"),
        ("https://me:secret@example.com/t/tk-1/ch::numpy", "https://example.com/ch::numpy"),
        ("file:///srv/ch::numpy >=1", "file:///srv/ch::numpy >=1"),
        ("pkgs/main::numpy", "https://repo.anaconda.com/pkgs/main::numpy"),
        ("defaults::numpy", "numpy"),
    ],
)
def test_the_channel_of_a_package_is_a_url_and_is_asked_too(spec, meant):
    requirements = read({"channels": ["bioconda"], "dependencies": [spec]})
    assert [each.spec for each in requirements.packages] == [meant]
    assert len(requirements.channels) >= 2
    assert "secret" not in repr(requirements.packages)
    assert "tk-1" not in repr(requirements)


@pytest.mark.parametrize(
    "spec",
    [
        "numpy===",
        "numpy>=",
        "numpy==",
        "=1.2",
        "numpy>=1,<",
        "numpy=>1",
        "numpy @ 1",
        "two words",
        "numpy >=1 <2",
        "numpy 1.2 py3 x",
        "numpy[version='>=']",
        "numpy[version='1.2'",
        "nump*",
        "numpy; python_version<'3.12'",
        "numpy>=1.2 and <2",
        "-r requirements.txt",
        "numpy(>=1",
        "numpy=latest",
    ],
)
def test_what_is_no_conda_package_is_refused(spec):
    with pytest.raises(errors.ValidationException) as caught:
        read({"dependencies": ["six", spec]})
    assert f"'{spec}' is not a conda package; write it like `numpy=1.26`" in caught.value.message
    assert caught.value.target == "conda_file.dependencies[1]"


def test_what_a_bracket_must_not_ask_is_refused():
    with pytest.raises(errors.ValidationException, match="asks for `colour=red`, which is not understood"):
        read({"dependencies": ["numpy[colour=red]"]})
    with pytest.raises(errors.ValidationException, match="names its channel in brackets; write it before"):
        read({"dependencies": ["numpy[channel=conda-forge]"]})


@pytest.mark.parametrize("dependencies", [["python"], ["python=3.11", "pip"], ["python>=3.9,<3.13", "pip=23"], []])
def test_python_and_pip_alone_need_no_conda(dependencies):
    requirements = read({"channels": ["conda-forge"], "dependencies": dependencies})
    assert (requirements.packages, requirements.channels) == ((), ())


@pytest.mark.parametrize(
    "python", ["python=3.11=*_cpython", "conda-forge::python", "python=3.10|3.11", "python[build=x]"]
)
def test_a_python_that_uv_cannot_be_asked_for_comes_from_conda(python):
    assert [each.name for each in read({"dependencies": [python]}).packages] == ["python"]


def test_a_file_without_channels_asks_conda_s_own():
    assert [each.url for each in read({"dependencies": ["numpy"]}).channels] == [
        "https://repo.anaconda.com/pkgs/main",
        "https://repo.anaconda.com/pkgs/r",
    ]


def test_channels_keep_their_order_and_are_asked_once():
    said = ["nodefaults", "bioconda", "conda-forge", "https://conda.anaconda.org/bioconda/"]
    names = [each.name for each in read({"channels": said, "dependencies": ["numpy"]}).channels]
    assert names == ["bioconda", "conda-forge"]


@pytest.mark.parametrize(
    ("channel", "words"),
    [
        ("./mine", "'./mine' is a path; write a folder of this machine as a URL: 'file:///path/of/it'"),
        ("/srv/channel", "write a folder of this machine as a URL: 'file:///srv/channel'"),
        ("~/channel", "is a path"),
        ("ftp://example.com/ch", "known are https://, http:// and file:///"),
        ("file://host/ch", "with three slashes"),
        ("two words", "is no channel; write a name such as `conda-forge`, or a URL"),
        ("", "a channel such as `conda-forge` was expected, and str '' was found"),
        (7, "a channel such as `conda-forge` was expected, and int 7 was found"),
        (None, "and nothing was found"),
    ],
)
def test_what_is_no_channel_is_refused(channel, words):
    with pytest.raises(errors.ValidationException) as caught:
        read({"channels": ["conda-forge", channel], "dependencies": []})
    assert words in caught.value.message
    assert caught.value.target == "conda_file.channels[1]"


def test_secrets_are_kept_from_messages():
    with pytest.raises(errors.ValidationException) as caught:
        read({"dependencies": ["https://me:secret@example.com/t/tk-1/ch::numpy==="]})
    assert "https://***@example.com/t/***/ch::numpy===" in caught.value.message


def test_a_pip_section_alone_gives_no_warning():
    requirements = read({"dependencies": ["python=3.11", "pip=23", "pip", {"pip": ["--pre", " six  # small", ""]}]})
    assert requirements.warnings == ()
    assert requirements.pip == ("--pre", "six")
    assert requirements.packages == ()


def test_variables_that_nobody_sets_are_told():
    assert "`environment_variables`" in read({"variables": {"A": "1"}}).warnings[0]


@pytest.mark.parametrize(
    ("spec", "python"),
    [
        ("python=3.11", "3.11"),
        ("python 3.11", "3.11"),
        ("python=3.10.*", "3.10.*"),
        ("python>=3.9,<3.12", ">=3.9,<3.12"),
        ("python==3.10.4", "==3.10.4"),
        ("python", None),
    ],
)
def test_the_python_constraint_is_kept_as_written(spec, python):
    assert read({"dependencies": [spec]}).python == python


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(errors.ValidationException) as caught:
        read(
            {
                "chanels": [],
                "channels": ["./here"],
                "dependencies": ["numpy", "scipy===", "pandas>=", {"pip": ["-r more.txt", "six=1.16"]}],
            }
        )
    assert [problem["target"] for problem in caught.value.details] == [
        "conda_file.chanels",
        "conda_file.channels[0]",
        "conda_file.dependencies[1]",
        "conda_file.dependencies[2]",
        "conda_file.dependencies[3].pip[0]",
        "conda_file.dependencies[3].pip[1]",
    ]
    assert caught.value.target == "conda_file"
    assert all(problem["target"] in caught.value.message for problem in caught.value.details)


@pytest.mark.parametrize(
    ("conda", "target", "words"),
    [
        (["numpy"], "conda_file", "list \\['numpy'\\] was found"),
        ({"channels": "conda-forge"}, "conda_file.channels", "a list of channels was expected, and str"),
        ({"dependencies": "numpy"}, "conda_file.dependencies", "a list of packages was expected, and str 'numpy'"),
        ({"dependencies": {"numpy": "1"}}, "conda_file.dependencies", "a list of packages was expected, and dict"),
        ({"dependencies": [1.5]}, "conda_file.dependencies[0]", "float 1.5 was found"),
        ({"dependencies": [None]}, "conda_file.dependencies[0]", "nothing was found"),
        ({"dependencies": [{"pipp": []}]}, "conda_file.dependencies[0]", "dict"),
        ({"dependencies": [{"pip": "six"}]}, "conda_file.dependencies[0].pip", "a list of requirements was expected"),
        ({"dependencies": [{"pip": [3]}]}, "conda_file.dependencies[0].pip[0]", "int 3 was found"),
        ({"dependencies": [{"pip": []}, {"pip": []}]}, "conda_file.dependencies[1].pip", "second `pip:` section"),
        ({"dependancies": []}, "conda_file.dependancies", "did you mean `dependencies`"),
        ({"frobs": []}, "conda_file.frobs", "known are name, channels, dependencies"),
    ],
)
def test_a_bad_shape_is_named_with_its_place(conda, target, words):
    with pytest.raises(errors.ValidationException, match=words) as caught:
        read(conda)
    assert caught.value.target == target


@pytest.mark.parametrize(
    "conda", [{}, {"channels": ["conda-forge"]}, {"dependencies": None}, {"dependencies": [{"pip": None}]}]
)
def test_a_file_that_asks_for_nothing_is_fine(conda):
    assert read(conda).lines == ()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("-r requirements.txt", "`-r` names a file that the builder does not get; write what it asks for here"),
        ("--constraint=c.txt", "`--constraint` names a file"),
        ("-e .", "`-e` names a file"),
        ("./wheels/mine.whl", "beside the file"),
        ("numpy=1.26", "pip writes it 'numpy==1.26'"),
        ("two words", "is not a pip requirement"),
        ("six==", "is not a pip requirement"),
    ],
)
def test_a_line_that_pip_would_not_take_is_refused(line, words):
    with pytest.raises(errors.ValidationException) as caught:
        read({"dependencies": [{"pip": [line]}]})
    assert words in caught.value.message


@pytest.mark.parametrize(
    "line",
    [
        "six",
        "six==1.17.0",
        "six >= 1.16, < 2",
        "six==1.*",
        "torch==2.3.0+cpu",
        "uvicorn[standard]>=0.20; python_version < '3.13'",
        "six @ https://example.com/six-1.17.0-py2.py3-none-any.whl",
        "git+https://example.com/six.git@main",
        "https://example.com/six-1.17.0-py2.py3-none-any.whl",
        "/opt/wheels/six-1.17.0-py2.py3-none-any.whl",
        "--extra-index-url https://example.com/simple",
        "six==1.17.0 --hash=sha256:abc",
    ],
)
def test_a_line_that_pip_takes_is_kept(line):
    assert read({"dependencies": [{"pip": [line]}]}).pip == (line,)


def test_options_keep_their_order_and_requirements_do_not_matter():
    one = read(
        {"dependencies": ["python", {"pip": ["six", "--find-links https://b", "--find-links https://a", "click"]}]}
    )
    two = read(
        {"dependencies": [{"pip": ["--find-links https://b", "click", "--find-links https://a", "six"]}, "python"]}
    )
    assert one.lines == two.lines == ("--find-links https://b", "--find-links https://a", "click", "six")


@pytest.mark.parametrize(
    ("requirement", "name"),
    [
        ("Six==1.17", "six"),
        ("a.b_C[x]", "a-b-c"),
        ("six @ https://x", "six"),
        ("git+https://x/six.git", None),
        ("-r x", None),
    ],
)
def test_a_requirement_has_a_project(requirement, name):
    assert project(requirement) == name
