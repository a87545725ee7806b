"""Encoders ``z = g(x, eps)`` and the score network of the one that has no density.

Both are ``z = mu(x) + sd(x) u`` with ``u = eps`` (Gaussian) or ``u = b(eps) + r(eps, c(x))``
(implicit): ``mu``, ``log sd`` and the context ``c`` come from one network of x, the trunk. The law
of u, and so the score ``s_psi(z | x) = s_u(u | c) / sd``, depends on x through c alone. Both start
as the prior, nearly so where u has humps, and the score network ``s_u = -u + r(u, c)`` as that of
the prior.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skscore.networks import MLP

N_CONTEXT = 32  # numbers that the noise network and the score see of x
# u starts as .5 normal + .77 sign + .39 sign in each column: four narrow humps that add up to
# nearly N(0, 1), with its variance. Each hump can go to a mode of its own, without a tear.
HUMPS = (0.5, 0.75**0.5 * 0.8**0.5, 0.75**0.5 * 0.2**0.5)
NORMAL = (1.0, 0.0, 0.0)
N_MEAN = 256  # draws that the mean code is taken over
LOG_SD = (-9.0, 4.0)  # range of log sd


class Reading(NamedTuple):
    """What the trunk says of rows: (n, d), (n, d) and (n, n_context)."""

    mu: Tensor
    log_sd: Tensor
    context: Tensor


class Encoder(nn.Module):
    """Abstract base: the trunk, and ``z = mu + sd u``."""

    n_noise: int

    def __init__(
        self,
        n_features: int,
        n_components: int,
        n_context: int,
        *,
        generator: torch.Generator,
        hidden_layer_sizes: Sequence[int],
        activation: str,
    ):
        super().__init__()
        self.n_components = n_components
        self.trunk = MLP(
            n_features,
            2 * n_components,
            generator=generator,
            hidden_layer_sizes=hidden_layer_sizes,
            activation=activation,
        )
        # Beside the zeros for mu and log sd: the context must tell rows apart. It is drawn last, so
        # that the rest of the trunk is that of any encoder.
        W, b = self.trunk.weights[-1], self.trunk.biases[-1]
        C = torch.empty(len(W), n_context, dtype=W.dtype, device=W.device)
        nn.init.normal_(C, std=1 / math.sqrt(len(W)), generator=generator)
        self.trunk.weights[-1] = nn.Parameter(torch.cat([W.data, C], dim=1))
        self.trunk.biases[-1] = nn.Parameter(torch.cat([b.data, b.data.new_zeros(n_context)]))

    def read(self, x: Tensor) -> Reading:
        """Evaluate the trunk."""
        d = self.n_components
        mu, log_sd, context = self.trunk(x).tensor_split([d, 2 * d], dim=-1)
        return Reading(mu, log_sd.clamp(*LOG_SD), context)

    def noise(self, m: int, n: int, generator: torch.Generator) -> Tensor:
        """Draw noise (m, n, n_noise)."""
        return self.from_normal(self.normal((m, n, self.n_noise), generator))

    def normal(self, size: tuple[int, int, int], generator: torch.Generator) -> Tensor:
        """Draw normal numbers of the type of the weights."""
        W = self.trunk.weights[0]
        return torch.randn(size, generator=generator, dtype=W.dtype, device=W.device)

    def from_normal(self, normal: Tensor) -> Tensor:
        """Return noise (..., n_noise) that is made of normal numbers."""
        return normal

    def base(self, eps: Tensor) -> Tensor:
        """Return what u starts as, (m, n, d): mean 0 and variance 1 in each column."""
        return eps

    def standard(self, eps: Tensor, reading: Reading) -> Tensor:
        """Return u for noise (m, n, n_noise), as (m, n, d)."""
        raise NotImplementedError

    def mean(self, x: Tensor) -> Tensor:
        """Return ``E[z | x]``, (n, d)."""
        raise NotImplementedError

    def forward(self, x: Tensor, eps: Tensor) -> Tensor:
        """Return codes (m, n, d) of rows (n, n_features) for noise (m, n, n_noise)."""
        reading = self.read(x)
        return place(reading, self.standard(eps, reading))


def place(reading: Reading, u: Tensor) -> Tensor:
    """Return ``z = mu + sd u``."""
    return reading.mu + reading.log_sd.exp() * u


class GaussianEncoder(Encoder):
    """``q(z | x) = N(mu, diag(sd^2))``."""

    def __init__(self, n_features: int, n_components: int, **options):
        super().__init__(n_features, n_components, 0, **options)
        self.n_noise = n_components

    def standard(self, eps: Tensor, reading: Reading) -> Tensor:
        """Return the noise itself."""
        return eps

    def mean(self, x: Tensor) -> Tensor:
        """Return mu."""
        return self.read(x).mu

    @staticmethod
    def divergence(reading: Reading) -> Tensor:
        """Return ``KL(q(z | x) || N(0, I))``, in closed form."""
        mu, log_sd, _ = reading
        return 0.5 * (mu**2 + (2 * log_sd).exp() - 1 - 2 * log_sd).sum(dim=-1)


class ImplicitEncoder(Encoder):
    """A network of x and noise, with more noise than codes; its law has no density in closed form.

    Parameters
    ----------
    n_features, n_components : int
        Columns of x and z.
    generator : torch.Generator
        Draws the initial weights.
    in_parts : bool, default=True
        Whether u starts in humps, each of which can go to a mode of its own, or as N(0, I).
    hidden_layer_sizes, activation
        Of the trunk; the noise network has two layers of the narrowest width, at most 96.
    """

    def __init__(
        self,
        n_features: int,
        n_components: int,
        *,
        generator: torch.Generator,
        in_parts: bool = True,
        hidden_layer_sizes: Sequence[int],
        activation: str,
    ):
        super().__init__(
            n_features,
            n_components,
            N_CONTEXT,
            generator=generator,
            hidden_layer_sizes=hidden_layer_sizes,
            activation=activation,
        )
        self.n_noise = 3 * n_components  # normal noise, and two signs
        self.humps = HUMPS if in_parts else NORMAL
        width = min([96, *hidden_layer_sizes])
        self.bend = MLP(
            self.n_noise + N_CONTEXT,
            n_components,
            generator=generator,
            hidden_layer_sizes=(width, width),
            activation=activation,
        )

    def from_normal(self, normal: Tensor) -> Tensor:
        """Return normal noise and signs."""
        kept, signs = normal.tensor_split([self.n_components], dim=-1)
        return torch.cat([kept, signs.sign()], dim=-1)

    def mean(self, x: Tensor) -> Tensor:
        """Return the mean over noise in opposite pairs, the same at each call and for each row."""
        stream = torch.Generator(device=x.device).manual_seed(0)
        half = self.noise(N_MEAN // 2, 1, stream)
        eps = torch.cat([half, -half]).expand(-1, len(x), -1)
        return self(x, eps).mean(dim=0)

    def base(self, eps: Tensor) -> Tensor:
        """Return ``b(eps)``: a normal and, in parts, two signs."""
        normal, coarse, fine = eps.split(self.n_components, dim=-1)
        a, b, c = self.humps
        return a * normal + b * coarse + c * fine

    def standard(self, eps: Tensor, reading: Reading) -> Tensor:
        """Return ``u = b(eps) + r(eps, c)``."""
        rows = beside(eps, reading.context)
        r = self.bend(rows.flatten(0, 1)).view(*rows.shape[:2], -1)
        return self.base(eps) + r


class ConditionalScore(nn.Module):
    """``s_u(u | c) = -u + r(u, c)``, the score of the implicit encoder's u.

    Parameters
    ----------
    n_components : int
        Columns of u.
    generator : torch.Generator
        Draws the initial weights.
    width : int, default=96
        Of the two hidden layers.
    activation : str, default="silu"
        A smooth one.
    """

    def __init__(
        self,
        n_components: int,
        *,
        generator: torch.Generator,
        width: int = 96,
        activation: str = "silu",
    ):
        super().__init__()
        self.residual = MLP(
            n_components + N_CONTEXT,
            n_components,
            generator=generator,
            hidden_layer_sizes=(width, width),
            activation=activation,
        )

    def at(self, context: Tensor) -> BoundScore:
        """Return the field of u at rows of context (n, n_context)."""
        return BoundScore(self.residual, context)


class BoundScore:
    """``s_u(. | c)`` as a score function of rows u, one row of c to each."""

    def __init__(self, residual: MLP, context: Tensor):
        self.residual, self.context = residual, context

    def __call__(self, u: Tensor) -> Tensor:
        """Return the field (n, d)."""
        return self.residual(torch.cat([u, self.context], dim=-1)) - u

    def value_and_jvp(self, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return the field and ``J v`` for v (m, n, d); c has no part in the direction."""
        rows = torch.cat([u, self.context], dim=-1)
        r, jv = self.residual.value_and_jvp(rows, F.pad(v, (0, self.context.shape[-1])))
        return r - u, jv - v

    def value_and_divergence(self, u: Tensor, metric: Tensor | None = None):
        """Return the field and ``tr(A J)``, in closed form; c has no part in it."""
        d = u.shape[-1]
        A = torch.eye(d, dtype=u.dtype, device=u.device) if metric is None else metric
        rows = torch.cat([u, self.context], dim=-1)
        wide = F.pad(A, (0, self.context.shape[-1]))
        r, divergence = self.residual.value_and_divergence(rows, wide)
        return r - u, divergence - A.trace()


def beside(eps: Tensor, context: Tensor) -> Tensor:
    """Return noise (m, n, k) with the context (n, c) of its row beside it."""
    return torch.cat([eps, context.expand(len(eps), *context.shape)], dim=-1)
