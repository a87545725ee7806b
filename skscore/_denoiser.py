"""A score model at every noise level: Gaussian skip, and a preconditioned residual that is learnt.

``S = P^-1 = Q diag(lam) Q'`` the covariance of the data in coordinates u, ``S_sigma = S + sigma^2``
that of the data blurred at level sigma. The score is

    s(x, sigma) = -S_sigma^-1 x + h G F(G x, log sigma),
    G = S^1/2 S_sigma^-1 sqrt(1 + sigma^2 / m),  h = sqrt(m / (sigma^2 + FINE^2 m)),  m = tr S / d,

so that for Gaussian data F = 0 is exact at every level. F returns numbers of order one, and sees
such, but smaller ones in directions that the noise hides. At ``S = I`` and above FINE this is the
preconditioning of Karras et al. (2022, table 1); below, their h = 1 / sigma grows without bound,
while the residual score does not: there it would leave the small levels, and the field that
`score_samples` returns, to chance. G keeps subspaces: if the data are Gaussian but for the
directions V of S^-1/2 x, then at every level ``F(y) = V f(V'y)``. The whole may be averaged with
the score of a mixture, which is known at every level.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from skscore._linear import eigen, from_eigen, times, transposed
from skscore._mixture import Mixture
from skscore._model import ScoreModel
from skscore._products import BlurredProducts
from skscore.networks import Conjugate, Memory, bind, conjugate

FINE = 0.1  # deviations below which the residual score stops growing as the noise shrinks


def neighbours(values: Tensor, rows: Tensor) -> Tensor:
    """Return values (..., m, 1) as one for each row (..., n, d), each for n / m neighbours."""
    n, m = rows.shape[-2], values.shape[-2]
    if m == n:
        return values
    return values.expand(*values.shape[:-1], n // m).flatten(-2).unsqueeze(-1)


class Denoiser(nn.Module):
    """The score of the data blurred by N(0, sigma^2 I), for all sigma.

    Parameters
    ----------
    network : nn.Module
        F, rows and a condition in; with d outputs, or one for an energy.
    precision : Tensor of shape (d, d) or ()
        P, of the fitted Gaussian; its mean is zero. A number is a multiple of the identity.
    energy : bool
        Whether the network is an energy.
    conditional : bool, default=True
        Whether the network takes the log of the noise level beside the rows.
    mixture : Mixture or BlurredProducts, optional
        Another estimate of the whole field, of the data without noise.
    share : float, default=0.0
        Of the mixture, in the average of the two.
    """

    precision: Tensor
    variances: Tensor
    mean_variance: Tensor
    basis: Tensor

    def __init__(
        self,
        network: nn.Module,
        precision: Tensor,
        *,
        energy: bool,
        conditional: bool = True,
        mixture: Mixture | BlurredProducts | None = None,
        share: float = 0.0,
    ):
        super().__init__()
        self.network, self.has_energy, self.conditional = network, energy, conditional
        self.mixture, self.share = mixture, share
        for name in ("precision", "variances", "mean_variance", "basis"):
            self.register_buffer(name, torch.empty(0))
        self.set_gaussian(precision)

    def mixed(self, mixture: Mixture | BlurredProducts, share: float) -> Denoiser:
        """Return the model of the same network with a share of a mixture."""
        return Denoiser(
            self.network,
            self.precision,
            energy=self.has_energy,
            conditional=self.conditional,
            mixture=mixture,
            share=share,
        )

    def with_network(self, network: nn.Module) -> Denoiser:
        """Return the model of another network."""
        return Denoiser(
            network, self.precision, energy=self.has_energy, conditional=self.conditional
        )

    def set_gaussian(self, precision: Tensor) -> None:
        """Set the Gaussian that the network stands over."""
        eigenvalues, basis = eigen(precision)
        like = precision
        self.precision, self.variances = like.clone(), (1 / eigenvalues).to(like)
        self.mean_variance = self.variances.mean()
        self.basis = basis.to(like)

    # Factors of the formula above; sigma a number, or (..., n, 1) ------------------------------

    def _blurred(self, sigma: Tensor) -> Tensor:
        return self.variances + sigma**2

    def _inside(self, sigma: Tensor) -> Tensor:
        """Return the eigenvalues of G."""
        lam, blurred = self.variances, self._blurred(sigma)
        # Ratios: their products may leave the range of float32.
        return (lam / blurred).sqrt() * ((1 + sigma**2 / self.mean_variance) / blurred).sqrt()

    def _height(self, sigma: Tensor) -> Tensor:
        """Return h."""
        lam = self.mean_variance
        return (lam / (sigma**2 + FINE**2 * lam)).sqrt()

    def _k(self, sigma: Tensor) -> Tensor:
        """Return the eigenvalues of h G."""
        return self._height(sigma) * self._inside(sigma)

    def _condition(self, sigma: Tensor) -> Tensor:
        return torch.log(sigma / self.mean_variance.sqrt())

    def _into(self, x: Tensor) -> Tensor:
        """Return ``Q' x`` for rows x: their coordinates in the basis."""
        return times(x, self.basis)

    def _out_of(self, a: Tensor) -> Tensor:
        """Return ``Q a`` for coordinates a."""
        return times(a, transposed(self.basis))

    def _times(self, x: Tensor, factors: Tensor) -> Tensor:
        """Return ``Q diag(factors) Q' x`` for rows x."""
        return self._out_of(self._into(x) * factors)

    # Training: a level to each row, or to each few neighbours ------------------------------------

    def _evaluate(self, a: Tensor, sigma: Tensor) -> Tensor:
        """Return F at rows G x, given in the basis, which have levels (..., m, 1)."""
        rows = self._out_of(a)
        if not self.conditional:
            return self.network(rows)
        condition = self._condition(sigma)
        if not getattr(self.network, "shares_conditions", False):
            condition = neighbours(condition, rows)
        return self.network(rows, condition)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return the field at rows (..., n, d) with levels (..., n, 1).

        Fewer levels (..., m, 1) are shared by neighbours, n / m at a time.
        """
        field = self._learnt(x, sigma)
        if self.mixture is None:
            return field
        return torch.lerp(field, self.mixture(x, neighbours(sigma, x)), self.share)

    def _learnt(self, x: Tensor, sigma: Tensor) -> Tensor:
        level = neighbours(sigma, x)
        blurred, height, inside = self._blurred(level), self._height(level), self._inside(level)
        if not self.has_energy:
            a = self._into(x)
            F = self._into(self._evaluate(a * inside, sigma))
            return self._out_of(height * inside * F - a / blurred)
        training = torch.is_grad_enabled()
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            a = self._into(x)
            energy = (height * self._evaluate(a * inside, sigma)).sum()
            (gradient,) = torch.autograd.grad(energy, x, create_graph=training)
        return -self._out_of(a.detach() / blurred) - gradient

    def _unit(self, level: Tensor) -> Tensor:
        # Two factors: their product may leave the range of float32.
        lam = self.variances
        return (lam / self._blurred(level)).sqrt() / (level**2 + FINE**2 * lam).sqrt()

    def weigh(self, error: Tensor, sigma: Tensor) -> Tensor:
        """Return an error of the score, in the basis, in units that make all levels count alike.

        In each direction the factor h G of data that have its variance in every direction.
        """
        return self._into(error) / self._unit(neighbours(sigma, error))

    @contextmanager
    def _unseen(self, x: Tensor, target: Tensor, sigma: Tensor) -> Iterator[None]:
        """Keep from what networks remember the rows that x were before noise came."""
        memories = [m for m in self.network.modules() if isinstance(m, Memory)]
        if memories:
            own = (x + neighbours(sigma, x) ** 2 * target) / self.mean_variance.sqrt()
            members = own.view(-1, *own.shape[-2:])
            for i, memory in enumerate(memories):  # each member's, in their order
                memory.own = members[i * len(members) // len(memories)]
        try:
            yield
        finally:
            for memory in memories:
                memory.own = None

    def weighed_error(self, x: Tensor, target: Tensor, sigma: Tensor) -> Tensor:
        """Return what `weigh` makes of the field at rows and levels, less a target.

        The target is that of denoising: without noise the rows were ``x + sigma^2 target``.
        """
        with self._unseen(x, target, sigma):
            return self._weighed_error(x, target, sigma)

    def _weighed_error(self, x: Tensor, target: Tensor, sigma: Tensor) -> Tensor:
        if self.has_energy or self.mixture is not None:
            return self.weigh(self(x, sigma) - target, sigma)
        # Linear in F: all else is known before, and has no part in a backward pass.
        level, a = neighbours(sigma, x), self._into(x)
        inside, unit = self._inside(level), self._unit(level)
        F = self._into(self._evaluate(a * inside, sigma))
        known = (a / self._blurred(level) + self._into(target)) / -unit
        return torch.addcmul(known, self._height(level) * inside / unit, F)

    def outputs(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return F, or what the gradient of an energy has in its place, at rows and levels."""
        a, level = self._into(x), neighbours(sigma, x)
        residual = self._into(self._learnt(x, sigma)) + a / self._blurred(level)
        return self._out_of(residual / self._k(level))

    # Evaluating: one level for all rows ---------------------------------------------------------

    def _bound(self, sigma: Tensor):
        """Return the network of rows alone."""
        condition = self._condition(sigma).view(1)
        return bind(self.network, condition) if self.conditional else self.network

    def _level(self, sigma: float) -> Tensor:
        return torch.tensor(sigma, dtype=self.basis.dtype, device=self.basis.device)

    def at(self, sigma: float) -> ScoreModel:
        """Return the model of the data blurred at one level."""
        level, Q = self._level(sigma), self.basis
        inside = from_eigen(Q, self._inside(level))
        precision = from_eigen(Q, 1 / self._blurred(level))
        outside = (
            self._height(level).view(1, 1) if self.has_energy else from_eigen(Q, self._k(level))
        )
        network = conjugate(self._bound(level), inside, outside)
        mixture = None if self.mixture is None else self.mixture.at(sigma)
        return ScoreModel(
            network, precision, energy=self.has_energy, mixture=mixture, share=self.share
        )

    def flow(self, sigma: float):
        """Return the velocity of the probability flow, ``dw / d log sigma``.

        In coordinates ``w = S_sigma^-1/2 x``, where the blurred Gaussian is N(0, I) at each level,
        and what moves is due to the residual r alone: ``-sigma^2 S_sigma^-1/2 r(S_sigma^1/2 w)``.
        """
        level, Q = self._level(sigma), self.basis
        root = self._blurred(level).sqrt()
        if self.has_energy or self.mixture is not None:
            outside = from_eigen(Q, -(level**2) / root)
            return Conjugate(self.at(sigma).residual, from_eigen(Q, root), outside)
        inside = from_eigen(Q, self._inside(level) * root)
        outside = from_eigen(Q, -(level**2) * self._k(level) / root)
        return conjugate(self._bound(level), inside, outside)

    def to_flow(self, x: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        """Return the coordinates w of rows blurred at a level, and ``log |det dw/dx|``."""
        blurred = self._blurred(self._level(sigma))
        log_det = -0.5 * blurred.log().expand(x.shape[-1]).sum()
        return self._times(x, blurred.rsqrt()), log_det

    def from_flow(self, w: Tensor, sigma: float) -> Tensor:
        """Return the rows x of coordinates w at a level."""
        return self._times(w, self._blurred(self._level(sigma)).sqrt())
