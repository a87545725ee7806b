"""scikit-learn's own checks, on every variant, without an expected failure."""

import pytest
from quick import marks
from sklearn.utils.estimator_checks import estimator_checks_generator
from variants import VARIANTS


def _cases():
    # Not `parametrize_with_checks`: its test names hold the address of a factory of networks, and
    # the workers of a parallel run must agree on the names.
    for name, estimator in VARIANTS.items():
        for i, (instance, check) in enumerate(estimator_checks_generator(estimator)):
            case = f"{name}-{i}-{check.func.__name__}"
            yield pytest.param(instance, check, id=case, marks=marks(name))


@pytest.mark.parametrize(("estimator", "check"), list(_cases()))
@pytest.mark.filterwarnings("ignore::skscore.exceptions.DataWarning")
def test_sklearn_check(estimator, check):
    check(estimator)


def test_every_estimator_is_in_the_table():
    import skscore
    from skscore._base import BaseScoreEstimator

    public = {getattr(skscore, name) for name in skscore.__all__ if name[0].isupper()}
    estimators = {cls for cls in public if issubclass(cls, BaseScoreEstimator)}
    assert estimators == {type(estimator) for estimator in VARIANTS.values()}
