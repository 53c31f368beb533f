"""Giving up a long computation: who says so, whom it reaches, and which loops ask."""

import contextlib
import threading

import pytest
import torch

from lib import hessian
from lib.core import interruption
from lib.hessian import lanczos
from lib.hessian.operators import Operator
from lib.runs import Run, flatness, laziness
from lib.training.batches import Batches

RUN = Run(dataset="digits", width=0.05, loss="squared", lr=0.05, batch_size=20, n_train=40)
CPU = torch.device("cpu")


def test_where_nobody_says_so_nothing_stops():
    interruption.check()
    with interruption.stopping(lambda: False):
        interruption.check()
    interruption.check()


def test_a_computation_stops_when_the_condition_turns_true_and_not_after_the_context():
    late = []
    with pytest.raises(interruption.Interrupted), interruption.stopping(lambda: bool(late)):
        interruption.check()
        late.append(True)
        interruption.check()
    interruption.check()


def test_nothing_is_begun_when_it_is_late_already():
    begun = []
    with pytest.raises(interruption.Interrupted), interruption.stopping(lambda: True):
        begun.append(True)
    assert not begun
    interruption.check()


def test_an_inner_context_stops_for_the_outer_ones_sake_too():
    late = []
    with interruption.stopping(lambda: bool(late)):
        with pytest.raises(interruption.Interrupted), interruption.stopping(lambda: False):
            late.append(True)
            interruption.check()
        with pytest.raises(interruption.Interrupted):
            interruption.check()


def test_another_thread_goes_on():
    reached = []
    with contextlib.suppress(interruption.Interrupted), interruption.stopping(lambda: bool(reached)):
        other = threading.Thread(target=lambda: (reached.append(1), interruption.check(), reached.append(2)))
        other.start()
        other.join()
    assert reached == [1, 2]


class Asked:
    """A condition that turns true when it is asked for the `limit`-th time."""

    def __init__(self, limit: float = float("inf")):
        self.limit, self.times = limit, 0

    def __call__(self) -> bool:
        self.times += 1
        return self.times >= self.limit


def matrix():
    half = torch.randn(30, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return Operator.dense(half + half.T)


def networks(run: Run):
    batches = Batches(run, CPU)
    before, after = (batches.network(run)[0].eval() for _ in range(2))
    return before, after, batches, run


def convolution():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = torch.nn.Conv2d(1, 2, 3), torch.nn.Tanh(), torch.nn.Flatten(), torch.nn.Linear(8, 2)
    model = torch.nn.Sequential(*layers)
    x = torch.linspace(-1, 1, 3 * 16).view(3, 1, 4, 4)
    # One sample at a time, twice in each product of the fourth moment: between these it can be given up too.
    return hessian.nonuniformity(model, "squared", x, torch.tensor([0, 1, 0]), 4, memory=1, max_iterations=1)


SMALL = {"samples": 20, "hessian_samples": 20, "kernel_samples": 10}
LOOPS = {  # how often each asks at least: once a product, a network's evaluation, a sample of a kernel
    "lanczos": (lambda: lanczos.lanczos(matrix()), 9),
    "spectral_density": (lambda: lanczos.spectral_density(matrix(), probes=2, steps=5), 11),
    "landscape": (lambda: flatness.landscape(*networks(RUN), samples=20, points=5), 25),
    "flatness": (lambda: flatness.flatness(*networks(RUN), samples=20, batch=4, draws=2), 100),
    "laziness": (lambda: laziness.laziness(*networks(RUN.but(linearize="centered", alpha=4.0)), **SMALL), 40),
    "any module": (convolution, 9),
}


@pytest.mark.parametrize("name", LOOPS)
def test_every_long_loop_can_be_given_up_wherever_it_is(name):
    compute, least = LOOPS[name]
    asked = Asked()
    with interruption.stopping(asked):
        compute()
    assert asked.times >= least
    for limit in {2, asked.times // 2, asked.times}:
        with pytest.raises(interruption.Interrupted), interruption.stopping(Asked(limit)):
            compute()


def test_any_operation_may_ask_also_one_of_a_backward_pass():
    w = torch.ones(3, requires_grad=True)
    late = []
    with interruption.stopping(lambda: bool(late)), interruption.BetweenOperations():
        loss = (w * w).sum()
        late.append(True)
        with pytest.raises(interruption.Interrupted):
            loss.backward()
    assert w.grad is None
