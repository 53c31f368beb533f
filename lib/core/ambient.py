"""What the surrounding process has set must not change a result: all such state is set here, and put back."""

import contextlib
from collections.abc import Iterator

import torch

ROUNDING = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn)
EXACT = "ieee"


def rounds_products() -> bool:
    """Whether a GPU may multiply in tf32, whose 10 bits are too few for the correction that a small ρ makes."""
    return any(backend.fp32_precision not in (EXACT, "none") for backend in ROUNDING)


@contextlib.contextmanager
def exactly(device: torch.device) -> Iterator[None]:
    """Within this context the process computes as every other: float32 by default, gradients on, no autocast, new
    tensors on the CPU, and on a CPU one thread, as on their number depend the last bits of a matrix product. On a GPU,
    that of `device` is the current one, products are in float32, and convolutions take algorithms that repeat.
    Afterwards all is as it was."""
    threads, precisions = torch.get_num_threads(), [backend.fp32_precision for backend in ROUNDING]
    dtype, default_device = torch.get_default_dtype(), torch.get_default_device()
    cudnn = torch.backends.cudnn
    algorithms = cudnn.deterministic, cudnn.benchmark
    current = torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
    try:
        if device.type == "cpu":
            torch.set_num_threads(1)
        for backend in ROUNDING:
            backend.fp32_precision = EXACT
        cudnn.deterministic, cudnn.benchmark = True, False
        torch.set_default_dtype(torch.float32)
        if default_device.type != "cpu":
            torch.set_default_device("cpu")
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False), current:
            yield
    finally:
        torch.set_num_threads(threads)
        cudnn.deterministic, cudnn.benchmark = algorithms
        for backend, precision in zip(ROUNDING, precisions, strict=True):
            backend.fp32_precision = precision
        torch.set_default_dtype(dtype)
        if default_device.type != "cpu":
            torch.set_default_device(default_device)
