"""The layers of the package, read from its syntax; and synthetic sources that break each rule."""

import ast
from functools import cache
from pathlib import Path

import pytest

import skscore

# From the ground up: a room imports only rooms of lower layers, never one of its own layer.
LAYERS = (
    "exceptions _shrinkage _checks",
    "_affine _callbacks _torch datasets metrics noise _autodiff _integrate _adamw _linear "
    "_products",
    "_validation networks objectives samplers density _muon _mixture",
    "_base _model",
    "_denoiser _chains _subspace",
    "_training",
    "_descents",
    "estimators kernel compose latent",
    "io plotting testing",
)
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms.split()}
SHELLS = {"estimators", "kernel", "compose", "latent", "io", "_chains", "_descents"}
TORCH = {"_mixture", "_autodiff", "_integrate", "_adamw", "_muon", "_linear", "_model", "_denoiser"}
TORCH |= {
    "_products",
    "_training",
    "_subspace",
    "noise",
    "networks",
    "objectives",
    "samplers",
    "density",
}
NO_TORCH = {"datasets", "metrics", "exceptions", "_shrinkage", "_affine", "_validation", "_base"}
NO_TORCH |= {"_callbacks", "_checks"}
NUMPY = {"numpy", "scipy", "sklearn", "pandas"}


@cache
def sources():
    """Return the source of each module, by its dotted name."""
    root = Path(skscore.__file__).parent
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text("utf-8")
    return found


def room_of(module):
    """Return the second part of a name; the package itself is its own room."""
    return [*module.split("."), "", ""][1]


