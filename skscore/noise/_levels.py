"""The laws of the noise level in training: ``levels.draw(x, generator) -> (..., n, 1)``.

`OneLevel` alone has none to draw: there a network is trained by `denoising`, at that level.
Stratified: the levels of one batch are spread evenly over their law, so that no batch lacks the
small or the large ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from skscore._checks import real, refuse


def _stratified(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return a uniform number for each row, one in each of n equal parts, in random order."""
    *members, n, _ = x.shape
    options = {"generator": generator, "dtype": x.dtype, "device": x.device}
    order = torch.rand(*members, n, **options).argsort(dim=-1)  # type: ignore[arg-type, call-overload]
    return ((order + torch.rand(*members, n, **options)) / n).unsqueeze(-1)  # type: ignore[arg-type, call-overload]


@dataclass(frozen=True)
class OneLevel:
    """One level, which may be zero; nothing to draw.

    Parameters
    ----------
    sigma : float
        The level.

    Examples
    --------
    >>> from skscore.noise import OneLevel
    >>> OneLevel(0.3).sigmas
    (0.3,)
    """

    sigma: float
    many = False  # whether a model sees which level it is
    between = False  # whether the levels between those of `sigmas` are trained at too

    @property
    def sigmas(self) -> tuple[float, ...]:
        """The level."""
        return (self.sigma,)


@dataclass(frozen=True)
class _Range:
    """Abstract base: every level between two."""

    high: float
    low: float
    many = True
    between = True

    def __post_init__(self) -> None:
        real()("low", self.low)
        real()("high", self.high)
        if self.low > self.high:
            raise refuse("low", self.low, f"at most high={self.high!r}")

    @property
    def sigmas(self) -> tuple[float, ...]:
        """The two ends, the highest first."""
        return (self.high, self.low)


@dataclass(frozen=True)
class LogUniform(_Range):
    """Every level between two, uniform in its logarithm, and a share of the rows at the lowest.

    Parameters
    ----------
    high, low : float
        The ends.
    at_lowest : float, default=0.0
        Share of the rows at `low`, below 1.

    Raises
    ------
    ValueError
        When a parameter is not valid.

    Examples
    --------
    >>> import torch
    >>> from skscore.noise import LogUniform
    >>> sigma = LogUniform(10.0, 0.1).draw(torch.zeros(4, 2), torch.Generator().manual_seed(0))
    >>> (sigma > 1).sum()
    tensor(2)
    """

    at_lowest: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        real(high=1.0, closed=True)("at_lowest", self.at_lowest)

    def draw(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return a level for each row.

        Parameters
        ----------
        x : Tensor of shape (..., n, d)
            Rows.
        generator : torch.Generator
            Draws them.

        Returns
        -------
        Tensor of shape (..., n, 1)
            The levels.
        """
        share = (_stratified(x, generator) - self.at_lowest) / (1 - self.at_lowest)
        return self.low * torch.exp(share.clamp_min(0) * math.log(self.high / self.low))


@dataclass(frozen=True)
class LogNormal(_Range):
    """Every level between two, normal in its logarithm (Karras et al. 2022, table 1), cut there.

    A share of the rows is uniform in the logarithm below the center instead, since a normal law
    all but leaves out the lowest levels, which clean the flat parts of an image.

    Parameters
    ----------
    high, low : float
        The ends.
    center : float
        Median of the law that is cut.
    spread : float
        Standard deviation of the logarithm.
    uniform : float, default=0.0
        Share of the rows, below 1, that is log-uniform between `low` and `center`.

    Raises
    ------
    ValueError
        When a parameter is not valid.

    Examples
    --------
    >>> import torch
    >>> from skscore.noise import LogNormal
    >>> levels = LogNormal(10.0, 0.1, center=1.0, spread=1.0)
    >>> sigma = levels.draw(torch.zeros(4, 2), torch.Generator().manual_seed(0))
    >>> (sigma > 1).sum()
    tensor(2)
    """

    center: float
    spread: float
    uniform: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        real()("center", self.center)
        real()("spread", self.spread)
        real(high=1.0, closed=True)("uniform", self.uniform)

    def draw(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return a level for each row.

        Parameters
        ----------
        x : Tensor of shape (..., n, d)
            Rows.
        generator : torch.Generator
            Draws them.

        Returns
        -------
        Tensor of shape (..., n, 1)
            The levels.
        """
        share = (_stratified(x, generator).to(torch.float64) - self.uniform) / (1 - self.uniform)
        u = share.clamp_min(0)
        ends = (math.log(s / self.center) / self.spread for s in (self.low, self.high))
        first, last = torch.special.ndtr(torch.tensor(list(ends), dtype=u.dtype, device=u.device))
        z = torch.special.ndtri(first + (last - first) * u)
        sigma = self.center * torch.exp(self.spread * z)
        if self.uniform:
            below = 1 + share * (1 - self.uniform) / self.uniform  # in [0, 1) where it is uniform
            spaced = self.low * (max(self.center, self.low) / self.low) ** below
            sigma = torch.where(share < 0, spaced, sigma)
        return sigma.clamp(self.low, self.high).to(x.dtype)


@dataclass(frozen=True)
class Ladder:
    """Some levels, each as often as the others.

    Parameters
    ----------
    sigmas : sequence of float
        The levels, decreasing.

    Raises
    ------
    ValueError
        When a parameter is not valid.

    Examples
    --------
    >>> import torch
    >>> from skscore.noise import Ladder
    >>> sigma = Ladder([2.0, 1.0]).draw(torch.zeros(4, 2), torch.Generator().manual_seed(0))
    >>> sigma.sum()
    tensor(6.)
    """

    sigmas: Sequence[float]
    many = True
    between = False

    def __post_init__(self) -> None:
        if not len(self.sigmas):
            raise refuse("sigmas", self.sigmas, "one level or more")
        for sigma in self.sigmas:
            real()("each of sigmas", sigma)

    def draw(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return a level for each row.

        Parameters
        ----------
        x : Tensor of shape (..., n, d)
            Rows.
        generator : torch.Generator
            Draws them.

        Returns
        -------
        Tensor of shape (..., n, 1)
            The levels.
        """
        rung = (_stratified(x, generator) * len(self.sigmas)).long().clamp_max(len(self.sigmas) - 1)
        return torch.tensor(self.sigmas, dtype=x.dtype, device=x.device)[rung]


Levels = OneLevel | Ladder | LogNormal | LogUniform
