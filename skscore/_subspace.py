"""The directions in which data are not Gaussian, found as a network learns them.

A network that stands over the Gaussian of the data learns something in every direction, and in most
of them that is noise where the data are Gaussian but for a few. The second moments of its values
tell the directions apart, and held-out rows tell how many there are; it then goes on in these alone
(:mod:`skscore.networks._restricted`).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from skscore._model import ScoreModel
from skscore.networks import MLP, RESTRICTED, Ensemble, restrict, widen

N_ERRORS = 2  # standard errors that a held-out gain over no training must exceed
FEWER = 1  # that one by fewer directions must: they are the simpler model
N_WORSE = 2  # numbers of directions in a row, worse beyond two errors, that end the search
DENSE = 4  # up to here every number of directions is tried, then two to an octave

Judge = Callable[..., Tensor]


def gain_is_noise(first: Tensor, best: Tensor, n_errors: float = N_ERRORS) -> bool:
    """Tell whether the mean of `first - best`, row by row, is within some standard errors."""
    gain = (first - best).flatten()
    if len(gain) < 2:  # one row has no spread to go by
        return True
    return bool(gain.mean() <= n_errors * gain.std() / math.sqrt(len(gain)))


def members(network: nn.Module) -> list[nn.Module]:
    """Return the networks of an ensemble, or the one that there is."""
    return list(network.stack.members) if isinstance(network, Ensemble) else [network]  # type: ignore[arg-type]


def can_be_restricted(model: nn.Module) -> bool:
    """Tell whether the networks are perceptrons of more than one column."""
    networks: list[MLP] = members(model.network)  # type: ignore[arg-type, assignment]
    return all(type(f) in RESTRICTED and f.layers[0][0].shape[0] > 1 for f in networks)


def counts(n_features: int) -> list[int]:
    """Return the numbers of directions that are tried, fewer than all."""
    dense = range(1, DENSE + 1)
    octaves = (m for power in range(2, 31) for m in (3 * 2 ** (power - 1), 2 * 2**power))
    tried = []
    for m in (*dense, *octaves):
        if m >= n_features:
            break
        tried.append(m)
    return tried


def principal_directions(rows: Tensor) -> Tensor:
    """Return the eigenvectors of the second moments of rows (..., n, d), the largest first."""
    flat = rows.flatten(0, -2).to(torch.float64)
    return torch.linalg.eigh(flat.mT @ flat)[1].flip(-1).to(rows.dtype)


def restricted(model: ScoreModel, basis: Tensor) -> ScoreModel:
    """Return a model with the same weights whose networks act in the span of a basis."""
    networks = [restrict(f, basis, field=not model.has_energy) for f in members(model.network)]  # type: ignore[arg-type]
    return model.with_network(Ensemble(networks) if len(networks) > 1 else networks[0])


def widened(model: ScoreModel, whole: ScoreModel) -> None:
    """Give a model the weights of one that was restricted from it."""
    for small, network in zip(members(model.network), members(whole.network), strict=True):
        widen(small, network)  # type: ignore[arg-type]


def in_fewer_directions(
    model: ScoreModel,
    outputs: Tensor,
    judge: Judge,
    whole: Tensor,
    x_held_out: Tensor | None,
) -> tuple[ScoreModel, Tensor, int] | None:
    """Return a model that acts in fewer directions, where held-out rows show that it is better.

    Parameters
    ----------
    model : ScoreModel or Denoiser
        Of perceptrons.
    outputs : Tensor of shape (..., n, d)
        What its networks return at some rows.
    judge : callable
        ``judge(model, x_held_out) -> (n,)`` or (k, n), lower is better.
    whole : Tensor of shape (n,) or (k, n)
        The judged rows of the model as it is.
    x_held_out : Tensor of shape (..., n, d)
        Held-out rows.

    Returns
    -------
    (model, rows, m) or None
        The best of the models, its judged rows and its number of directions, where it is better
        than the model as it is by more than a standard error.
    """
    if not torch.isfinite(outputs).all():
        return None
    V = principal_directions(outputs)
    best, least, n_directions, worse = None, whole, 0, 0
    for m in reversed(counts(V.shape[-1])):
        tried = restricted(model, V[:, :m].contiguous())
        rows = judge(tried, x_held_out).view_as(whole)
        if rows.mean() < least.mean():
            best, least, n_directions = tried, rows, m
        worse = 0 if gain_is_noise(rows, whole) else worse + 1
        if worse == N_WORSE:
            break
    if best is None or gain_is_noise(whole, least, FEWER):
        return None
    return best, least, n_directions
