"""The project's files: settings in one place, one version, pins, sizes, the cost of an import."""

import ast
import configparser
import importlib.metadata
import json
import subprocess
import sys
import tomllib
from importlib.resources import files
from pathlib import Path

import docs
import pytest
from packaging.requirements import Requirement

import skscore

ROOT = Path(__file__).parents[2]
PACKAGE = Path(skscore.__file__).parent
TEST_TOOLS = {"pytest", "coverage"}


@pytest.fixture(scope="module")
def pyproject():
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


@pytest.fixture(scope="module")
def setup_cfg():
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def test_each_setting_is_in_one_file(pyproject, setup_cfg):
    of_pyproject = set(pyproject["tool"])
    of_setup_cfg = {section.removeprefix("tool:").split(":")[0] for section in setup_cfg.sections()}
    assert of_setup_cfg == TEST_TOOLS
    assert not of_pyproject & TEST_TOOLS
    assert {"ruff", "mypy", "setuptools"} <= of_pyproject
    assert {"tool:pytest", "coverage:run"} <= set(setup_cfg.sections())


@pytest.mark.parametrize(
    "name",
    ["pytest.ini", "pytest.toml", "tox.ini", "coveragerc", "ruff.toml", "mypy.ini", "setup.py"],
)
def test_no_other_file_can_win(name):
    assert not (ROOT / f".{name}").exists()
    assert not (ROOT / name).exists()


def test_pytest_reads_setup_cfg(pytestconfig):
    assert pytestconfig.inipath is not None
    assert pytestconfig.inipath.name == "setup.cfg"
    assert pytestconfig.getini("xfail_strict") is True


def test_the_version_has_one_source(pyproject):
    assert importlib.metadata.version("skscore") == skscore.__version__
    assert "version" not in pyproject["project"]
    assert pyproject["project"]["dynamic"] == ["version"]
    assert pyproject["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "skscore.__version__"}
    literal = ast.parse((PACKAGE / "__init__.py").read_text("utf-8"))
    assigned = [n for n in literal.body if isinstance(n, ast.Assign)]
    (version,) = [n.value for n in assigned if getattr(n.targets[0], "id", "") == "__version__"]
    assert ast.literal_eval(version) == skscore.__version__


def test_the_test_environment_is_pinned(pyproject):
    path = ROOT / "constraints.txt"
    if not path.exists():
        pytest.skip("there is no constraints.txt")
    lines = [line.partition("#")[0].strip() for line in path.read_text("utf-8").splitlines()]
    pins = {r.name.lower(): str(r.specifier) for r in map(Requirement, filter(None, lines))}
    assert all(pin.startswith("==") and "*" not in pin for pin in pins.values()), pins
    extras = pyproject["project"]["optional-dependencies"]
    declared = pyproject["project"]["dependencies"] + extras["test"] + extras["plot"]
    for requirement in map(Requirement, declared):
        if requirement.name != "skscore":
            pin = pins[requirement.name.lower()]
            assert requirement.specifier.contains(pin.removeprefix("==")), requirement
    assert pins["torch"] == "==2.13.0"


def test_types_are_shipped(pyproject):
    assert files("skscore").joinpath("py.typed").is_file()
    assert "py.typed" in pyproject["tool"]["setuptools"]["package-data"]["skscore"]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.name)
def test_a_file_is_short(path):
    assert len(path.read_text("utf-8").splitlines()) <= 400


def test_public_names_are_sorted_and_there():
    names = [name for name in skscore.__all__ if name != "__version__"]
    assert names == sorted(names)
    assert set(skscore.__all__) <= set(dir(skscore))
    for module in docs.PUBLIC_MODULES:
        module = sys.modules.get(module) or __import__(module, fromlist=["_"])
        assert len(set(module.__all__)) == len(module.__all__)
        for name in module.__all__:
            assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match="KDEScoreBasline"):
        _ = skscore.KDEScoreBasline


def test_torch_is_imported_on_first_use():
    lines = """
import json, sys
seen = {}
for line in (
    "import skscore",
    "dir(skscore)",
    "import skscore.datasets, skscore.metrics, skscore.exceptions",
    "skscore.metrics.hyvarinen_score([[1.0]], [1.0]); skscore.datasets.Gaussian().sample(3)",
    "from skscore import KDEScoreBaseline",
    "KDEScoreBaseline(0.5)",
    "from skscore.testing import check_score_estimator",
    "from skscore import *",
):
    exec(line)
    seen[line] = "torch" in sys.modules
print(json.dumps([list(seen.values()), sorted(globals())]))
"""
    command = [sys.executable, "-c", lines]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    seen, names = json.loads(done.stdout)
    assert seen == [False] * 7 + [True]
    assert set(skscore.__all__) <= set(names)
