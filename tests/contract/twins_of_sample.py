"""Twins that sample wrongly."""

import copy

import numpy as np
from sklearn.utils import check_random_state
from twins import breaks

from skscore import KDEScoreBaseline


@breaks("check_sample_shape")
class FlatSample(KDEScoreBaseline):
    def sample(self, n_samples=1, random_state=None):
        return np.squeeze(super().sample(n_samples, random_state))


@breaks("check_sample_shape")
class StandardisedSample(KDEScoreBaseline):
    def sample(self, n_samples=1, random_state=None):
        return self._affine.transform(super().sample(n_samples, random_state))


@breaks("check_sample_shape")
class CollapsedSample(KDEScoreBaseline):
    def sample(self, n_samples=1, random_state=None):
        rows = super().sample(n_samples, random_state)
        return self.location_ + 0.01 * (rows - self.location_)


@breaks("check_sample_honours_random_state")
class IgnoresTheSeed(KDEScoreBaseline):
    def sample(self, n_samples=1, random_state=None):
        return super().sample(n_samples, int(np.random.default_rng().integers(2**31)))


@breaks("check_sample_honours_random_state")
class AlwaysSeedZero(KDEScoreBaseline):
    def sample(self, n_samples=1, random_state=None):
        return super().sample(n_samples, 0)


@breaks("check_sample_honours_random_state")
class RepeatsWithoutSeed(KDEScoreBaseline):
    def sample(self, n_samples=1, random_state=None):
        return super().sample(n_samples, 0 if random_state is None else random_state)


@breaks("check_sample_honours_random_state")
class ConstructorSeed(KDEScoreBaseline):
    def __init__(self, bandwidth="scott", *, device="auto", random_state=None):
        super().__init__(bandwidth, device=device)
        self.random_state = random_state

    def sample(self, n_samples=1, random_state=None):
        seed = self.random_state if random_state is None else random_state
        return super().sample(n_samples, seed)


@breaks("check_sample_honours_random_state")
class OnlyInts(KDEScoreBaseline):
    def sample(self, n_samples=1, random_state=None):
        if isinstance(random_state, np.random.RandomState):
            random_state = 0
        return super().sample(n_samples, random_state)


@breaks("check_sample_honours_random_state")
class CopiesTheStream(KDEScoreBaseline):
    """Two calls with one RandomState give the same rows."""

    def sample(self, n_samples=1, random_state=None):
        return super().sample(n_samples, copy.deepcopy(random_state))


@breaks("check_sample_rows_are_independent")
class SeedPerSize(KDEScoreBaseline):
    def sample(self, n_samples=1, random_state=None):
        if isinstance(random_state, int):
            random_state += int(n_samples)
        return super().sample(n_samples, random_state)


@breaks("check_sample_rows_are_independent")
class RepeatsItsBlocks(KDEScoreBaseline):
    def sample(self, n_samples=1, random_state=None):
        rows = super().sample(n_samples, random_state)
        return rows[np.arange(len(rows)) % 256]


@breaks("check_sample_refuses_bad_sizes")
class CastsTheSize(KDEScoreBaseline):
    def sample(self, n_samples=1, random_state=None):
        return super().sample(int(n_samples), random_state)


@breaks("check_sample_refuses_bad_sizes")
class NamelessRefusal(KDEScoreBaseline):
    def sample(self, n_samples=1, random_state=None):
        try:
            return super().sample(n_samples, random_state)
        except ValueError:
            raise ValueError("a positive integer, please") from None


@breaks("check_sample_refuses_bad_sizes")
class TypeErrorForNone(KDEScoreBaseline):
    def sample(self, n_samples=1, random_state=None):
        if n_samples is None:
            raise TypeError("n_samples is None")
        return super().sample(n_samples, check_random_state(random_state))
