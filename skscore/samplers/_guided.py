"""Guidance by a field that has learnt less."""

from __future__ import annotations

from torch import Tensor

from skscore.samplers._descent import NoiseScore


def guided(
    score: NoiseScore, weak: NoiseScore, guidance: float, *, lowest: float = 0.0
) -> NoiseScore:
    """Return the field ``s + (guidance - 1) (s - s_weak)``, which goes on from the weak one.

    Where both err alike, as two fields of one network that were trained for different times do,
    this takes from the error; what both know stays as it is. It is the field of no density: the
    samples are sharper than those of `score`, and may be less varied.

    Parameters
    ----------
    score : callable
        The field at a noise level, (n, d), float -> (n, d).
    weak : callable
        One that is further from the truth, likewise.
    guidance : float
        1 is `score` itself, 0 is `weak`.
    lowest : float, default=0.0
        The noise level below which the field is `score` (Kynkaanniemi et al. 2024): what the two
        differ in there is fine grain, and `weak` need not be evaluated.

    Returns
    -------
    callable
        The field at a noise level, for any sampler; a call is one of each.

    References
    ----------
    Karras, Aittala, Kynkaanniemi, Lehtinen, Aila and Laine (2024), "Guiding a diffusion model with
    a bad version of itself", NeurIPS, equation 3. Kynkaanniemi, Aittala, Karras, Laine, Aila and
    Lehtinen (2024), "Applying guidance in a limited interval improves sample and distribution
    quality in diffusion models", NeurIPS.

    Examples
    --------
    >>> import torch
    >>> from skscore.samplers import guided
    >>> field = guided(lambda x, sigma: -x, lambda x, sigma: -0.8 * x, 2.0)
    >>> field(torch.ones(1, 1), 0.1).round(decimals=4)
    tensor([[-1.2000]])
    """

    def field(x: Tensor, sigma: float) -> Tensor:
        s = score(x, sigma)
        if sigma < lowest:
            return s
        return s + (guidance - 1) * (s - weak(x, sigma))

    return field
