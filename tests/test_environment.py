"""The lists of packages agree: pyproject.toml says what is needed, environment.yml says it to conda, the lock says
which version.
"""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))


def by_name(lines):
    """Canonical name -> specifier, of lines such as `keras>=3.13`."""
    requirements = [Requirement(line) for line in lines]
    return {canonicalize_name(requirement.name): requirement.specifier for requirement in requirements}


def locked():
    """(name, version, marker) of every line of the lock."""
    lines = [line for line in LOCK.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return [Requirement(line) for line in lines]


needed = by_name([*PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"]["course"]])
from_conda = by_name(line for line in CONDA["dependencies"] if isinstance(line, str))
from_pip = by_name(line for line in CONDA["dependencies"][-1]["pip"] if not line.startswith("-e "))


def test_environment_names_every_package_once_with_the_same_versions():
    named = {**from_conda, **from_pip}
    assert len(named) == len(from_conda) + len(from_pip), "a package stands in both parts of environment.yml"
    assert {name: named.get(name) for name in needed} == needed


def test_environment_names_nothing_else_but_python_the_backend_and_jupyterlab():
    assert (set(from_conda) | set(from_pip)) - set(needed) == {"python", "pip", "tensorflow", "jupyterlab"}
    assert not from_pip["tensorflow"], "its version is not pinned here either"


def test_environment_has_the_python_of_the_project_and_installs_the_project_itself():
    assert from_conda["python"] == SpecifierSet(PROJECT["project"]["requires-python"])
    assert "-e .[course]" in CONDA["dependencies"][-1]["pip"]
    assert CONDA["name"] == PROJECT["project"]["name"]


def test_environment_asks_conda_forge_alone():
    assert CONDA["channels"] == ["conda-forge", "nodefaults"]


@pytest.mark.parametrize("part", ["dependencies", *PROJECT["project"]["optional-dependencies"]])
def test_metadata_pins_neither_numpy_nor_tensorflow_and_never_names_its_cpu_build(part):
    project = PROJECT["project"]
    lines = project["dependencies"] if part == "dependencies" else project["optional-dependencies"][part]
    for name, specifier in by_name(lines).items():
        assert name not in ("tensorflow", "tensorflow-cpu"), "Colab's own TensorFlow must stay"
        assert not (name == "numpy" and specifier), "Colab's own NumPy must stay"
        assert all(one.operator == ">=" for one in specifier), f"{name}{specifier}: only floors belong here"


def test_lock_holds_no_address_and_no_path():
    for number, line in enumerate(LOCK.splitlines(), 1):
        assert not re.search(r"https?:|file:|git\+|^\s*-|@", line), f"requirements.lock:{number}: {line}"
        assert "\\" not in line and not re.search(r"(^|\s)\.{0,2}/", line), f"requirements.lock:{number}: {line}"
    assert not (ROOT / "uv.lock").exists(), "uv.lock names addresses"


def test_lock_names_exact_versions_within_what_the_project_asks_for():
    versions = {}
    for requirement in locked():
        (exact,) = requirement.specifier
        assert exact.operator == "==", str(requirement)
        versions.setdefault(canonicalize_name(requirement.name), []).append(exact.version)
    for name, specifier in needed.items():
        assert name in versions, f"{name} is missing: make lock"
        assert all(specifier.contains(version) for version in versions[name]), f"{name} {versions[name]}: make lock"


@pytest.mark.parametrize(
    "system, machine, build",
    [("linux", "x86_64", "tensorflow-cpu"), ("linux", "aarch64", "tensorflow"), ("darwin", "arm64", "tensorflow")],
)
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_lock_takes_the_build_of_tensorflow_that_has_wheels_there(system, machine, build, python):
    here = {
        "sys_platform": system,
        "platform_machine": machine,
        "python_version": python,
        "python_full_version": f"{python}.1",
    }
    builds = [
        requirement.name
        for requirement in locked()
        if requirement.name in ("tensorflow", "tensorflow-cpu")
        and (requirement.marker is None or requirement.marker.evaluate(here))
    ]
    assert builds == [build]


def test_lock_leaves_out_what_makes_nbformat_slow():
    assert "rfc3987-syntax" not in {canonicalize_name(requirement.name) for requirement in locked()}
