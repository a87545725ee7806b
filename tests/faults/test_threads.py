"""Threads that share a model, that fit side by side, and torch's own."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from skscore.networks import MLP


def assert_same(left, right):
    for a, b in zip(left, right, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_eight_threads_share_one_model(make_any, X, everything):
    fitted = make_any().fit(X)
    parts = [X[i : i + 30] for i in range(24)]  # rows of its own for each, or a mix-up is not seen
    wanted = [everything(fitted, rows) for rows in parts]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda rows: everything(fitted, rows), parts))
    for result, expected in zip(results, wanted, strict=True):
        assert_same(result, expected)


def test_three_fits_in_three_threads_equal_serial_ones(make_any, X, two_threads, everything):
    batches = [X, 2 * X[:40], X[::-1] + 5]
    wanted = [everything(make_any().fit(rows), rows) for rows in batches]
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda rows: everything(make_any().fit(rows), rows), batches))
    for result, expected in zip(results, wanted, strict=True):
        assert_same(result, expected)
    assert torch.get_num_threads() == 2


def test_fits_that_overlap_leave_nothing_changed(make_net, X, two_threads):
    entered, started, left = (threading.Event() for _ in range(3))
    seen, stream = {}, torch.get_rng_state()

    def network(announce, wait_for):
        def factory(n_features, n_outputs, *, generator):
            announce.set()
            assert wait_for.wait(20)
            return MLP(n_features, n_outputs, generator=generator, hidden_layer_sizes=(4,))

        return factory

    def work():
        torch.set_num_threads(2)
        assert entered.wait(20)
        make_net(network=network(started, left)).fit(X)
        seen["the other thread"] = torch.get_num_threads()

    other = threading.Thread(target=work)
    other.start()
    make_net(network=network(entered, started)).fit(X)
    left.set()
    other.join(20)
    seen["this thread"] = torch.get_num_threads()
    with ThreadPoolExecutor(1) as pool:
        seen["a new thread"] = pool.submit(torch.get_num_threads).result()
    assert torch.equal(torch.get_rng_state(), stream)
    assert seen == {"the other thread": 2, "this thread": 2, "a new thread": 2}


@pytest.mark.parametrize("n_threads", [1, 2])
def test_the_number_of_torch_threads(make_any, X, n_threads, two_threads, everything):
    rows = np.vstack([X] * 20)
    wanted = everything(make_any().fit(X), rows)
    torch.set_num_threads(n_threads)
    fitted = make_any().fit(X)
    for value, expected in zip(everything(fitted, rows), wanted, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
    assert torch.get_num_threads() == n_threads
