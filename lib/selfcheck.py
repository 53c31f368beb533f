"""Does an engine compute here what it should? One step of a tiny network by it, beside the same step in float64.

Libraries have kernels for each kind of processor, and some are wrong on some. So the first training on a machine checks
the engine in use on the network in use: from the same weights, on the same batch,

    ‖Δw − Δw₆₄‖ ≤ TOLERANCE ‖Δw₆₄‖

for the update Δw of each tensor, where Δw₆₄ is that of `lib.train.PlainLoop` in float64. What was found is remembered
in the store's folder of work in progress, for each processor, version of torch and number of threads.
"""

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from filelock import FileLock
from PIL import Image
from torch import nn

from lib import ensemble, records
from lib.groups import exactly
from lib.runs import Run
from lib.train import PlainLoop

TOLERANCE = 0.03  # float32 is off by 1e-4, behind fifty batch norms by 5e-3; the faults that are known, by a tenth
SEEDS = 3  # a kink met up to rounding may turn one start; a fault turns all
FLOOR = 1e-6  # of ‖w‖: rounding, which is all there is where the gradient vanishes
TRIES = 2  # a process that dies meanwhile may have been killed; two are no chance
SAMPLES, SHAPE = 16, (3, 16, 16)
WIDTHS = {"linear2": 4, "mlp": 0.05, "resnet18": 8, "resnet50": 8, "vgg11": 8, "vit": 32}
GROUPED_WIDTH = 2

_passed: dict[str, bool] = {}  # what this process has found out already, whatever the folder


def passed(runs: Sequence[Run], device: torch.device, folder: Path) -> bool:
    """Whether the engine of these runs agrees with float64 here, found out once and then remembered in `folder`. Raises
    StoreError if nothing can be written there."""
    engine, model = ensemble.engine_class(runs), runs[0].model
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
    """The engines that failed here, each with its model and what was found."""
    found = []
    for file in sorted(folder.glob(f"*-{machine(device)}.check")):
        text = file.read_text()
        if not (text.isdigit() or text == "passed"):
            found.append(f"{' of '.join(file.stem.split('-')[:2])}: {text}")
    return found


def _remembered(file: Path, engine: type, model: str, device: torch.device) -> bool:
    text = file.read_text() if file.exists() else "0"
    if text.isdigit() and int(text) < TRIES:
        file.write_text(str(int(text) + 1))  # if this process dies now, that is remembered
        off = min(disagreement(engine, model, device, seed) for seed in range(SEEDS))
        text = "passed" if off <= 1 else f"off by {TOLERANCE * off:.0%} from float64"
        records.replace(file, text)
    elif text.isdigit():
        text = f"{TRIES} processes died while it was checked"
        records.replace(file, text)
    return text == "passed"


def disagreement(engine: type, model: str, device: torch.device, seed: int = 0) -> float:
    """The largest ‖Δw − Δw₆₄‖ / (TOLERANCE ‖Δw₆₄‖) of a tensor after one step of that engine; inf for what is no
    number."""
    single = issubclass(engine, ensemble.Loop)
    base = Run(
        model=model, width=WIDTHS[model] if single or model in ensemble.STACKABLE else GROUPED_WIDTH, momentum=0.9
    )
    base = base.but(optimizer="sam", rho=0.05, batch_size=SAMPLES, epochs=1, seed=seed)
    runs = [base] if single else [base.but(optimizer="sgd", rho=0.0), base]
    worst = 0.0
    with exactly(device), tempfile.TemporaryDirectory() as folder:
        dataset = _pictures(Path(folder))
        runs = [run.but(dataset=dataset) for run in runs]
        smooth = (lambda engine: engine) if engine is ensemble.Stack else _smooth  # a stack has no modules
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
