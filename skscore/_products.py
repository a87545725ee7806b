"""The score of a mixture of products of one-dimensional densities.

``p(z) = sum_k pi_k prod_j f_kj(z_j)`` in coordinates ``z = B u``: columns that are independent
within each component. The logs of f_kj are cubic splines on a grid to each column, continued by
parabolas beyond it. With slopes ``g_k = (log f_kj)'``, bends ``h_k = (log f_kj)''`` and the
posterior shares ``gamma_k`` of the components,

    s_z = sum_k gamma_k g_k,    J_z = sum_k gamma_k (g_k g_k' + diag h_k) - s_z s_z',

and ``s = B' s_z``, ``J = B' J_z B``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

FINEST = 0.8  # steps of a grid: blurred by as much, its points are a density without a ripple


class Products(nn.Module):
    """The score of a mixture of products.

    Parameters
    ----------
    log_weights : Tensor of shape (..., K)
        Logs of pi; several mixtures at once for rows (..., n, r).
    coefficients : Tensor of shape (..., K, d, cells, 4)
        Of ``log f_kj`` in each cell of the grid: powers 0 to 3 of the distance from its left edge.
    start, step : Tensor of shape (d,)
        The left end of each grid, and the width of its cells.
    axes : Tensor of shape (d, r)
        B.
    """

    log_weights: Tensor
    coefficients: Tensor
    start: Tensor
    step: Tensor
    axes: Tensor

    def __init__(
        self, log_weights: Tensor, coefficients: Tensor, start: Tensor, step: Tensor, axes: Tensor
    ):
        super().__init__()
        self.register_buffer("log_weights", log_weights)
        self.register_buffer("coefficients", coefficients)
        self.register_buffer("start", start)
        self.register_buffer("step", step)
        self.register_buffer("axes", axes)

    @classmethod
    def stacked(cls, mixtures: Sequence[Products]) -> Products:
        """Return several mixtures on one grid as one, for rows (k, n, r) of their own."""
        weights = torch.stack([m.log_weights for m in mixtures])
        coefficients = torch.stack([m.coefficients for m in mixtures])
        first = mixtures[0]
        return cls(weights, coefficients, first.start, first.step, first.axes)

    def _cells(self, i: Tensor) -> Tensor:
        """Return the coefficients (..., K, n, d, 4) of cells (..., n, d)."""
        column = torch.arange(i.shape[-1], device=i.device)
        if self.coefficients.dim() == 4:
            return self.coefficients[:, column, i]
        members = [each[:, column, own] for each, own in zip(self.coefficients, i, strict=True)]
        return torch.stack(members)

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the logs of pi prod f (..., K, n), gamma (..., K, n, 1), g and h."""
        z = x @ self.axes.mT
        cells = self.coefficients.shape[-2]
        inside = torch.clamp(z, self.start, self.start + cells * self.step)
        beyond = (z - inside).unsqueeze(-3)
        i = ((inside - self.start) / self.step).long().clamp(0, cells - 1)  # 0 for NaN, too
        t = (inside - self.start - i * self.step).unsqueeze(-3)
        a, b, c, e = self._cells(i).unbind(dim=-1)
        log_f, slope, bend = (
            a + t * (b + t * (c + t * e)),
            b + t * (2 * c + 3 * t * e),
            2 * c + 6 * t * e,
        )
        bend = torch.where(beyond == 0, bend, bend.clamp(max=0))  # no tail turns upwards
        log_f = log_f + beyond * (slope + 0.5 * beyond * bend)
        logs = self.log_weights.unsqueeze(-1) + log_f.sum(dim=-1)
        return logs, torch.softmax(logs, dim=-2).unsqueeze(-1), slope + beyond * bend, bend

    def forward(self, x: Tensor) -> Tensor:
        """Return the score, (..., n, r) -> (..., n, r)."""
        _, share, g, _ = self._parts(x)
        return (share * g).sum(dim=-3) @ self.axes

    def energy(self, x: Tensor) -> Tensor:
        """Return -log p up to a constant, (n,)."""
        return -torch.logsumexp(self._parts(x)[0], dim=-2)

    def value_and_jvp(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``s`` and ``J v``."""
        _, share, g, h = self._parts(x)
        s = (share * g).sum(dim=-3)
        w = v @ self.axes.mT
        along = w.unsqueeze(-3)
        gw = (g * along).sum(dim=-1, keepdim=True)
        bent = (share * (gw * g + h * along)).sum(dim=-3)
        return s @ self.axes, (bent - (s * w).sum(dim=-1, keepdim=True) * s) @ self.axes

    def value_and_divergence(self, x: Tensor, metric: Tensor | None = None):
        """Return ``s`` and ``tr(A J)``."""
        _, share, g, h = self._parts(x)
        s = (share * g).sum(dim=-3)
        A = self.axes @ (self.axes.mT if metric is None else metric @ self.axes.mT)
        parts = ((g @ A) * g).sum(dim=-1) + (h * A.diagonal()).sum(dim=-1)
        divergence = (share.squeeze(-1) * parts).sum(dim=-2) - ((s @ A) * s).sum(dim=-1)
        return s @ self.axes, divergence

    def floats_per_row(self, n_features: int) -> int:
        """Return about how many numbers `value_and_divergence` holds at once, for one row."""
        return 12 * self.log_weights.shape[-1] * len(self.start)


class BlurredProducts(nn.Module):
    """The score of a mixture of products at many noise levels.

    Each density is one of weighted points of a grid, every point blurred by the noise; or by
    `FINEST` of a step of the grid, where the noise is less. Beyond the grid the score is that of
    the noise, while the splines of `at` go on as parabolas.

    Parameters
    ----------
    log_weights : Tensor of shape (..., K)
        Logs of pi; several mixtures at once for rows (..., n, d).
    atoms : Tensor of shape (..., K, d, points)
        The probability of each point.
    start, step : Tensor of shape (d,)
        The first point of each grid, and the distance between two.
    scale : Tensor of shape (d,)
        ``z = scale * u``.
    """

    log_weights: Tensor
    atoms: Tensor
    start: Tensor
    step: Tensor
    scale: Tensor

    def __init__(
        self, log_weights: Tensor, atoms: Tensor, start: Tensor, step: Tensor, scale: Tensor
    ):
        super().__init__()
        self.register_buffer("log_weights", log_weights)
        self.register_buffer("atoms", atoms)
        self.register_buffer("start", start)
        self.register_buffer("step", step)
        self.register_buffer("scale", scale)

    @classmethod
    def stacked(cls, mixtures: Sequence[BlurredProducts]) -> BlurredProducts:
        """Return several mixtures on one grid as one, for rows (k, n, d) of their own."""
        weights = torch.stack([m.log_weights for m in mixtures])
        atoms = torch.stack([m.atoms for m in mixtures])
        first = mixtures[0]
        return cls(weights, atoms, first.start, first.step, first.scale)

    def _columns(self, z: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Return log f_kj and its slope at z (..., n, d), levels (..., n, 1): (..., K, n, d).

        The logs are less what all components share at a row; at a point of the grid that is one
        number.
        """
        deviation = torch.maximum(sigma * self.scale, FINEST * self.step)
        grid = torch.arange(self.atoms.shape[-1], dtype=z.dtype, device=z.device)
        found = []
        for j in range(z.shape[-1]):
            away = (self.start[j] + self.step[j] * grid - z[..., j, None]) / deviation[..., j, None]
            logs = -0.5 * away.square()
            kernel = (logs - logs.amax(dim=-1, keepdim=True)).exp()
            p = self.atoms[..., j, :].mT
            f = kernel @ p
            found.append((f.log(), (kernel * away) @ p / f / deviation[..., j, None]))
        log_f, slope = (
            torch.stack(each, dim=-1).movedim(-2, -3) for each in zip(*found, strict=True)
        )
        return log_f, slope

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return the score, (..., n, d) -> (..., n, d), at levels (..., n, 1)."""
        log_f, slope = self._columns(x * self.scale, sigma)
        logs = self.log_weights.unsqueeze(-1) + log_f.sum(dim=-1)
        share = torch.softmax(logs, dim=-2).unsqueeze(-1)
        return (share * slope).sum(dim=-3) * self.scale

    def at(self, sigma: float) -> Products:
        """Return the mixture at one level, as cubic splines through the points of the grid."""
        grid = torch.arange(self.atoms.shape[-1], dtype=self.step.dtype, device=self.step.device)
        points = self.start + self.step * grid[:, None]
        level = torch.full_like(points[:, :1], sigma)
        value, slope = (each.movedim(-1, -2) for each in self._columns(points, level))
        h = self.step[:, None]
        rise = value.diff(dim=-1) / h
        left, right = slope[..., :-1], slope[..., 1:]
        parts = (value[..., :-1], left, (3 * rise - 2 * left - right) / h)
        last = (left + right - 2 * rise) / h**2
        coefficients = torch.stack([*parts, last], dim=-1)
        axes = torch.diag(self.scale)
        return Products(self.log_weights, coefficients, self.start, self.step, axes)
