"""What a fitted latent variable model answers: codes, rows, and the evidence of rows."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from skscore import _torch
from skscore._checks import flag, integer
from skscore._checks import random_state as random_state_of
from skscore._validation import refuse_oversize
from skscore.latent._design import Array, Design, refuse_grey
from skscore.latent._encoders import place
from skscore.latent._evidence import evidence
from skscore.latent._row_noise import RowNoise
from skscore.latent._training import VAE, negative_log_prior

BLOCK_ROWS = 256  # rows at once; of samples, those that share one stream of noise
BLOCK_DRAWS = 256  # codes at once, to a row
BLOCK_FLOATS = 2**24  # most that the decoder takes at once, in the evidence
FARTHEST = 1e15  # deviations of a row beyond which float32 cannot square what is left of it
N_PROPOSED = 256  # draws of the encoder that a proposal is first fitted to


@dataclass(frozen=True)
class LikelihoodDetails:
    """What `score_details` returns, in nats per row.

    Attributes
    ----------
    value : float
        Mean log likelihood: the score itself.
    standard_error : float
        Of `value`, over the rows; NaN of one row.
    importance_error : float
        The part of it that importance sampling is to blame for, at these rows.
    importance_bias : float
        About how far `value` is below the truth, since the logarithm of an unbiased estimate is
        biased: minus half the mean relative variance.
    effective_share : float
        Median over rows of the effective sample size, as a share of the draws.
    smallest_share : float
        The smallest of these shares. Where it is near zero that row's evidence is a lower bound.
    n_draws : int
        Draws to a row.
    """

    value: float
    standard_error: float
    importance_error: float
    importance_bias: float
    effective_share: float
    smallest_share: float
    n_draws: int


class Queries(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Abstract base: the methods of a fitted model, which is a design and its networks."""

    _design: Design
    _weights: dict
    _model: VAE
    n_features_in_: int

    def _query(self, X: ArrayLike) -> Array:
        check_is_fitted(self)
        rows: Array = validate_data(self, X, dtype=np.float64, reset=False)
        refuse_grey(rows, self._design.likelihood)
        return rows

    @property
    def _device(self) -> torch.device:
        return self._model.encoder.trunk.weights[0].device

    def _blocks(self, n: int, seed: int, size: int = BLOCK_ROWS) -> Iterator:
        """Yield slices of rows, each with a stream of its own."""
        for block, start in enumerate(range(0, n, size)):
            yield slice(start, start + size), _torch.generator(seed, self._device, block=block)

    def _row_noise(self, keys: Iterable[tuple[int, ...]]) -> RowNoise:
        """Return a stream of noise for each row, by its key."""
        seeds = [int(np.random.SeedSequence(key).generate_state(1)[0]) for key in keys]
        return RowNoise(seeds, self._device)

    def _standard(self, X: Array, dtype=torch.float64) -> torch.Tensor:
        return _torch.to_tensor(self._design.columns.standardise(X), self._device, dtype)

    def transform(self, X: ArrayLike) -> Array:
        """Return the mean code of each row, E[z | x] under the encoder.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_components)
            Codes; the prior of each is N(0, 1). The same at each call. That of an implicit encoder
            is a mean over 256 draws, in pairs of opposite noise: off by some hundredths of the
            code's deviation at most, where 256 without pairs would be off by a sixteenth.

        Raises
        ------
        ValueError
            When X is not as in `fit`: other columns, NaN or infinity, or, with the Bernoulli
            likelihood, values outside [0, 1].
        """
        X = self._query(X)
        with _torch.isolated():
            parts = [
                _torch.to_numpy(self._model.encoder.mean(self._standard(X[rows])))
                for rows, _ in self._blocks(len(X), 0)
            ]
        return np.concatenate(parts)

    def encode(self, X: ArrayLike, n_draws: int = 1, random_state=None) -> Array:
        """Draw codes from the encoder, q(z | x).

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        n_draws : int, default=1
            Codes to each row.
        random_state : int, RandomState instance or None, default=None
            Seeds this call.

        Returns
        -------
        ndarray of shape (n_draws, n_samples, n_components)
            Draw by draw: ``encode(X, 5)[:, 0]`` are five codes of the first row.

        Raises
        ------
        MemoryError
            When this machine cannot hold the codes.
        """
        X = self._query(X)
        integer(1)("n_draws", n_draws)
        n_draws, d = int(n_draws), self._design.n_components
        refuse_oversize(n_draws * len(X), d, "n_draws * n_samples")
        seed = self._seed(random_state)
        encoder, codes = self._model.encoder, np.empty((n_draws, len(X), d))
        with _torch.isolated():
            for start in range(0, len(X), BLOCK_ROWS):
                rows = slice(start, start + BLOCK_ROWS)
                reading = encoder.read(self._standard(X[rows]))
                noise = self._row_noise((seed, start + i) for i in range(len(reading.mu)))
                for first in range(0, n_draws, BLOCK_DRAWS):
                    # A whole block: draw j of a row depends neither on n_draws nor on other rows.
                    normal = noise.normal(BLOCK_DRAWS, encoder.n_noise).movedim(0, 1)
                    eps = encoder.from_normal(normal[: n_draws - first])
                    z = place(reading, encoder.standard(eps, reading))
                    codes[first : first + BLOCK_DRAWS, rows] = _torch.to_numpy(z)
        return codes

    def inverse_transform(self, Z: ArrayLike) -> Array:
        """Return the mean row of each code, E[x | z].

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_components)
            Codes.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Rows in the units of X.

        Raises
        ------
        ValueError
            When codes have another number of columns than `n_components`.
        """
        check_is_fitted(self)
        codes: Array = check_array(Z, dtype=np.float64, input_name="Z")
        d = self._design.n_components
        if codes.shape[1] != d:
            raise ValueError(
                f"Z has {codes.shape[1]} columns, but {type(self).__name__} was fitted with "
                f"n_components={d}. Pass codes as transform returns them."
            )
        with _torch.isolated():
            parts = [
                self._rows(self._model.decoder.mean(_torch.to_tensor(codes[rows], self._device)))
                for rows, _ in self._blocks(len(codes), 0)
            ]
        return np.concatenate(parts)

    def sample(self, n_samples: int = 1, random_state=None, *, mean: bool = False) -> Array:
        """Draw rows from the fitted model: ``z ~ N(0, I)``, then ``x ~ p(x | z)``.

        Parameters
        ----------
        n_samples : int, default=1
            How many.
        random_state : int, RandomState instance or None, default=None
            Seeds this call. The seed of the constructor has no part in it.
        mean : bool, default=False
            Whether to return ``E[x | z]`` in place of a draw: pictures without the likelihood's
            noise, which are smoother than any row of the model.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Rows in the units of X; with the Bernoulli likelihood zeros and ones.

        Raises
        ------
        ValueError
            When a parameter is not valid.
        MemoryError
            When this machine cannot hold the samples.
        """
        check_is_fitted(self)
        integer(1)("n_samples", n_samples)
        flag("mean", mean)
        n_samples = int(n_samples)
        refuse_oversize(n_samples, self.n_features_in_, "n_samples")
        seed, d, parts = self._seed(random_state), self._design.n_components, []
        with _torch.isolated():
            for rows, stream in self._blocks(n_samples, seed):
                size = (BLOCK_ROWS, d)  # a whole block: row i does not depend on n_samples
                z = torch.randn(size, generator=stream, dtype=torch.float64, device=self._device)
                decoder = self._model.decoder
                x = decoder.mean(z) if mean else decoder.draw(z, stream)
                parts.append(self._rows(x[: n_samples - rows.start]))
        return np.concatenate(parts)

    def _rows(self, x: torch.Tensor) -> Array:
        out = _torch.to_numpy(x)
        return out if self._design.likelihood == "bernoulli" else self._design.columns.restore(out)

    @staticmethod
    def _seed(random_state) -> int:
        random_state_of("random_state", random_state)
        return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))

    def log_density(self, X: ArrayLike) -> Array:
        """Return the log likelihood of each row, log p(x), in nats.

        By importance sampling, as `score_details` says.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            In the units of X; a constant column has no part in it. The same at each call, and
            whatever the other rows are.

        Raises
        ------
        ValueError
            When X is not as in `fit`: other columns, NaN or infinity, rows too far away for
            float64 or, with the Bernoulli likelihood, values outside [0, 1].
        """
        return self._evidence(self._query(X), 512)[0]

    def score(self, X: ArrayLike, y=None) -> float:
        """Return the mean log likelihood in nats per row; greater is better.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows that were not trained on.
        y : Ignored
            Not used, here for the convention of scikit-learn.

        Returns
        -------
        float
            The score.

        Raises
        ------
        ValueError
            When X is not as in `fit`: other columns, NaN or infinity, rows too far away for
            float64 or, with the Bernoulli likelihood, values outside [0, 1].
        """
        return self.score_details(X).value

    def score_details(self, X: ArrayLike, *, n_draws: int = 512) -> LikelihoodDetails:
        """Return the mean log likelihood with its errors.

        The implicit encoder has no density, so that no estimate may need one. The evidence of each
        row is estimated by importance sampling from a mixture of inflated Gaussians and the prior,
        which is fitted to draws of the encoder and refitted to its own weighted draws. So it is
        the decoder that is judged, and both encoders are judged alike.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows that were not trained on.
        n_draws : int, default=512
            Importance draws to each row, in the last round.

        Returns
        -------
        LikelihoodDetails
            With `value`, `standard_error`, `importance_error`, `importance_bias`,
            `effective_share`, `smallest_share` and `n_draws`.

        Raises
        ------
        ValueError
            When X is not as in `fit` or too far away for float64, or a parameter is not valid.
        """
        X = self._query(X)
        integer(2)("n_draws", n_draws)
        values, effective = self._evidence(X, int(n_draws))
        variance = 1 / effective - 1 / n_draws  # of the mean weight over its square
        of = np.unique(X, axis=0, return_inverse=True)[1].ravel()
        errors = np.bincount(of, weights=np.sqrt(variance))  # rows that are equal err alike
        return LikelihoodDetails(
            value=float(values.mean()),
            standard_error=float(values.std() / np.sqrt(len(X) - 1)) if len(X) > 1 else np.nan,
            importance_error=float(np.linalg.norm(errors) / len(X)),
            importance_bias=float(-0.5 * variance.mean()),
            effective_share=float(np.median(effective) / n_draws),
            smallest_share=float(effective.min() / n_draws),
            n_draws=int(n_draws),
        )

    def _evidence(self, X: Array, n_draws: int) -> tuple[Array, Array]:
        """Return the log likelihood and the effective number of draws of each row.

        The noise of a row is drawn from its values, so that its likelihood is a function of them.
        """
        design, encoder, parts = self._design, self._model.encoder, []
        grey, volume = design.likelihood == "bernoulli", design.log_volume
        floats = X.shape[1] + 2 * sum(design.hidden_layer_sizes)  # of one draw in the decoder
        refuse_oversize(n_draws, floats, "n_draws")
        size = max(1, min(BLOCK_ROWS, BLOCK_FLOATS // (n_draws * floats)))
        with _torch.isolated(), _torch.one_thread:
            # A network of the caller's is in the units of X, which float32 may not resolve.
            dtype = torch.float32 if design.decoder is None else torch.float64
            decoder = copy.deepcopy(self._model.decoder).to(dtype)
            for start in range(0, len(X), size):
                block = X[start : start + size]
                u = self._standard(block)
                target = _torch.to_tensor(block, self._device) if grey else u
                x = target.to(dtype)[:, None]

                def log_joint(z, x=x):
                    likelihood = decoder.log_prob(x, z.to(dtype)).to(torch.float64)
                    return likelihood - volume - negative_log_prior(z)

                noise = self._row_noise((seed,) for seed in _torch.seeds_of(block))
                normal = noise.normal(N_PROPOSED, encoder.n_noise).movedim(0, 1)
                draws = encoder(u, encoder.from_normal(normal)).movedim(0, 1)
                near = (u.abs() < FARTHEST).all(dim=1) & log_joint(draws).isfinite().any(dim=1)
                if not near.all():
                    raise ValueError(
                        f"X is too large: row {start + int(near.int().argmin())} is so far from "
                        f"the training rows that its likelihood leaves the float range. Leave "
                        f"such rows out."
                    )
                found = evidence(log_joint, draws, noise=noise, n_draws=n_draws)
                parts.append([_torch.to_numpy(value) for value in found])
        values, effective = (np.concatenate(column) for column in zip(*parts, strict=True))
        return values, effective
