"""Specifications of runs: keys that last, casts, and messages for what is invalid."""

import dataclasses
import hashlib
import json
import math

import numpy as np
import pandas
import pytest

from lib.runs import Run

# Field defaults never change: records are filed by what differs from them. New fields may be added here.
DEFAULTS = {
    "dataset": "mnist",
    "model": "mlp",
    "width": 1.0,
    "loss": "cross_entropy",
    "optimizer": "sgd",
    "rho": 0.0,
    "normalized": True,
    "lr": 0.1,
    "schedule": "constant",
    "warmup_steps": 0,
    "momentum": 0.0,
    "weight_decay": 0.0,
    "epochs": 100,
    "batch_size": 128,
    "seed": 0,
    "n_train": 0,
    "eval_every": 1,
    "precision": "float32",
    "sparsity": 0.0,
    "pruner": "random",
    "linearize": "none",
    "alpha": 1.0,
    "digest": "",
    "recipe": 1,
    "norm": "batch",
    "batch_norm": False,
    "patch": 4,
    "standardize": True,
    "initialization": "default",
    "parts": 1,
    "snip_samples": 1000,
    "label_noise": 0.0,
    "strict_threshold": False,
    "ascent_steps": 1,
    "ascent_step": 0.0,
    "ascent_batch": "same",
    "perturbation": "gradient",
    "clip": False,
    "rho_schedule": "constant",
    "switch": 0.0,
    "decay_in_ascent": False,
    "batch_norm_passes": "first",
    "n_validation": 0,
    "norm_curve": False,
}

OTHERS = {
    "dataset": "digits",
    "model": "resnet18",
    "width": 2.0,
    "loss": "squared",
    "optimizer": "sam",
    "normalized": False,
    "lr": 0.2,
    "schedule": "step",
    "warmup_steps": 5,
    "momentum": 0.9,
    "weight_decay": 1e-4,
    "epochs": 5,
    "batch_size": 64,
    "seed": 1,
    "n_train": 100,
    "eval_every": 2,
    "precision": "float64",
    "sparsity": 0.5,
    "pruner": "snip",
    "norm": "group",
    "standardize": False,
    "initialization": "lecun",
    "parts": 2,
    "label_noise": 0.2,
    "snip_samples": 0,
    "strict_threshold": True,
    "ascent_steps": 3,
    "ascent_step": 0.1,
    "ascent_batch": "other",
    "perturbation": "random",
    "clip": True,
    "rho_schedule": "lr",
    "switch": 0.5,
    "decay_in_ascent": True,
    "batch_norm_passes": "all",
    "n_validation": 100,
    "norm_curve": True,
}
NEEDS = {
    "norm": {"model": "resnet18"},
    "pruner": {"sparsity": 0.5},
    "parts": {"optimizer": "sam"},
    "ascent_steps": {"optimizer": "sam"},
    "ascent_step": {"optimizer": "sam", "ascent_steps": 2},
    "ascent_batch": {"optimizer": "sam"},
    "perturbation": {"optimizer": "sam"},
    "clip": {"optimizer": "sam", "normalized": False},
    "rho_schedule": {"optimizer": "sam"},
    "switch": {"rho": 0.1, "optimizer": "sam"},
    "decay_in_ascent": {"optimizer": "sam", "weight_decay": 0.1},
    "batch_norm_passes": {"optimizer": "sam", "model": "resnet18"},
    "snip_samples": {"sparsity": 0.5, "pruner": "snip"},
}  # fields that only some runs may change


# Keys


def test_defaults_are_what_they_were():
    assert Run().as_dict().items() >= DEFAULTS.items()


@pytest.mark.parametrize(
    ("run", "canonical", "key"),
    [
        (Run(), "{}", "44136fa355b3678a"),
        (
            Run(width=0.25, optimizer="sam", rho=0.05, momentum=0.9, weight_decay=1e-4, schedule="step", seed=2),
            '{"momentum":0.9,"optimizer":"sam","rho":0.05,"schedule":"step","seed":2,"weight_decay":0.0001,"width":0.25}',
            "eea952228055b4bc",
        ),
        (
            Run(dataset="cifar10", model="vit", width=64, patch=4),
            '{"dataset":"cifar10","model":"vit","width":64.0}',
            "ec23c34e1aa4cdca",
        ),
    ],
)
def test_the_key_is_a_hash_of_what_differs_from_the_defaults(run, canonical, key):
    assert run.key == hashlib.sha256(canonical.encode()).hexdigest()[:16] == key


