"""The only doors to derivatives of a score field.

``s`` a field, rows in and rows out, each row on its own; ``J = ds/dx`` per row; ``v`` (m, n, d)
directions; ``A`` (d, d) a symmetric metric, the identity when None. A field that knows a closed
form offers it as a method of the same name, and is asked first; value and derivative come together.
Rows are (n, d); an ensemble in training also takes (k, n, d), rows of their own for each member.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

ScoreFn = Callable[[Tensor], Tensor]

TANGENT_BYTES = 2**28  # what the tangents of one block may take


@contextmanager
def _graph() -> Iterator[None]:
    """Record what is computed, though the caller may be in inference mode."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def _of_no_mode(x: Tensor) -> Tensor:
    """Return a tensor that can be part of a graph."""
    return x.clone() if x.is_inference() else x


def value_and_jvp(score: ScoreFn, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``s(x)`` (n, d) and ``J v`` (m, n, d)."""
    closed_form = getattr(score, "value_and_jvp", None)
    if closed_form is not None:
        return closed_form(x, v)
    return _jvp_by_two_reverses(score, x, v)


def _jvp_by_two_reverses(score: ScoreFn, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``s`` and ``J v``, the derivative of ``(J' w) . v`` by w.

    Not torch's forward mode, which for common layers imports the compiler stack, and that changes
    the environment and the warning filters of the process.
    """
    m, n = len(v), x.shape[-2]
    training = torch.is_grad_enabled()
    with _graph():
        x, v = _of_no_mode(x), _of_no_mode(v)
        rows = repeat_rows(x, m)
        rows = rows if rows.requires_grad else rows.requires_grad_()
        s = score(rows)
        w = torch.zeros_like(s, requires_grad=True)
        (jw,) = torch.autograd.grad((s * w).sum(), rows, create_graph=True, materialize_grads=True)
        if not jw.requires_grad:  # the field is constant
            return s[..., :n, :], torch.zeros_like(v)
        (jv,) = torch.autograd.grad(
            (jw * fold(v)).sum(), w, create_graph=training, materialize_grads=True
        )
    return (s if training else s.detach())[..., :n, :], unfold(jv, m)


def repeat_rows(x: Tensor, m: int) -> Tensor:
    """Return the rows m times, (..., n, d) -> (..., m n, d)."""
    return x.repeat(*(1 for _ in x.shape[:-2]), m, 1)


def fold(v: Tensor) -> Tensor:
    """Return directions as rows, (m, ..., n, d) -> (..., m n, d)."""
    return v.movedim(0, -3).flatten(-3, -2)


def unfold(rows: Tensor, m: int) -> Tensor:
    """Return rows as directions, (..., m n, d) -> (m, ..., n, d)."""
    return rows.unflatten(-2, (m, -1)).movedim(-3, 0)


def value_and_curvature(score: ScoreFn, x: Tensor, v: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``s(x)`` (n, d) and ``w' J v`` (m, n), for directions v and w (m, n, d).

    A field without a closed form costs one pass forward, and one in reverse to each direction.
    """
    closed_form = getattr(score, "value_and_curvature", None)
    if closed_form is not None:
        return closed_form(x, v, w)
    if not hasattr(score, "value_and_jvp"):
        return _curvature_by_reverses(score, x, v, w)
    block, s, parts = _tangents_at_once(score, x), x, []
    for first, second in zip(v.split(block), w.split(block), strict=True):
        s, jv = value_and_jvp(score, x, first)
        parts.append((second * jv).sum(dim=-1))
    return s, torch.cat(parts)


def _curvature_by_reverses(
    score: ScoreFn, x: Tensor, v: Tensor, w: Tensor
) -> tuple[Tensor, Tensor]:
    """Return ``s`` and ``(J' w) . v``."""
    training = torch.is_grad_enabled()
    with _graph():
        x, v, w = (_of_no_mode(each) for each in (x, v, w))
        rows = x if x.requires_grad else x.detach().requires_grad_()
        s = score(rows)
        if not s.requires_grad:  # the field is constant
            return s, torch.zeros_like(v[..., 0])
        found = []
        for along, weights in zip(v, w, strict=True):
            (jw,) = torch.autograd.grad(
                (s * weights).sum(),
                rows,
                create_graph=training,
                retain_graph=True,
                materialize_grads=True,
            )
            found.append((jw * along).sum(dim=-1))
    return (s if training else s.detach()), torch.stack(found)


def value_and_products(
    score: ScoreFn, x: Tensor, v: Tensor, w: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``s(x)`` (n, d), ``J v`` (m, n, d), and ``J' w`` for w (k, d) at the first k rows."""
    closed_form = getattr(score, "value_and_products", None)
    if closed_form is not None:
        return closed_form(x, v, w)
    s, jv = value_and_jvp(score, x, v)
    with _graph():
        x, w = _of_no_mode(x), _of_no_mode(w)
        rows = x[..., : w.shape[-2], :].detach().requires_grad_()
        inner = (score(rows) * w).sum()
        if not inner.requires_grad:  # the field is constant
            return s, jv, torch.zeros_like(w)
        (jw,) = torch.autograd.grad(inner, rows, create_graph=True, materialize_grads=True)
    return s, jv, jw if torch.is_grad_enabled() else jw.detach()


def unit_directions(x: Tensor) -> Tensor:
    """Return the d unit vectors as directions at every row, (d, ..., n, d)."""
    return _everywhere(torch.eye(x.shape[-1], dtype=x.dtype, device=x.device), x)


def _everywhere(directions: Tensor, x: Tensor) -> Tensor:
    """Return directions (m, d), or (k, m, d) of each network, at every row, (m, ..., n, d)."""
    *own, m, d = directions.shape
    between = (1 for _ in x.shape[len(own) : -1])
    return directions.movedim(-2, 0).reshape(m, *own, *between, d).expand(-1, *x.shape)


def value_and_divergence(
    score: ScoreFn, x: Tensor, metric: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return ``s(x)`` (n, d) and ``tr(A J)`` (n,)."""
    closed_form = getattr(score, "value_and_divergence", None)
    if closed_form is not None:
        return closed_form(x, metric)
    return divergence_by_tangents(score, x, metric)


def divergence_by_tangents(
    score: ScoreFn, x: Tensor, metric: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return ``s(x)`` and ``tr(A J) = sum_k (A e_k)' J e_k``."""
    eye = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
    weights = eye if metric is None else metric
    s, curvature = value_and_curvature(score, x, _everywhere(eye, x), _everywhere(weights, x))
    return s, curvature.sum(dim=0)


def divergence_by_probes(
    score: ScoreFn, x: Tensor, directions: Tensor, metric: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return ``s(x)`` and the mean of ``(A v)' J v``, for directions (m, n, d) of each row.

    An unbiased estimate of the trace where ``E[vv'] = I`` (Hutchinson 1989).
    """
    weights = directions if metric is None else directions @ metric
    s, curvature = value_and_curvature(score, x, directions, weights)
    return s, curvature.mean(dim=0)


def _tangents_at_once(score: ScoreFn, x: Tensor) -> int:
    """Return how many directions to a row fit in memory."""
    *leading, d = x.shape
    floats = math.prod(leading) * floats_per_row(score, d)
    return max(1, TANGENT_BYTES // max(1, floats * x.element_size()))


def floats_per_row(score: ScoreFn, n_features: int) -> int:
    """Return about how many numbers a value with its divergence holds at once, for one row."""
    closed_form = getattr(score, "floats_per_row", None)
    if closed_form is not None:
        return closed_form(n_features)
    if not isinstance(score, nn.Module):
        return 8 * n_features
    # A convolution's weights do not say how many pixels it leaves: such a network says it itself.
    passes = [3 * getattr(module, "floats_per_pass", 0) for module in score.modules()]
    width = max((max(p.shape, default=1) for p in score.parameters()), default=1)
    return max(8 * max(width, n_features), *passes)
