"""Recording a step and replaying it. The recorder is a stand-in here; the real one needs a CUDA GPU."""

import pytest
import torch

from lib.runs import Run
from lib.training import cuda_graph, engines, fitting, loop


class Recorder:
    """Stands in for a CUDA graph: a replay calls what was recorded, so it can only see the kept inputs."""

    def __init__(self):
        self.recorded = self.replayed = 0

    def __call__(self, function):
        self.recorded += 1

        def replay():
            self.replayed += 1
            function()

        return replay


def test_a_step_is_eager_first_then_recorded_once_for_each_shape_and_replayed_on_the_new_inputs():
    seen, recorder = [], Recorder()
    step = cuda_graph.Replayed(lambda x: seen.append((x.tolist(), x.data_ptr())), recorder)
    for i in range(6):
        step(torch.tensor([i, i]))
    step(torch.tensor([6]))  # the smaller last batch is of another shape, and eager again
    assert [values for values, _ in seen] == [[i, i] for i in range(6)] + [[6]]
    assert (recorder.recorded, recorder.replayed) == (1, 6 - cuda_graph.WARM_UP)
    assert len({address for _, address in seen[cuda_graph.WARM_UP : 6]}) == 1  # a graph reads from one place


@pytest.fixture
def replayed(monkeypatch):
    """Stacks that step as on a GPU, with the stand-in for the recorder."""
    recorder = Recorder()

    def make(runs):
        stack = engines.Stack(runs, torch.device("cpu"))
        stack.advance = cuda_graph.Replayed(stack._step, recorder)
        return stack

    make.recorder = recorder
    return make


def test_a_replayed_stack_trains_as_an_eager_one(replayed):
    base = Run(
        dataset="digits", width=0.1, epochs=2, batch_size=300, momentum=0.9, weight_decay=1e-3, schedule="cosine"
    )
    runs = [base, base.but(seed=1), *(base.but(optimizer="sam", rho=0.05, seed=seed) for seed in (0, 1))]
    stack, eager = replayed(runs), engines.Stack(runs, torch.device("cpu"))
    result, expected = fitting.fit(stack), fitting.fit(eager)
    assert replayed.recorder.replayed == 2 * 4 - cuda_graph.WARM_UP  # the last batch of 237 comes twice only
    for one, other in zip(result, expected, strict=True):
        assert one["curves"]["train_loss"] == other["curves"]["train_loss"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_on_a_gpu_the_graph_agrees_with_the_eager_loop():
    base = Run(dataset="digits", width=0.2, epochs=3, batch_size=128, momentum=0.9, weight_decay=1e-3)
    runs = [base, *(base.but(optimizer="sam", rho=rho) for rho in (0.02, 0.1))]
    device = torch.device("cuda")
    for run, record in zip(runs, fitting.fit(engines.Stack(runs, device)), strict=True):
        (alone,) = fitting.fit(loop.Loop([run], device))
        assert record["curves"]["train_loss"] == pytest.approx(alone["curves"]["train_loss"], rel=1e-3)
