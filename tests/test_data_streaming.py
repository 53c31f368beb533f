"""Image folders decoded as they are needed: on a small one of real JPEG files, of several sizes and modes."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import v2

from lib import data
from lib.core.seeds import derive, generator
from lib.data import DataUnavailable, streaming
from lib.runs import Run
from lib.sweep import calibration, planning, sweep
from lib.training import fitting, loop
from lib.training.batches import StreamedBatches

CPU = torch.device("cpu")
SIZES = [(300, 260), (256, 400), (90, 60), (256, 256)]


def save(file, size, seed, mode="RGB"):
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*[s // 10 + 1 for s in size[::-1]], 3), dtype=np.uint8)
    Image.fromarray(pixels).resize(size).convert(mode).save(file, quality=90)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three classes of 4 training and 2 validation images."""
    root = tmp_path_factory.mktemp("streams") / "photographs"
    for top, count in (("train", 4), ("val", 2)):
        for c in range(3):
            for i in range(count):
                mode = "L" if (c, i) == (1, 0) else "RGB"
                save(root / top / f"n{c:08d}" / f"{top}_{i}.JPEG", SIZES[i], 10 * c + i, mode)
    return root


@pytest.fixture
def run(folder):
    return Run(dataset=f"imagestream:{folder}", model="resnet50", width=1, epochs=2, batch_size=5, lr=0.01)


def test_a_listing_names_every_image_with_its_label_in_an_order_unrelated_to_classes(folder):
    listing = streaming.listing(f"imagestream:{folder}", "train")
    assert len(listing) == 12 and listing.classes == 3
    assert [file.parent.name for file in listing.files] == [f"n{label:08d}" for label in listing.y.tolist()]
    assert listing.y.tolist() != sorted(listing.y.tolist())
    assert len(streaming.listing(f"imagestream:{folder}", "test")) == 6


def test_evaluation_sees_the_centre_of_an_image_resized_on_its_shorter_side(folder):
    listing = streaming.listing(f"imagestream:{folder}", "train")
    index = next(i for i, file in enumerate(listing.files) if file.name == "train_3.JPEG")  # 256×256: only cropped
    pixels = np.asarray(Image.open(listing.files[index]))[16:240, 16:240]
    assert np.array_equal(listing[index, None, 0].permute(1, 2, 0).numpy(), pixels)
    for i in range(len(listing)):
        assert listing[i, None, 0].shape == streaming.SHAPE and listing[i, None, 0].dtype == torch.uint8


def test_training_draws_what_torchvision_draws_from_the_derived_seed(folder):
    listing = streaming.listing(f"imagestream:{folder}", "train")
    with Image.open(listing.files[3]) as file:
        image = file.convert("RGB")
    torch.manual_seed(derive(7, "augmentation", 2, 3))
    wanted = v2.RandomHorizontalFlip()(v2.RandomResizedCrop(224)(image))
    state = torch.manual_seed(0).get_state()
    assert np.array_equal(listing[3, 7, 2].permute(1, 2, 0).numpy(), np.asarray(wanted))
    assert torch.equal(torch.get_rng_state(), state)  # the global state is left as it was


