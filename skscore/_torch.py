"""The only door between numpy and torch: device, dtype, seeds, threads, isolation, memory.

The shells use it; the torch rooms know neither numpy nor the caller's global settings.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BLOCK_ROWS = 256  # chains that share one stream of noise
CHUNK_BYTES = 2**28  # what the intermediate arrays of one chunk of rows may take


def resolve_device(name: object) -> torch.device:
    """Return the device called `name`; "auto" is CUDA where there is one, else the CPU.

    Raises
    ------
    ValueError
        When there is no such device here.
    """
    if isinstance(name, str) and name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    known = ["cpu", *(["cuda"] if count else []), *(f"cuda:{i}" for i in range(count))]
    if not isinstance(name, str) or name not in known:
        raise ValueError(
            f"device={name!r} is not available here. Use 'auto' or one of {', '.join(known)}."
        )
    return torch.device(name)


def check_device(name: str, value: object) -> None:
    """Check the parameter of an estimator that names a device."""
    resolve_device(value)


def resolve_device_or_cpu(name: str) -> torch.device:
    """Return the device called `name`, or the CPU where it is missing: for a loaded model."""
    try:
        return resolve_device(name)
    except ValueError:
        return torch.device("cpu")


def generator(seed: int, device: torch.device, *, block: int | None = None) -> torch.Generator:
    """Return a generator of its own, for a seed or for one block of rows under it."""
    if block is not None:
        seed = int(np.random.SeedSequence((seed, block)).generate_state(1)[0])
    return torch.Generator(device=device).manual_seed(seed)


def seeds_of(rows: NDArray[np.float64]) -> list[int]:
    """Return a seed for each row, by its values: what is drawn for it is a function of them."""
    return [crc32(row.tobytes()) for row in rows]


def to_tensor(array: NDArray, device: torch.device, dtype=torch.float64) -> Tensor:
    """Copy an array to a tensor; the caller's array, read-only or not, is never shared."""
    return torch.tensor(np.asarray(array, order="C"), dtype=dtype, device=device)


def to_numpy(tensor: Tensor) -> NDArray[np.float64]:
    """Copy a tensor to a float64 array."""
    return tensor.detach().to("cpu", torch.float64).numpy()


@contextmanager
def isolated(*, grad: bool = False) -> Iterator[None]:
    """Run with plain settings, whatever the caller set, and leave the caller's as they were."""
    with (
        torch.inference_mode(False),
        torch.set_grad_enabled(grad),
        torch.autocast("cpu", enabled=False),
        torch.autocast("cuda", enabled=False),
    ):
        yield


def has_fast_bfloat16(device: torch.device) -> bool:
    """Tell whether products in bfloat16 are known to be faster than in float32.

    Of processors, in those with AMX (not measured) and in AMD's with AVX512_BF16. In an Intel one
    that has the latter alone they were measured to be slower; without either they are emulated.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    amd = str(known.get("cpu_name")).startswith("AMD")
    return bool(known.get("amx_bf16") or (amd and known.get("avx512_bf16")))


def keep_freed_memory() -> None:
    """Let the C library keep what one training step frees for the next.

    glibc returns large blocks to the system when they are freed, until a larger one has been: then
    it keeps them. Without this each step faults its megabytes in anew, a fifth of its time.
    """
    torch.empty(31 * 2**20, dtype=torch.uint8, device="cpu")


class _Borrowed:
    """A global of torch's, reference-counted: the first that enters keeps it, the last restores.

    With a value, each thread sets it and each restores it: the number of threads that OpenMP uses
    belongs to the thread that set it, and is the default of new ones.
    """

    def __init__(self, get: Callable, put: Callable, value: object = None) -> None:
        self._get, self._put, self._value = get, put, value
        self._lock = threading.Lock()
        self._depth = 0
        self._own = threading.local()

    def __enter__(self) -> None:
        with self._lock:
            if self._depth == 0:
                self._before = self._get()
            self._depth += 1
            self._own.depth = getattr(self._own, "depth", 0) + 1
            if self._value is not None:
                self._put(self._value)

    def __exit__(self, *exc) -> None:
        with self._lock:
            self._depth -= 1
            self._own.depth -= 1
            if self._depth == 0 or (self._value is not None and self._own.depth == 0):
                self._put(self._before)


one_thread = _Borrowed(torch.get_num_threads, torch.set_num_threads, 1)
global_stream = _Borrowed(torch.get_rng_state, torch.set_rng_state)


@contextmanager
def for_factories(seed: int) -> Iterator[None]:
    """Let a caller's factory, which may say neither where nor from which stream, be repeatable."""
    with torch.device("cpu"), global_stream:
        torch.default_generator.manual_seed(seed)
        yield


# A forked child of a process that used two OpenMP threads hangs in its first parallel region.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


def map_rows(
    function: Callable[..., tuple[Tensor, ...]],
    rows: NDArray,
    device: torch.device,
    *,
    bytes_per_row: int,
    seeds: Sequence[int] | None = None,
) -> tuple[NDArray[np.float64], ...]:
    """Apply a torch function of float64 rows, and of their seeds, in chunks that fit in memory."""
    size = max(1, CHUNK_BYTES // max(1, bytes_per_row))
    parts = []
    with isolated():
        for i in range(0, len(rows), size):
            chunk = to_tensor(rows[i : i + size], device)
            own = () if seeds is None else (seeds[i : i + size],)
            parts.append(tuple(map(to_numpy, function(chunk, *own))))
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))
