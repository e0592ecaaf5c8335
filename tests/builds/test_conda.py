import pytest

from modelport import errors
from modelport.builds.conda import admits, project, pypi_names, read


@pytest.mark.parametrize(
    ("spec", "requirement"),
    [
        ("numpy", "numpy"),
        ("NumPy", "numpy"),
        ("numpy=1.26", "numpy==1.26.*"),
        ("numpy=1.26.*", "numpy==1.26.*"),
        ("numpy==1.26.*", "numpy==1.26.*"),
        ("numpy==1.26.4", "numpy==1.26.4"),
        ("numpy 1.26.4", "numpy==1.26.4"),
        ("numpy 1.26.*", "numpy==1.26.*"),
        ("numpy=1.26.4=py311h64a7726_0", "numpy==1.26.4"),
        ("numpy 1.26.4 py311h64a7726_0", "numpy==1.26.4"),
        ("numpy=1.26.*=py311*", "numpy==1.26.*"),
        ("numpy>=1.20,<2", "numpy>=1.20,<2"),
        ("numpy >=1.20, <2.*", "numpy>=1.20,<2"),
        ("numpy>=1.20,!=1.21.0", "numpy>=1.20,!=1.21.0"),
        ("numpy~=1.26.0", "numpy~=1.26.0"),
        ("numpy=2.0.0rc1", "numpy==2.0.0rc1"),
        ("numpy=*", "numpy"),
        ("conda-forge::numpy", "numpy"),
        ("conda-forge/linux-64::numpy=1.26", "numpy==1.26.*"),
        ("scikit-learn>=1.4", "scikit-learn>=1.4"),
    ],
)
def test_a_conda_package_becomes_a_requirement(spec, requirement):
    assert read({"dependencies": [spec]}).stand_ins == ((spec, requirement),)


@pytest.mark.parametrize(
    "spec", ["numpy=1.2|=1.3", "numpy=1.2*", "numpy[version='1.2']", "numpy>1.2.*", "=1.2", "numpy>="]
)
def test_what_cannot_be_said_to_pypi_is_refused(spec):
    with pytest.raises(errors.ValidationException, match="cannot be said to PyPI") as caught:
        read({"dependencies": [spec]})
    assert caught.value.target == "conda_file.dependencies[0]"


def test_stand_ins_and_dropped_builds_are_told():
    spec = "numpy=1.26.4=py311h64a7726_0"
    warnings = read({"dependencies": [spec, "six", {"pip": ["click"]}]}).warnings
    assert warnings == (
        f"Packages that the conda file asks of conda come from PyPI instead: {spec} as numpy==1.26.4, six as six.",
        f"PyPI knows no conda builds; the build string was dropped from {spec}.",
    )


def test_a_pip_section_alone_gives_no_warning():
    requirements = read({"dependencies": ["python=3.11", "pip=23", "pip", {"pip": ["--pre", " six  # small", ""]}]})
    assert requirements.warnings == ()
    assert requirements.pip == ("--pre", "six")
    assert requirements.stand_ins == ()


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


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(errors.UnsupportedByBackend) as caught:
        read({"dependencies": ["pytorch", "numpy", "cudatoolkit=11.8", "numpy=1|2", {"pip": ["-r more.txt"]}]})
    assert [(problem["code"], problem["target"]) for problem in caught.value.details] == [
        ("ValidationError", "conda_file.dependencies[3]"),
        ("ValidationError", "conda_file.dependencies[4].pip[0]"),
        ("UnsupportedByBackend", "conda_file.dependencies[0]"),
        ("UnsupportedByBackend", "conda_file.dependencies[2]"),
    ]
    for words in ("'pytorch' comes from conda", "'cudatoolkit=11.8'", "`pip:` section", "Docker backend", "wait"):
        assert words in caught.value.message


@pytest.mark.parametrize(
    ("conda", "target", "words"),
    [
        (["numpy"], "conda_file", "list \\['numpy'\\] was found"),
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
        {"dependencies": ["numpy", {"pip": ["six", "--find-links https://b", "--find-links https://a", "click"]}]}
    )
    two = read(
        {"dependencies": [{"pip": ["--find-links https://b", "click", "--find-links https://a", "six"]}, "numpy"]}
    )
    assert one.lines == two.lines == ("--find-links https://b", "--find-links https://a", "click", "numpy", "six")


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


def test_the_shipped_table_is_well_formed():
    assert all(conda and pypi and conda == conda.lower() for conda, pypi in pypi_names().items())
    assert {"numpy", "scikit-learn", "pandas", "joblib"} <= set(pypi_names())
    assert {"python", "pip", "pytorch", "tensorflow", "tzdata"}.isdisjoint(pypi_names())