def test_what_is_drawn_depends_on_seed_epoch_and_image_not_on_order_or_workers(folder):
    listing = streaming.listing(f"imagestream:{folder}", "train")
    order = torch.randperm(12, generator=generator(0, "test"))

    def seen(order, processes, seed=0, epoch=1):
        x = torch.cat(list(streaming.stream(listing, order.split(5), CPU, seed=seed, epoch=epoch, processes=processes)))
        return torch.stack([x[order.tolist().index(i)] for i in range(12)])

    first = seen(order, 0)
    assert torch.equal(first, seen(order, 2))
    assert torch.equal(first, seen(order.flip(0), 0))
    for other in (seen(order, 0, seed=1), seen(order, 0, epoch=2)):
        assert all(not torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_batches_follow_the_seeds_permutation_and_are_standardized(run):
    batches = StreamedBatches(run, CPU)
    order = torch.randperm(12, generator=generator(4, "order", 1))
    seen = list(batches.epoch(4, 1))
    assert [len(y) for _, y in seen] == [5, 5, 2]
    assert torch.equal(torch.cat([y for _, y in seen]), batches.images["train"].y[order])
    raw = batches.images["train"][int(order[0]), 4, 1][None]
    assert torch.equal(seen[0][0][:1], data.standardize(raw, "imagenet"))
    assert raw.float().mean() > 50 and seen[0][0].abs().max() < 3  # (1 − 0.406)/0.225 = 2.64


def test_evaluation_is_in_order_and_even_and_odd_halves_are_as_listed(run):
    batches = StreamedBatches(run, CPU)
    x, y = (torch.cat(part) for part in zip(*batches.chunks("test"), strict=True))
    assert torch.equal(y, batches.images["test"].y)
    whole = data.load(run.dataset, "test")
    assert torch.equal(x, data.standardize(whole.x, run.dataset)) and torch.equal(y, whole.y)


def test_the_first_of_each_class_are_their_centres(run):
    x, y = StreamedBatches(run, CPU).balanced(6)
    assert x.shape == (6, *streaming.SHAPE) and torch.bincount(y).tolist() == [2, 2, 2]


def test_a_sweep_trains_on_a_stream_and_repeats_it_to_the_bit(run, tmp_path):
    sam = run.but(optimizer="sam", rho=0.05)
    first, again = (sweep([sam], store=tmp_path / name, device="cpu", progress=False) for name in ("a", "b"))
    assert first["status"].item() == "done" and first["curves"].item()["epoch"] == [1, 2]
    assert first["curves"].tolist() == again["curves"].tolist()


def test_the_loop_on_a_stream_is_a_plain_loop_over_its_images(run):
    run = run.but(norm="group", epochs=1, precision="float64")  # 50 layers of width 1 blow up float32's rounding
    (record,) = fitting.fit(loop.Loop([run], CPU))
    batches = StreamedBatches(run, CPU)
    model, _ = batches.network(run)
    for x, y in batches.epoch(run.seed, 0):
        loss = nn.functional.cross_entropy(model(x), y)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for p, g in zip(model.parameters(), gradients, strict=True):
                p -= run.lr * g
    x, y = (torch.cat(part) for part in zip(*batches.chunks("test"), strict=True))
    wanted = nn.functional.cross_entropy(model(x), y).item()
    assert record["final"]["test_loss"] == pytest.approx(wanted, rel=1e-9)


def test_imagenet_is_the_folder_of_that_name_and_a_small_one_is_said_to_be_none(folder, tmp_path, monkeypatch):
    (tmp_path / "imagenet").symlink_to(folder)
    monkeypatch.setenv("SAM_DATA", str(tmp_path))
    with pytest.warns(UserWarning, match=r"has 12 images where ImageNet has 1281167; .* no result on ImageNet"):
        assert len(streaming.listing("imagenet", "train")) == 12


# What is refused


@pytest.mark.parametrize(
    "call", [lambda: data.load("imagenet", "train"), lambda: streaming.listing("imagenet", "test")]
)
def test_absent_data_says_where_it_was_looked_for_and_what_to_do(call, tmp_path, monkeypatch):
    monkeypatch.setenv("SAM_DATA", str(tmp_path))
    with pytest.raises(DataUnavailable, match=rf"looked for .* in {tmp_path}/imagenet/train: .*set SAM_DATA"):
        call()


def test_a_sweep_on_absent_data_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("SAM_DATA", str(tmp_path))
    with pytest.raises(DataUnavailable, match="imagenet/train"):
        sweep([Run(dataset="imagenet", model="resnet50", width=16)], store=tmp_path / "store", progress=False)


def test_classes_must_be_the_same_in_both_splits(tmp_path):
    for name in ("train/a", "train/b", "val/a", "val/c"):
        save(tmp_path / name / "0.jpg", (30, 30), 0)
    with pytest.raises(DataUnavailable, match=r"b, c only in one of train/ and val/"):
        streaming.listing(f"imagestream:{tmp_path}", "train")


def test_a_class_without_images_is_refused(tmp_path):
    for name in ("train/a", "train/b", "val/a", "val/b"):
        save(tmp_path / name / "0.jpg", (30, 30), 0)
    (tmp_path / "val/b/0.jpg").unlink()
    with pytest.raises(DataUnavailable, match=r"no valid file for the classes b"):
        streaming.listing(f"imagestream:{tmp_path}", "test")


@pytest.mark.parametrize("processes", [0, 1])
def test_a_damaged_image_is_named_whoever_decodes_it(tmp_path, processes):
    for name in ("train/a", "val/a"):
        save(tmp_path / name / "0.jpg", (300, 300), 0)
    file = tmp_path / "train/a/0.jpg"
    file.write_bytes(file.read_bytes()[:500])
    listing = streaming.listing(f"imagestream:{tmp_path}", "train")
    with pytest.raises(DataUnavailable, match=rf"{file}: damaged .*; replace it by a whole copy"):
        list(streaming.stream(listing, [torch.tensor([0])], CPU, processes=processes))


def test_crops_that_no_memory_holds_are_refused_with_their_size(folder):
    listing = streaming.listing(f"imagestream:{folder}", "train")
    assert streaming.whole(listing).shape == (12, *streaming.SHAPE)
    with pytest.raises(ValueError, match=r"12 images of 224×224 are 0 GB: train on them by a Run"):
        streaming.whole(listing, most=12 * 224 * 224 * 3 - 1)


# What it costs


def test_the_plan_of_imagenet_needs_no_data(tmp_path, monkeypatch):
    monkeypatch.setenv("SAM_DATA", str(tmp_path / "absent"))
    run = Run(dataset="imagenet", model="resnet50", width=2, batch_size=64, epochs=90, momentum=0.9)
    table = planning.plan([run, run.but(epochs=180)], store=tmp_path, device="cpu")
    assert 2 > table["seconds"][1] / table["seconds"][0] > 1.9  # the last evaluation comes once
    # 1.28 million images, 90 times: at a millisecond each, which no core decodes that fast, over a day.
    assert table["seconds"][0] > 1_281_167 * 90 * 1e-3


def test_workers_decode_beside_the_gpu_so_the_slower_of_the_two_sets_the_pace(run, monkeypatch):
    batches = StreamedBatches(run, CPU)
    monkeypatch.setattr(calibration, "_time", lambda call, device: 0.12)  # 12 images: 10 ms each
    monkeypatch.setattr(streaming, "workers", lambda device: 4)
    result = calibration._beside_workers(calibration.Rate(0.010 + 0.001, 0.010 + 0.005), batches, CPU)
    assert result == pytest.approx((0.0025, 0.005))
    monkeypatch.setattr(streaming, "workers", lambda device: 0)
    assert calibration._beside_workers(calibration.Rate(1.0, 2.0), batches, CPU) == (1.0, 2.0)
