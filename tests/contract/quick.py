"""Which variants a quick run of the tests looks at; the others are slow."""

import pytest
from variants import VARIANTS

FIRST = ("kde", "kernel", "sliced", "denoising")  # "exact" has all but its objective of "sliced"


def marks(name):
    """Return the marks of what runs on a variant: only the first of a class is quick."""
    return () if name in FIRST else (pytest.mark.slow,)


EACH = [pytest.param(name, marks=marks(name)) for name in VARIANTS]
