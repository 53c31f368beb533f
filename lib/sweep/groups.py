"""What trains together, and where: groups of runs, the store they are filed in, the files of their work in progress.

Beside the records of a store lies a folder `checkpoints`. There a group under way has NAME.runs (its members),
NAME.progress (the epoch it is at, and the process), NAME.pt (its checkpoint) and NAME.here (while the process that
asked for it trains it, and would die with it). KEY.lock is a process's claim on a run, KEY.weights what a run trained
on which something is measured, KEY.course what was measured while it trained. *.check say which engines can be trusted
here (`lib.sweep.selfcheck`), *.rates how fast they are (`lib.sweep.rates`). All of it may be deleted; at worst, work is
done again.

The last bits of a run depend on the company in which it trains, which its record names. So groups are dealt in the
whole grid, whatever has a record: each run has the same company whenever the grid, or a part of it, is asked for. A
group that has been begun keeps its members whatever is asked for.
"""

import contextlib
import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from loky import cpu_count

from lib.core import files, paths
from lib.runs import Measurement, Run, parameter_count, records
from lib.training import engines


@dataclass(frozen=True)
class Group:
    """Runs that are trained together, the store of their records, and the folder of their work in progress.

    measurements: what is to be measured on the networks of some of them.
    plain: whether the plainest engine trains it, where the usual one cannot be trusted.
    """

    runs: tuple[Run, ...]
    store: Path
    folder: Path
    measurements: tuple[Measurement, ...] = ()
    plain: bool = False

    @property
    def name(self) -> str:
        """Of its files: the hash of the keys of its runs, and of its being plain."""
        keys = [run.key for run in self.runs] + ["plain"] * self.plain
        return hashlib.sha256(" ".join(keys).encode()).hexdigest()[:16]

    def description(self) -> str:
        """What it trains, in words."""
        run, keys = self.runs[0], ", ".join(run.key for run in self.runs[:3])
        more = f" and {len(self.runs) - 3} more" if len(self.runs) > 3 else ""
        return f"{run.model} of width {run.width:g} on {run.dataset} ({keys}{more})"

    def members(self) -> list["Group"]:
        """Each run, with what is measured on it, as a plain group of its own."""
        return [
            replace(self, runs=(run,), measurements=tuple(m for m in self.measurements if m.run == run), plain=True)
            for run in self.runs
        ]

    def halves(self) -> list["Group"]:
        """Two groups of every other run, which share its second passes."""
        parts = (self.runs[::2], self.runs[1::2])
        return [replace(self, runs=p, measurements=tuple(m for m in self.measurements if m.run in p)) for p in parts]

    def file(self, ending: str) -> Path:
        """The group's file of work in progress with this ending."""
        return self.folder / f"{self.name}.{ending}"

    def lock(self, run: Run) -> Path:
        """The file whose lock is the claim on a run."""
        return self.folder / f"{run.key}.lock"

    def weights(self, run: Run) -> Path:
        """The file of the weights of a member that is measured."""
        return self.folder / f"{run.key}.weights"

    def course(self, measurement: Measurement) -> Path:
        """The file of what was measured during training."""
        return self.folder / f"{measurement.key}.course"

    def missing(self) -> list[Run]:
        """The members that have no record yet, or no weights though something is to be measured on them, or that are to
        be measured during training."""
        unmeasured = {measurement.run for measurement in self.unmeasured()}
        unwatched = {m.run for m in self.unmeasured() if m.during and not self.course(m).exists()}
        return [
            run
            for run in self.runs
            if records.read(self.store, run, warn=False) is None
            or (run in unmeasured and not self.weights(run).exists())
            or run in unwatched
        ]

    def unmeasured(self) -> list[Measurement]:
        """The measurements that have no record yet, without those on diverged networks, which have none to measure."""
        return [m for m in self.measurements if wanting(self.store, m)]

    def begun(self) -> bool:
        """Whether it has a checkpoint, or has written some of its records but not all."""
        keys = [run.key for run in self.runs]
        made = [(records.read(self.store, run, warn=False) or {}).get("provenance", {}) for run in self.runs]
        return self.file("pt").exists() or any(part.get("company") == keys for part in made)

    def register(self) -> None:
        """File the list of its members, if there is none. Raises StoreError."""
        if not self.plain and not self.file("runs").exists():
            with records.writing(self.folder):
                files.replace(self.file("runs"), json.dumps([run.as_dict() for run in self.runs]))

    def checkpointed(self) -> int:
        """The epochs that its checkpoint holds; 0 where there is none, or a damaged one."""
        with contextlib.suppress(Exception):  # whatever a damaged file makes torch raise
            return torch.load(self.file("pt"), map_location="cpu", mmap=True, weights_only=True)["epochs"]
        return 0

    def clear(self) -> None:
        """Remove what a finished group leaves, and what processes left that were killed while writing for it."""
        keys = {run.key for run in self.runs}
        stale = [file for file in self.store.glob("*.tmp") if file.name.split(".")[0] in keys]
        for file in [*self.folder.glob(f"{self.name}.*"), *map(self.lock, self.runs), *stale]:
            with contextlib.suppress(OSError):
                file.unlink()


