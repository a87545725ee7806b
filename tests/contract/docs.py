"""Reading docstrings in numpydoc's form."""

import importlib
import inspect
import pkgutil
import re

import skscore

PUBLIC_MODULES = [
    "skscore",
    *(
        name
        for _, name, _ in pkgutil.walk_packages(skscore.__path__, "skscore.")
        if not any(part.startswith("_") for part in name.split("."))
    ),
]


def sections(docstring):
    """Return the sections of a docstring; the text before the first is called ""."""
    text = inspect.cleandoc(docstring or "")
    titles = list(re.finditer(r"^(\w[\w ]*)\n(-+)$", text, re.MULTILINE))
    titles = [t for t in titles if len(t[1]) == len(t[2])]
    starts = [*(t.start() for t in titles), len(text)]
    bodies = (text[t.end() : end].strip("\n") for t, end in zip(titles, starts[1:], strict=True))
    return {"": text[: starts[0]]} | dict(zip((t[1] for t in titles), bodies, strict=True))


def entries(section):
    """Return the entries of a section of parameters, each name with its whole text, in order.

    An entry for several names, "a, b : int", counts for each.
    """
    found = {}
    for block in re.split(r"\n(?=\S)", section or ""):
        names = block.split("\n")[0].split(" : ")[0]
        found |= {name.strip().lstrip("*"): block for name in names.split(",") if name.strip()}
    return found


def public_objects():
    """Return each public class and function by its full name, and each method of a class."""
    found = {}
    for module_name in PUBLIC_MODULES:
        module = importlib.import_module(module_name)
        for name in module.__all__:
            member = getattr(module, name)
            if not (inspect.isclass(member) or inspect.isfunction(member)):
                continue
            found[f"{module_name}.{name}"] = member
            if not inspect.isclass(member):
                continue
            for method, value in inspect.getmembers(member):
                function = value.fget if isinstance(value, property) else value
                ours = (getattr(function, "__module__", None) or "").startswith("skscore")
                if ours and callable(function) and not method.startswith("_"):
                    found[f"{module_name}.{name}.{method}"] = value
    return found


def default_as_written(default):
    """Return how a docstring writes a default."""
    if callable(default):
        return f"{default.__module__}.{default.__name__}"
    return repr(default).replace("'", '"')


def signature(member):
    """Return the parameters of a function, a method or a class, without self."""
    parameters = inspect.signature(member).parameters
    return {name: p for name, p in parameters.items() if name != "self"}