def test_every_field_is_in_the_key():
    keys = {Run().key} | {Run(**{name: value} | NEEDS.get(name, {})).key for name, value in OTHERS.items()}
    keys |= {Run(optimizer="sam", rho=rho).key for rho in (0.1, 0.10000000000000002)}  # to the last bit
    keys |= {Run(dataset="digits", model="vit", width=32, patch=patch).key for patch in (2, 4)}
    keys |= {Run(linearize=form, loss="squared", alpha=a).key for form in ("centered", "tangent") for a in (1, 30)}
    keys |= {Run(model="vgg11", width=4, batch_norm=norm).key for norm in (False, True)}
    assert len(keys) == 1 + len(OTHERS) + 2 + 2 + 4 + 2
    assert all(len(key) == 16 and set(key) <= set("0123456789abcdef") for key in keys)
    apart = {"rho", "batch_norm", "patch", "linearize", "alpha", "digest", "recipe"}
    assert set(OTHERS) | apart == {field.name for field in dataclasses.fields(Run)}


def test_a_field_added_later_leaves_old_keys_and_records_valid():
    @dataclasses.dataclass(frozen=True)
    class Later(Run):
        teacher: str = "none"

    for values in ({}, {"width": 0.5, "seed": 3}):
        assert Later(**values).key == Run(**values).key
        assert Later.from_dict(Run(**values).as_dict()) == Later(**values)
    assert Later(teacher="self").key != Later().key


@pytest.mark.parametrize(
    ("name", "one", "same"),
    [
        ("width", 1.0, [1, np.float32(1), np.float64(1), np.int64(1)]),
        ("width", 0.25, [np.float32(0.25), np.float64(0.25)]),
        ("epochs", 5, [5.0, np.int32(5), np.float64(5)]),
        ("seed", 0, [0.0, np.int64(0), np.uint8(0)]),
        ("normalized", True, [np.True_, 1]),
        ("momentum", 0.0, [0, -0.0]),
        ("model", "mlp", [np.str_("mlp")]),
    ],
)
def test_one_value_is_one_run_whatever_its_type(name, one, same):
    expected = Run(**{name: one})
    for value in same:
        run = Run(**{name: value})
        assert run == expected and run.key == expected.key and hash(run) == hash(expected)
        assert type(getattr(run, name)) is type(one)
        json.dumps(run.as_dict())  # a NumPy number would raise


# Storing


def test_a_record_gives_the_run_back():
    run = Run(**OTHERS | dict(perturbation="gradient", norm="batch", rho=0.1))
    stored = json.loads(json.dumps(run.as_dict()))
    assert Run.from_dict(stored) == run and Run.from_dict(stored).key == run.key


def test_a_row_of_a_table_gives_the_run_back():
    run = Run(width=0.5, optimizer="sam", rho=0.05, seed=3)
    row = pandas.DataFrame([run.as_dict() | {"key": run.key, "status": "done"}]).iloc[0]
    assert Run.of_row(row) == Run.of_row(row.to_dict()) == run


def test_an_unknown_field_is_not_ignored():
    with pytest.raises(ValueError, match=r"unknown fields \['teacher'\]: written by a later version"):
        Run.from_dict(Run().as_dict() | {"teacher": "self"})


def test_but_changes_fields_and_checks_them():
    run = Run(width=0.5, seed=1)
    assert run.but(seed=2, rho=0.1, optimizer="sam") == Run(width=0.5, seed=2, rho=0.1, optimizer="sam")
    assert run == Run(width=0.5, seed=1)
    with pytest.raises(ValueError, match="epochs = 0"):
        run.but(epochs=0)


# What is refused

INVALID = [
    ("dataset", "mnits", "mnist, cifar10, cifar10-jpeg, imagenet, imagefolder:PATH"),
    ("dataset", 3, "a string"),
    ("model", "mpl", "linear2, two_layer, mlp, resnet18"),
    ("loss", "hinge", "cross_entropy, mse, squared"),
    ("optimizer", "adam", "sgd, sam"),
    ("schedule", "cosin", "constant, inverse, step, three_steps, cosine, warmup_cosine"),
    ("precision", "float16", "float32, float64"),
    ("precision", "bf16", "float32, float64"),
    ("recipe", 2, "one of 1"),
    ("width", "1", "a finite number"),
    ("width", math.nan, "a finite number"),
    ("width", math.inf, "a finite number"),
    ("width", 1e308, "1e+06 or less"),
    ("width", True, "a finite number"),
    ("width", None, "a finite number"),
    ("width", 0.0, "must round to 1 or more"),
    ("lr", 0.0, "more than 0"),
    ("lr", -0.1, "more than 0"),
    ("lr", 1e308, "1e+38 or less"),
    ("lr", math.nan, "a finite number"),
    ("lr", [0.1], "a finite number"),
    ("rho", -0.1, "0 or more"),
    ("rho", math.inf, "a finite number"),
    ("momentum", -0.9, "0 or more"),
    ("weight_decay", -1e-4, "0 or more"),
    ("warmup_steps", -1, "0 or more"),
    ("epochs", 0, "1 or more"),
    ("epochs", 1.5, "a whole number"),
    ("epochs", math.inf, "a whole number"),
    ("epochs", math.nan, "a whole number"),
    ("batch_size", 0, "1 or more"),
    ("batch_size", 10**30, "1e+12 or less"),
    ("batch_size", "128", "a whole number"),
    ("seed", -1, "0 or more"),
    ("seed", False, "a whole number"),
    ("n_train", -5, "0 or more"),
    ("eval_every", 0, "1 or more"),
    ("sparsity", -0.1, "0 or more"),
    ("sparsity", 1.0, "in [0, 1)"),
    ("pruner", "magnitude", "random, snip"),
    ("norm", "layer", "batch, group"),
    ("patch", 0, "1 or more"),
    ("patch", 2.5, "a whole number"),
    ("linearize", "lazy", "none, centered, tangent"),
    ("alpha", 0.0, "more than 0"),
    ("alpha", -1.0, "more than 0"),
    ("alpha", math.inf, "a finite number"),
    ("normalized", "yes", "True or False"),
    ("normalized", 2, "True or False"),
    ("normalized", None, "True or False"),
]


