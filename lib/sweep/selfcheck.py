"""Does an engine compute here what it should? One step of a tiny network by it, beside the same step in float64.

Libraries have kernels for each kind of processor, and some are wrong on some. So the first training on a machine checks
the engine in use on the network in use: from the same weights, on the same batch,

    ‖Δw − Δw₆₄‖ ≤ TOLERANCE ‖Δw₆₄‖

for the update Δw of each tensor, where Δw₆₄ is that of `lib.training.loop.PlainLoop` in float64. What was found is
remembered in the store's folder of work in progress, for each processor, version of torch and number of threads.
"""

import contextlib
import faulthandler
import hashlib
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from filelock import FileLock
from PIL import Image
from torch import nn

from lib.core import files, interruption
from lib.core.ambient import exactly
from lib.runs import Run, records
from lib.training import engines
from lib.training.loop import PlainLoop

TOLERANCE = 0.03  # float32 is off by 1e-4, behind fifty batch norms by 5e-3; the faults that are known, by a tenth
SEEDS = 3  # a kink met up to rounding may turn one start; a fault turns all
FLOOR = 1e-6  # of ‖w‖: rounding, which is all there is where the gradient vanishes
PASSED = "passed"
SAMPLES, SHAPE = 16, (3, 16, 16)
WIDTHS = {"linear2": 4, "two_layer": 16, "mlp": 0.05, "resnet18": 8, "resnet50": 8, "vgg11": 8, "vit": 32}
WIDTHS |= {"preact_resnet18": 8, "preact_resnet34": 8}
GROUPED_WIDTH = 2

_passed: dict[str, bool] = {}  # what this process has found out already, whatever the folder


def passed(runs: Sequence[Run], device: torch.device, folder: Path) -> bool:
    """Whether the engine of these runs agrees with float64 here, found out once and then remembered in `folder`. Raises
    StoreError if nothing can be written there. A user's model, of which no small one is known, is not checked."""
    if runs[0].model not in WIDTHS:
        return True
    engine, model = engines.engine_class(runs), runs[0].model
    file = folder / f"{engine.name}-{model}-{machine(device)}.check"
    if file.name not in _passed:
        with records.writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{file}.lock"):
                _passed[file.name] = _remembered(file, engine, model, device)
    return _passed[file.name]


def machine(device: torch.device) -> str:
    """A name for what results depend on beside the code: the processor, its instructions, torch, and the threads."""
    with exactly(device):
        parts = records.provenance(device)
    text = " ".join(str(parts[name]) for name in ("device", "instructions", "torch", "threads"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def failures(folder: Path, device: torch.device) -> list[str]:
    """The engines that failed here, each with its model and what was seen."""
    results = {file: file.read_text() for file in sorted(folder.glob(f"*-{machine(device)}.check"))}
    return [f"{' of '.join(f.stem.split('-')[:2])}: {text}" for f, text in results.items() if text != PASSED]


def warn_of_failures(folder: Path, device: torch.device) -> None:
    """Tell the caller of `sweep` which engines failed here, and what is done about it."""
    for failure in failures(folder, device):
        warnings.warn(
            f"the self-check of this machine failed for {failure}; such runs are trained one by one with the plainest "
            "engine (docs/onednn.md)",
            stacklevel=4,
        )


def _remembered(file: Path, engine: type, model: str, device: torch.device) -> bool:
    crash = file.with_suffix(".crash")
    if crash.exists() and crash.stat().st_size:  # what faulthandler wrote; a process that is killed writes nothing
        files.replace(file, f"the process crashed in it ({crash.read_text().splitlines()[0]})")
        crash.unlink()
    if not file.exists():
        with _writing_crashes_to(crash):
            off = min(disagreement(engine, model, device, seed) for seed in range(SEEDS))
        files.replace(file, PASSED if off <= 1 else f"off by {TOLERANCE * off:.0%} from float64")
    return file.read_text() == PASSED


@contextlib.contextmanager
def _writing_crashes_to(file: Path):
    """Within this context a native crash of this process leaves a trace in `file`."""
    before = faulthandler.is_enabled()
    try:
        with open(file, "w") as out:
            faulthandler.enable(out)
            yield
    finally:
        faulthandler.disable()
        if before:
            faulthandler.enable(sys.__stderr__)
        file.unlink(missing_ok=True)


def disagreement(engine: type, model: str, device: torch.device, seed: int = 0) -> float:
    """The largest ‖Δw − Δw₆₄‖ / (TOLERANCE ‖Δw₆₄‖) of a tensor after one step of that engine; inf for what is no
    number."""
    single = issubclass(engine, engines.Loop)
    base = Run(
        model=model, width=WIDTHS[model] if single or model in engines.STACKABLE else GROUPED_WIDTH, momentum=0.9
    )
    base = base.but(optimizer="sam", rho=0.05, batch_size=SAMPLES, epochs=1, seed=seed)
    runs = [base] if single else [base.but(optimizer="sgd", rho=0.0), base]
    worst = 0.0
    with exactly(device), tempfile.TemporaryDirectory() as folder:
        dataset = _pictures(Path(folder))
        runs = [run.but(dataset=dataset) for run in runs]
        smooth = (lambda engine: engine) if engine is engines.Stack else _smooth  # a stack has no modules
        tried = smooth(engine(runs, device))
        before = [_state(tried.network(i)) for i in range(len(runs))]
        _train_a_step(tried)
        for i, run in enumerate(runs):
            exact = smooth(PlainLoop([run.but(precision="float64")], torch.device("cpu")))
            _train_a_step(exact)
            after, truth = _state(tried.network(i)), _state(exact.model)
            for name, start in before[i].items():
                allowed = (
                    TOLERANCE * (truth[name] - start).norm() + FLOOR * start.norm() + torch.finfo(torch.float32).eps
                )
                off = ((after[name] - truth[name]).norm() / allowed).item()
                worst = max(worst, off if off == off else float("inf"))
    return worst


def _smooth(engine):
    """The engine with SiLU in place of the ReLUs that are modules: where one of thousands has an input of 0 up to
    rounding, the update behind batch norms may be off by a tenth without any fault."""
    for name in ("model", "net", "climbed"):
        for module in (getattr(engine, name, None) or nn.Identity()).modules():
            for child, layer in module.named_children():
                if isinstance(layer, nn.ReLU):
                    setattr(module, child, nn.SiLU())
    return engine


def _state(model) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu().double().clone() for name, value in model.state_dict().items()}


def _train_a_step(engine) -> None:
    """Train one step on SAMPLES images of noise, of two classes, in place of the engine's data."""
    interruption.check()
    noise = torch.rand(SAMPLES, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    batches = engine.data
    batches.train = noise.to(batches.device, batches.dtype), torch.arange(SAMPLES, device=batches.device) % 2
    batches.n, batches.steps_per_epoch, batches.augmented = SAMPLES, 1, False
    engine.epoch(0)


def _pictures(folder: Path) -> str:
    """A data set of one black image a class and split, whose shapes the engines take over."""
    for name in ("train/0", "train/1", "test/0", "test/1"):
        (folder / name).mkdir(parents=True)
        Image.new("RGB", SHAPE[1:]).save(folder / name / "0.png")
    return f"imagefolder:{folder}"
