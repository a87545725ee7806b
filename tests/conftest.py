"""Each worker of a parallel run gets its share of the cores.

OpenBLAS and torch start as many threads in each process as there are cores, and OpenBLAS's wait by
spinning: two workers on two cores then slow each other down, the small matrices of the kernel
estimators tenfold.
"""

import os

import numpy  # noqa: F401 (its BLAS must be there to be limited, and so must scipy's)
import pytest
import scipy.linalg  # noqa: F401
import torch
from threadpoolctl import threadpool_limits

N_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
SHARE = max(1, (os.cpu_count() or 1) // N_WORKERS)
threadpool_limits(SHARE, user_api="blas")
torch.set_num_threads(SHARE)


@pytest.fixture
def share_of_openmp():
    """scikit-learn's trees wait by spinning too; not for all tests: torch's threads are tested."""
    with threadpool_limits(SHARE, user_api="openmp"):
        yield