@pytest.mark.parametrize(("name", "value", "allowed"), INVALID)
def test_an_invalid_value_is_named_with_what_is_allowed(name, value, allowed):
    with pytest.raises(ValueError) as caught:
        Run(**{"optimizer": "sam", name: value})
    assert str(caught.value).startswith(f"{name} = {value!r}: ") and allowed in str(caught.value)


def test_values_that_do_not_go_together_are_refused():
    with pytest.raises(ValueError, match=r"rho = 0.1: must be 0 for optimizer 'sgd', or take optimizer 'sam'"):
        Run(rho=0.1)
    with pytest.raises(ValueError, match=r"sparsity = 0.5: pruner '1:4' keeps 1 of 4 weights, so .* must be 0.75"):
        Run(pruner="1:4", sparsity=0.5)
    with pytest.raises(ValueError, match=r"sparsity = 0.0: pruner '2:4' keeps 2 of 4 weights, so .* must be 0.5"):
        Run(pruner="2:4")
    with pytest.raises(ValueError, match=r"pruner = 'snip': at sparsity 0 nothing is pruned; leave it at 'random'"):
        Run(pruner="snip")
    with pytest.raises(ValueError, match=r"sparsity = 0.9: masks are .* not for the attention of a vit"):
        Run(dataset="digits", model="vit", width=32, sparsity=0.9)
    with pytest.raises(ValueError, match=r"norm = 'group': a mlp has no norm to choose"):
        Run(norm="group")
    with pytest.raises(ValueError, match=r"batch_norm = True: a mlp has no batch_norm to choose"):
        Run(batch_norm=True)
    for network in (dict(model="vgg11", batch_norm=True), dict(model="resnet18")):
        with pytest.raises(ValueError, match=r"linearize = 'tangent': .* batch norm mixes those of a batch"):
            Run(width=4, linearize="tangent", **network)
    with pytest.raises(ValueError, match=r"patch = 8: a mlp has no patch to choose; leave it at 4"):
        Run(patch=8)
    with pytest.raises(ValueError, match=r"patch = 3: cannot tile images of 8×8; 1, 2, 4, 8 can"):
        Run(dataset="digits", model="vit", width=32, patch=3)
    with pytest.raises(ValueError, match=r"width = 0.5: a resnet18 needs a whole number"):
        Run(model="resnet18", width=0.5)
    with pytest.raises(ValueError, match=r"loss = 'cross_entropy'.*vectors; take 'squared' or 'mse'"):
        Run(dataset="factorization", model="linear2", width=4)
    for wrong in (dict(loss="squared"), dict(linearize="centered"), dict(linearize="none", loss="mse")):
        with pytest.raises(ValueError, match=r"alpha = 30.0: .* takes linearize = 'centered' or 'tangent' and loss"):
            Run(alpha=30, **wrong)
    with pytest.raises(ValueError, match=r"sparsity = 0.5: there must be no mask with linearize = 'tangent'"):
        Run(linearize="tangent", sparsity=0.5)


def test_an_image_folder_is_a_dataset():
    assert Run(dataset="imagefolder:my/birds.zip").dataset == "imagefolder:my/birds.zip"


def test_a_digest_is_of_folders_and_changes_no_other_key():
    assert Run(dataset="imagefolder:x", digest="ab").key != Run(dataset="imagefolder:x").key
    with pytest.raises(ValueError, match="digest = 'ab': is of image folders; leave it empty for 'mnist'"):
        Run(digest="ab")
    absent = Run(dataset="imagefolder:/absent")
    assert absent.located() is absent and Run().located() == Run()
