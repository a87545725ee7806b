"""Images of a bright column, and a small estimator of them."""

import math

import numpy as np

from skscore import DenoisingScoreEstimator

SHAPE = (1, 4, 6)
SIZE = math.prod(SHAPE)


def images(n=100, seed=0):
    """Return images of a bright column on a dark ground."""
    rng = np.random.default_rng(seed)
    X = np.zeros((n, *SHAPE))
    X[np.arange(n), 0, :, rng.integers(6, size=n)] = 1.0
    return (X + 0.05 * rng.uniform(size=X.shape)).reshape(n, -1)


def small(**params):
    """Return an estimator of such images that is fitted in a moment."""
    known = {"network": "unet", "image_shape": SHAPE, "hidden_layer_sizes": (8,), "max_iter": 3}
    return DenoisingScoreEstimator(**{**known, "random_state": 0, **params})
