"""The kind of measurement `ascent`: against `lib.hessian.m_sharpness` on the same samples, and by hand."""

import pytest
import torch

from lib import hessian
from lib.runs import Measurement, Run, ascent, course, features
from lib.training import engines, fitting

RUN = Run(dataset="digits", n_train=64, width=0.1, epochs=15, batch_size=16, weight_decay=0.01, precision="float64")
SIZES = dict(samples=40, steps=3, m=8, groups=2)


def trained(run):
    engine = engines.engine([run], torch.device("cpu"))
    fitting.fit(engine)
    return engine.network(0).eval(), engine.data


def test_it_measures_the_first_groups_at_every_radius_and_size():
    network, data = trained(RUN)
    result = ascent.ascent(network, network, data, RUN, **SIZES)
    x, y = (part[:40] for part in next(data.chunks("train")))
    options = dict(rho=0.03, m=8, steps=3, step_size=0.003)
    wanted = hessian.m_sharpness_details(network, "cross_entropy", x[:16], y[:16], **options)
    at = result["radii"].index(0.03)
    assert result["sharpness"][at] == wanted.value and result["released"][at] == wanted.released
    assert result["group_sizes"] == [1, 4, 16, 40]
    one = hessian.m_sharpness(network, "cross_entropy", x[:8], y[:8], rho=0.1, m=4)
    assert result["one_step"][1] == one
    assert result["train_norm"] is None and result["eval_norm"] is None


def test_loss_and_error_are_of_these_samples():
    network, data = trained(RUN)
    result = ascent.ascent(network, network, data, RUN, **SIZES)
    x, y = (part[:40] for part in next(data.chunks("train")))
    with torch.no_grad():
        output = network(x)
    assert result["sample_loss"] == pytest.approx(torch.nn.functional.cross_entropy(output, y).item(), rel=1e-12)
    assert result["train_error"] == (output.argmax(1) != y).double().mean().item()


def test_it_takes_as_many_samples_as_there_are_and_refuses_what_has_no_labels(monkeypatch):
    network, data = trained(RUN.but(n_train=0, epochs=1))
    monkeypatch.setattr(data, "chunks", lambda split: None)  # whatever is evaluated at a time
    few = ascent.ascent(network, network, data, RUN, **(SIZES | dict(samples=1200, m=1200, groups=1)))
    assert few["group_sizes"][-1] == 1200
    with pytest.raises(ValueError, match=r"alpha = 10.0: the rise is measured"):
        ascent.ascent(network, network, data, RUN.but(alpha=10.0, loss="mse", linearize="centered"), **SIZES)
    regression = Run(dataset="student-teacher", model="two_layer", width=4, loss="mse", epochs=1)
    network, data = trained(regression)
    for measure in (ascent.ascent, features.features):
        with pytest.raises(ValueError, match="dataset = 'student-teacher': has no classes"):
            measure(network, network, data, regression)
    with pytest.raises(ValueError, match="dataset = 'student-teacher': has no classes"):
        course.course(network, 0, data, regression)
    with pytest.raises(ValueError, match="every = 0: must be"):
        course.course(network, 0, data, regression, every=0)


def test_with_batch_norm_both_modes_are_measured_and_nothing_moves():
    run = RUN.but(model="preact_resnet18", width=2, epochs=1, precision="float32", batch_size=32)
    network, data = trained(run)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    result = ascent.ascent(network, network, data, run, samples=16, steps=1, m=8, groups=1)
    assert result["train_norm"] > 0 and result["eval_norm"] > 0 and result["train_norm"] != result["eval_norm"]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_it_is_a_kind_of_measurement():
    assert Measurement(RUN, "ascent", {"m": 8}).options == {
        "samples": 1024,
        "steps": 100,
        "m": 8,
        "rho": 0.1,
        "groups": 0,
    }