@cache
def imports(module, source, known):
    """Return what a module imports, and whether it does so as it is loaded.

    A module inside the package is named as far as it is a file; anything else as it is written.
    """

    def visit(node, loading):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from ((alias.name, loading) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = child.module or ""
                if child.level:
                    is_package = any(name.startswith(module + ".") for name in known)
                    up = module.split(".")[: None if is_package else -1]
                    up = up[: len(up) - child.level + 1]
                    base = ".".join([*up, base] if base else up)
                for alias in child.names:
                    full = f"{base}.{alias.name}"
                    inside = base.partition(".")[0] == "skscore"
                    yield (full if full in known or not inside else base), loading
            else:
                later = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                typing = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
                yield from visit(child, loading and not later and not typing)

    return list(visit(ast.parse(source), True))


def violations(modules):
    """Return every breach of the layers, one line each."""
    found, edges, known = [], {}, frozenset(modules)
    for module, source in modules.items():
        here = room_of(module)
        torch_only = here in TORCH or module == "skscore.kernel._gaussian"
        edges[module] = set()
        if here and here not in LEVEL:
            found.append(f"{module}: the room {here} has no layer")
            continue
        for name, loading in imports(module, source, known):
            package, *below = name.split(".")
            if package == "sklearn" and any(part.startswith("_") for part in below):
                found.append(f"{module}: {name} is private to scikit-learn")
            if torch_only and package in NUMPY:
                found.append(f"{module}: a torch room imports {package}")
            if here in NO_TORCH and package == "torch":
                found.append(f"{module}: imports torch")
            if package != "skscore":
                continue
            there = room_of(name)
            if loading:
                edges[module].add(name)
            if there == here:
                continue
            if not there or LEVEL.get(there, 99) >= LEVEL.get(here, -1):
                found.append(f"{module}: imports {name}, which is not below it")
            if there == "_torch" and here not in SHELLS:
                found.append(f"{module}: goes through the door {name}")
            if torch_only and there not in TORCH | {"exceptions", "_checks"}:
                found.append(f"{module}: a torch room imports {name}")
            if here in {"datasets", "metrics"} and there != "exceptions":
                found.append(f"{module}: imports {name}")
    return found + [f"cycle through {name}" for name in cycles(edges)]


def cycles(edges):
    """Return the modules that reach themselves."""

    def reaches(start):
        seen, stack = set(), list(edges.get(start, ()))
        while stack:
            module = stack.pop()
            if module not in seen:
                seen.add(module)
                stack.extend(edges.get(module, ()))
        return seen

    return [module for module in edges if module in reaches(module)]


def test_the_package_keeps_its_layers():
    modules = sources()
    assert len(modules) > 40
    assert violations(modules) == []


TWINS = {
    "up": ("networks._mlp", "from skscore.estimators import SlicedScoreEstimator", "not below"),
    "up-late": ("_model", "def f():\n    import skscore.kernel._kde", "not below"),
    "to-the-top": ("metrics._c2st", "import skscore", "not below"),
    "through-the-top": ("kernel._kde", "from skscore import SlicedScoreEstimator", "not below"),
    "sibling": ("estimators._base", "from skscore.kernel import KDEScoreBaseline", "not below"),
    "sibling-low": ("samplers._mala", "from skscore.networks import MLP", "not below"),
    "sibling-relative": ("kernel._kde", "from ..estimators._base import x", "not below"),
    "sibling-package": ("kernel", "from .. import estimators", "not below"),
    "sibling-chains": ("_base", "def f():\n    import skscore._chains", "not below"),
    "up-training": ("_training", "from skscore import _descents", "not below"),
    "sibling-denoiser": ("_chains", "from skscore._denoiser import Denoiser", "not below"),
    "up-denoiser": ("_model", "def f():\n    from skscore._denoiser import x", "not below"),
    "up-descents": ("_chains", "from skscore import _descents", "not below"),
    "up-noise": ("noise._levels", "from skscore.samplers import langevin", "not below"),
    "up-integrate": ("_integrate", "from skscore.density import carry", "not below"),
    "sibling-density": ("density._flow", "from skscore.samplers import mala", "not below"),
    "door-denoiser": ("_denoiser", "from skscore import _torch", "goes through the door"),
    "numpy-denoiser": ("_denoiser", "import numpy", "a torch room imports numpy"),
    "numpy-density": ("density._flow", "import scipy.integrate", "a torch room imports scipy"),
    "numpy-noise": ("noise._grids", "import numpy as np", "a torch room imports numpy"),
    "shell-denoiser": ("_denoiser", "from skscore._validation import x", "a torch room imports"),
    "door": ("_training", "from skscore import _torch", "goes through the door"),
    "door-late": ("_model", "def f():\n    from skscore._torch import to_numpy", "the door"),
    "numpy": ("objectives._exact", "import numpy as np", "a torch room imports numpy"),
    "numpy-gaussian": ("kernel._gaussian", "from numpy import pi", "a torch room imports numpy"),
    "numpy-typing": ("_adamw", "if TYPE_CHECKING:\n    import numpy", "a torch room imports numpy"),
    "sklearn": ("_autodiff", "import sklearn.base", "a torch room imports sklearn"),
    "shell-tool": ("_training", "from skscore import _validation", "a torch room imports"),
    "affine": ("kernel._gaussian", "from skscore._affine import x", "a torch room imports"),
    "torch": ("metrics._c2st", "import torch.nn", "imports torch"),
    "torch-late": ("datasets._base", "def f():\n    from torch import nn", "imports torch"),
    "private": ("_base", "from sklearn.utils._param_validation import x", "private"),
    "private-name": ("_base", "from sklearn.base import _fit_context", "private"),
    "cycle": ("kernel._bandwidth", "from skscore.kernel import KDEScoreBaseline", "cycle"),
    "cycle-class": ("kernel._bandwidth", "class A:\n    from skscore.kernel import _kde", "cycle"),
    "cycle-try": ("_affine", "try:\n    from skscore import _base\nexcept: pass", "cycle"),
    "room": ("attic", "", "has no layer"),
}


@pytest.mark.parametrize(("module", "line", "message"), TWINS.values(), ids=TWINS)
def test_a_breach_is_found(module, line, message):
    modules = dict(sources())
    module = f"skscore.{module}"
    modules[module] = modules.get(module, "") + "\n" + line
    found = violations(modules)
    assert found
    assert any(message in breach for breach in found)
    assert all(module in breach or "cycle" in breach for breach in found)


@pytest.mark.parametrize("line", ["from skscore.kernel import _kde", "from . import _kde"])
def test_an_import_inside_a_function_is_no_cycle(line):
    modules = dict(sources())
    modules["skscore.kernel._bandwidth"] += f"\ndef f():\n    {line}"
    assert violations(modules) == []
