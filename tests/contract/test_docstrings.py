"""Every public name is documented: shapes, defaults, order, and the same words everywhere."""

import ast
import inspect
import re
from pathlib import Path

import docs
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from variants import VARIANTS

import skscore

OBJECTS = docs.public_objects()
NAMES = ("kde", "kernel", "sliced", "exact", "denoising-ladder")
ESTIMATORS = {type(VARIANTS[name]): VARIANTS[name] for name in NAMES}
# What "auto" stands for, what a network takes and what judges it is not the same for all.
OF_A_CLASS = {
    "DenoisingScoreEstimator": {
        "hidden_layer_sizes",
        "frequency_spread",
        "max_iter",
        "batch_size",
        "curl_penalty",
        "network",
        "n_members",
        "learning_rate_init",
        "validation_fraction",
        "keep_rows",
        "validation_scores_",
    }
}
# The methods that `_autodiff` describes, and torch's own.
MODULES = ("MLP", "Ensemble", "NoiseConditionalMLP", "UNet", "Conjugate", "Bound", "Gated")
BY_CLASS = pytest.mark.parametrize("cls", ESTIMATORS, ids=lambda cls: cls.__name__)


def test_the_walk_finds_what_is_public():
    for name in ("KDEScoreBaseline", "SlicedScoreEstimator.energy", "datasets.Ring.score"):
        assert f"skscore.{name}" in OBJECTS
    assert "skscore.testing.check_score_estimator" in OBJECTS
    assert len(OBJECTS) > 60


@pytest.mark.parametrize("name", OBJECTS)
def test_public_name_has_a_numpydoc_docstring(name):
    member = OBJECTS[name]
    found = docs.sections(inspect.getdoc(member))
    summary = found[""].strip().split("\n")[0]
    assert summary.endswith("."), f"{name}: the first line is no sentence"
    if isinstance(member, property) or (inspect.isclass(member) and issubclass(member, Exception)):
        return
    if name.startswith(tuple(f"skscore.networks.{module}." for module in MODULES)):
        return
    parameters = docs.signature(member)
    assert list(docs.entries(found.get("Parameters"))) == list(parameters)
    if inspect.isfunction(member) or inspect.ismethod(member):
        nothing = inspect.signature(member).return_annotation in (None, "None")
        assert nothing or not parameters or "Returns" in found


@pytest.mark.parametrize(
    "path", sorted(Path(skscore.__file__).parent.rglob("*.py")), ids=lambda p: p.name
)
def test_no_public_function_is_without_words(path):
    """In private modules too: a name without an underscore is read by others."""
    bare = []

    def visit(node, inside):
        for child in ast.iter_child_nodes(node):
            function = isinstance(child, ast.FunctionDef)
            if function or isinstance(child, ast.ClassDef):
                public = not child.name.startswith("_")
                if public and not inside and ast.get_docstring(child) is None:
                    bare.append(child.name)
                visit(child, inside or function or not public)
            else:
                visit(child, inside)

    visit(ast.parse(path.read_text("utf-8")), False)
    assert bare == []


@BY_CLASS
def test_parameters_are_documented_in_order(cls):
    documented = docs.entries(docs.sections(cls.__doc__)["Parameters"])
    assert list(documented) == list(docs.signature(cls))


@pytest.mark.parametrize("name", [n for n, m in OBJECTS.items() if not isinstance(m, property)])
def test_documented_defaults_are_the_defaults(name):
    member = OBJECTS[name]
    documented = docs.entries(docs.sections(inspect.getdoc(member)).get("Parameters"))
    known = docs.signature(member) if documented else {}
    for parameter, text in documented.items():
        default = known[parameter].default
        header = text.split("\n")[0]
        written = re.search(r"default=(.+)$", header)
        if written is not None:
            assert written[1] == docs.default_as_written(default), f"{name}: {header}"
        elif default not in (inspect.Parameter.empty, None):
            assert header == "y : Ignored", f"{name}: {header} does not say default={default!r}"


@pytest.mark.parametrize("section", ["Parameters", "Attributes"])
def test_shared_entries_use_the_same_words(section):
    """Except where the default is another one, or what "auto" stands for."""
    texts = {}
    for cls in ESTIMATORS:
        defaults = {name: p.default for name, p in docs.signature(cls).items()}
        for name, text in docs.entries(docs.sections(cls.__doc__)[section]).items():
            if name not in OF_A_CLASS.get(cls.__name__, ()):
                key = name, repr(defaults.get(name))
                texts.setdefault(key, {})[cls.__name__] = text
    shared = {key: by_class for key, by_class in texts.items() if len(by_class) > 1}
    assert len(shared) >= 4
    for (name, _), by_class in shared.items():
        if name in ("bandwidth", "bandwidth_", "random_state"):  # each has its own
            continue
        assert len(set(by_class.values())) == 1, f"{name}: {by_class}"


def test_exceptions_from_the_same_words_are_few_and_there():
    for cls in ESTIMATORS:
        sections = docs.sections(cls.__doc__)
        documented = {n for s in ("Parameters", "Attributes") for n in docs.entries(sections[s])}
        assert OF_A_CLASS.get(cls.__name__, set()) <= documented


@BY_CLASS
def test_fitted_attributes_are_documented_and_there(cls):
    X = np.random.default_rng(0).normal(size=(40, 2))
    fitted = clone(ESTIMATORS[cls]).fit(pd.DataFrame(X, columns=["a", "b"]))
    documented = docs.entries(docs.sections(cls.__doc__)["Attributes"])
    public = {n for n in vars(fitted) if n.endswith("_") and not n.startswith("_")}
    assert set(documented) == public
    others = {n for n in vars(fitted) if not n.startswith("_") and not n.endswith("_")}
    assert others == set(fitted.get_params())
    for name in documented:
        value, header = getattr(fitted, name), documented[name].split("\n")[0]
        kind = header.partition(" : ")[2]
        known = {"int": int, "float": float, "list": list, "ndarray": np.ndarray}
        assert isinstance(value, known[kind.split()[0]]), header
        if kind.startswith("ndarray"):
            assert value.ndim == len(re.findall(r"n_(features|components|noise_levels)", kind)), (
                header
            )


@BY_CLASS
def test_score_samples_says_that_it_is_a_vector(cls):
    assert "gradient field" in inspect.getdoc(cls.score_samples).split("\n")[0]


@pytest.mark.parametrize("name", [n for n, m in OBJECTS.items() if inspect.isclass(m)])
def test_class_shows_an_example(name):
    if not issubclass(OBJECTS[name], Exception):
        assert ">>> " in docs.sections(OBJECTS[name].__doc__).get("Examples", "")
