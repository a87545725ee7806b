"""The only doors to derivatives of a score field.

``s`` a field, rows in and rows out, each row on its own; ``J = ds/dx`` per row; ``v`` (m, n, d)
directions; ``A`` (d, d) a symmetric metric, the identity when None. A field that knows a closed
form offers it as a method of the same name, and is asked first; value and derivative come together.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

ScoreFn = Callable[[Tensor], Tensor]

TANGENT_BYTES = 2**28  # what the tangents of one block may take


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
    m, n, d = v.shape
    training = torch.is_grad_enabled()
    with torch.enable_grad():
        rows = x.repeat(m, 1)
        rows = rows if rows.requires_grad else rows.requires_grad_()
        s = score(rows)
        w = torch.zeros_like(s, requires_grad=True)
        (jw,) = torch.autograd.grad((s * w).sum(), rows, create_graph=True, materialize_grads=True)
        if not jw.requires_grad:  # the field is constant
            return s[:n], torch.zeros_like(v)
        (jv,) = torch.autograd.grad((jw * v.reshape(m * n, d)).sum(), w, create_graph=training)
    return (s if training else s.detach())[:n], jv.view(m, n, -1)


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
    """Return ``s(x)`` and ``tr(A J) = sum_k (A e_k)' J e_k``, in blocks of k that fit in memory."""
    n, d = x.shape
    eye = torch.eye(d, dtype=x.dtype, device=x.device)
    A = eye if metric is None else metric
    block = max(1, TANGENT_BYTES // max(1, n * floats_per_row(score, d) * x.element_size()))
    s, divergence = x, x.new_zeros(n)
    for start in range(0, d, block):
        k = slice(start, start + block)
        v = eye[k, None, :].expand(-1, n, -1)
        s, jv = value_and_jvp(score, x, v)
        divergence = divergence + torch.einsum("knd,kd->n", jv, A[k])
    return s, divergence


def floats_per_row(score: ScoreFn, n_features: int) -> int:
    """Return about how many numbers a value with its divergence holds at once, for one row."""
    closed_form = getattr(score, "floats_per_row", None)
    if closed_form is not None:
        return closed_form(n_features)
    parameters = score.parameters() if isinstance(score, nn.Module) else ()
    width = max((max(p.shape, default=1) for p in parameters), default=1)
    return 8 * max(width, n_features)
