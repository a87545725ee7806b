"""What is shown while a fit goes on: lines, and scikit-learn's callbacks where it has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn < 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stand in for the mixin: this scikit-learn has no callbacks."""

    def with_callbacks(method):  # type: ignore[no-redef]
        """Leave the method as it is."""
        return method


@contextmanager
def epochs_of(estimator, n_epochs: int) -> Iterator[Callable[[], bool]]:
    """Yield a function to call after each epoch; it returns true when a callback says stop."""
    if not hasattr(estimator, "_init_callback_context"):
        yield lambda: False
        return
    root = estimator._init_callback_context(max_subtasks=n_epochs)
    root.call_on_fit_task_begin(estimator=estimator)

    def report() -> bool:
        epoch = root.subcontext(task_name="epoch")
        epoch.call_on_fit_task_begin(estimator=estimator)
        return bool(epoch.call_on_fit_task_end(estimator=estimator))

    yield report
    root.call_on_fit_task_end(estimator=estimator)


def print_epoch(epoch: int, n_epochs: int, verbose: int, text: str) -> None:
    """Print what an epoch, counted from 0, has brought: ten times `verbose` in all, if so many."""
    n_lines = min(10 * int(verbose), n_epochs)
    if (epoch + 1) * n_lines // n_epochs > epoch * n_lines // n_epochs:
        print(f"Epoch {epoch + 1}/{n_epochs}, {text}", flush=True)