def store_of(store: str | Path | None, what: Run | Measurement) -> Path:
    """The folder of its record in the given store, or in the default one."""
    return paths.records(what.dataset) if store is None else Path(store).expanduser().absolute()


def folder_of(store: str | Path | None) -> Path:
    """The folder of work in progress of the given store, or of the default one."""
    return paths.checkpoints() if store is None else Path(store).expanduser().absolute() / "checkpoints"


def wanting(store: Path, what: Run | Measurement, *, warn: bool = False) -> bool:
    """Whether a store has no record of it and might have one: there is nothing to measure where a run diverged."""
    if records.read(store, what, warn=warn) is not None:
        return False
    run = records.read(store, what.run, warn=False) if isinstance(what, Measurement) else None
    return run is None or run["status"] != "diverged"


def gather(
    missing: Sequence[Run | Measurement],
    store: str | Path | None,
    device: torch.device,
    *,
    within: Iterable[Run | Measurement] = (),
    failed: Collection[Run] = (),
) -> list[Group]:
    """The missing runs, and those that are to be measured, in groups: those filed before as they were, then what
    `engines.partition` puts together in the grid `within`, of which they are a part. All of such a group is trained,
    but for members that were trained in another company and those that `failed`. The costliest comes first."""
    measurements = [what for what in missing if isinstance(what, Measurement)]
    runs = dict.fromkeys(map(run_of, missing))
    begun: list[Group] = []
    for group in sorted(_filed(store), key=lambda group: not group.begun()):
        taken = {run for other in begun for run in other.runs}
        members = set(group.runs)
        fits = not members.isdisjoint(runs) if group.begun() else members <= runs.keys()
        begun += [group] if fits and members.isdisjoint(taken) else []
    apart = {run for group in begun for run in group.runs}.union(failed)
    fresh = []
    for members in engines.partition(list(dict.fromkeys([*map(run_of, within), *runs])), device):
        if part := [run for run in members if run in runs and run not in apart]:
            group = _measured(_group(part, store), measurements)
            fresh.append(_with_company(group, members, apart) if group.missing() else group)
    groups = [*(_measured(group, measurements) for group in begun), *fresh]
    return sorted(groups, key=lambda group: -sum(map(cost, group.runs)))


def _measured(group: Group, measurements: Sequence[Measurement]) -> Group:
    return replace(group, measurements=tuple(m for m in measurements if m.run in group.runs))


def _with_company(group: Group, members: Sequence[Run], apart: Collection[Run]) -> Group:
    """The group with the others of these members, but for those that train, or have trained, in another company."""
    keys = [run.key for run in members]

    def elsewhere(run: Run) -> bool:
        record = records.read(group.store, run, warn=False)
        return run in apart or (record is not None and record["provenance"].get("company") != keys)

    return replace(group, runs=tuple(run for run in members if run in group.runs or not elsewhere(run)))


def _group(members: Sequence[Run], store: str | Path | None) -> Group:
    return Group(tuple(members), store_of(store, members[0]), folder_of(store))


def _filed(store: str | Path | None) -> Iterator[Group]:
    """The groups of which there is a list of members."""
    for file in sorted(folder_of(store).glob("*.runs")):
        with contextlib.suppress(OSError, ValueError, TypeError, IndexError, RecursionError):
            group = _group([Run.from_dict(run) for run in json.loads(file.read_text())], store)
            if group.name == file.stem:
                yield group


def run_of(what: Run | Measurement) -> Run:
    """The run itself, or the one that is measured."""
    return what.run if isinstance(what, Measurement) else what


def cost(run: Run) -> float:
    """Roughly the work of a run, in any unit: parameters × gradients × epochs."""
    return parameter_count.parameters(run) * (1 + (run.rho > 0)) * run.epochs


def devices(device: torch.device) -> list[torch.device]:
    """Where groups train side by side: on a CPU once for each core, for "cuda" on each GPU of this machine, for one
    such as "cuda:1" there alone.

    >>> devices(torch.device("cuda:1"))
    [device(type='cuda', index=1)]
    """
    if device.type == "cpu":
        return [device] * cpu_count()
    several = torch.cuda.device_count() if device.index is None else 1
    return [torch.device("cuda", i) for i in range(several)] if several > 1 else [device]


def choose_device(device: str | torch.device | None) -> torch.device:
    """The device of that name, or by default the GPU if there is one. Raises ValueError for what is no device."""
    try:
        chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except (RuntimeError, TypeError):
        chosen = None
    if chosen is None or chosen.type not in ("cpu", "cuda"):
        raise ValueError(f"device = {device!r}: must be 'cpu' or 'cuda'")
    return chosen
