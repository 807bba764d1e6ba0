"""Every leak that the audit knows is found where it is planted, and nothing is found on clean data."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import type_command

from hdstbench.data.card import Dataset, load_dataset
from hdstbench.data.fingerprint import fingerprint
from hdstbench.data.prepare import prepare_slide
from hdstbench.data.prints import load_print, save_print
from hdstbench.data.readers import read_pair
from hdstbench.plugins.pretraining import TRAINED_ON, UNKNOWN, trained_on
from hdstbench.protocol.leaks import alike, leaks_of, private_arrays
from hdstbench.protocol.task import Fold, TestSlide, open_fold
from hdstbench.sweep.options import Options
from hdstbench.sweep.plan import Job, plan_job
from hdstbench.torchkit.pathology import PATHOLOGY


@pytest.fixture(scope="module")
def job(cohort: Dataset) -> Job:
    return plan_job(cohort, "16um", Options())


@pytest.fixture(scope="module")
def folders(cohort: Dataset, job: Job) -> dict[str, Path]:
    return {s.id: prepare_slide(cohort, s, job.resolution) for s in cohort.card.samples}


@pytest.fixture(scope="module")
def fold(job: Job, folders: dict[str, Path]) -> Fold:
    return open_fold(job.task, job.split, 0, folders)


@pytest.fixture(scope="module")
def found(job: Job, folders: dict[str, Path]) -> Callable[..., set[str]]:
    """Ids of what is found on a fold."""

    def look(fold: Fold, **moved: Path) -> set[str]:
        return {f.id for f in leaks_of(fold, job.task, job.split, {**folders, **moved})}

    return look


def test_a_clean_fold_gives_no_finding(fold: Fold, found: Callable[..., set[str]]) -> None:
    assert found(fold) == set()


def test_a_panel_chosen_with_test_data_is_found(fold: Fold, found: Callable[..., set[str]]) -> None:
    swapped = np.array([*fold.panel.mean250[1:], next(i for i in fold.panel.hvg50)])
    others = np.setdiff1d(np.arange(len(fold.panel.genes)), fold.panel.mean250)
    chosen = np.array([*fold.panel.mean250[1:], others[0]]) if len(others) else swapped[:-1]

    assert found(replace(fold, panel=replace(fold.panel, mean250=chosen))) == {"panel-sees-test"}


def test_patches_on_both_sides_that_overlap_are_found(fold: Fold, found: Callable[..., set[str]]) -> None:
    test = fold.test[0]
    odd = test.slide.take(test.headline[1::2])
    leaky = replace(
        fold, train=(odd,), test=(TestSlide(slide=test.slide, headline=test.headline[::2], left_out={}),)
    )

    assert "shared-pixels" in found(leaky)


def test_validation_that_is_the_test_is_found(fold: Fold, found: Callable[..., set[str]]) -> None:
    test = fold.test[0]

    assert "validation-is-test" in found(replace(fold, val=(test.slide.take(test.headline[:50]),)))


def test_validation_beside_training_units_is_found(fold: Fold, found: Callable[..., set[str]]) -> None:
    train = fold.train[0]
    parted = replace(
        fold, train=(train.take(np.arange(0, len(train), 2)),), val=(train.take(np.arange(1, len(train), 2)),)
    )

    assert found(parted) == {"validation-overlaps-training"}


def test_one_picture_on_both_sides_is_found(
    fold: Fold, job: Job, folders: dict[str, Path], found: Callable[..., set[str]]
) -> None:
    test, train = fold.test[0].slide.id, job.split.train_of(0)[0]

    assert "same-pixels" in found(fold, **{train: folders[test]})


def test_one_section_under_two_names_is_found(cohort: Dataset, job: Job) -> None:
    first, second = cohort.card.samples[:2]
    own, other = (read_pair(cohort, sample, job.resolution)[1] for sample in (first, second))
    test = job.split.folds[0].test[0]
    train = job.split.train_of(0)[0]
    patients = {test: "one", train: "another"}

    twins = {test: fingerprint(own), train: fingerprint(own)}
    strangers = {test: fingerprint(own), train: fingerprint(other)}

    assert [
        f.id
        for f in alike(
            0, job.split, twins, patients | {s: "x" for s in job.split.slides if s not in patients}
        )
    ] == ["duplicate-section"]
    assert not list(alike(0, job.split, strangers, {s: s for s in job.split.slides}))


def test_serial_sections_are_a_warning(cohort: Dataset, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    from hdstbench.protocol import leaks  # noqa: PLC0415

    class Like:
        verdict = "serial sections or same patient?"

    monkeypatch.setattr(leaks, "compare", lambda *_: Like)
    one = fingerprint(read_pair(cohort, cohort.card.samples[0], job.resolution)[1])
    prints = dict.fromkeys(job.split.slides, one)

    assert {f.severity for f in alike(0, job.split, prints, {s: s for s in job.split.slides})} == {"warning"}


def test_columns_among_the_pixels_are_found(folders: dict[str, Path], tmp_path: Path) -> None:
    clean = next(iter(folders.values()))
    assert not list(private_arrays(clean))
    for number, spoil in enumerate((_extra_array, _extra_file)):
        place = tmp_path / str(number)
        shutil.copytree(clean, place)
        spoil(place / "pixels")

        (finding,) = private_arrays(place)
        assert (finding.id, finding.severity, finding.basis) == ("private-columns", "error", "measured")


def _extra_array(pixels: Path) -> None:
    with np.load(pixels / "unit.npz") as file:
        np.savez(pixels / "unit.npz", **{name: file[name] for name in file.files}, umi=np.zeros(3))


def _extra_file(pixels: Path) -> None:
    (pixels / "annotation.csv").write_text("tumour")


def test_a_fingerprint_is_kept_as_it_is(cohort: Dataset, job: Job, tmp_path: Path) -> None:
    one = fingerprint(read_pair(cohort, cohort.card.samples[0], job.resolution)[1])

    save_print(tmp_path / "print.npz", one)
    again = load_print(tmp_path / "print.npz", one.id)

    assert again.bulk == one.bulk
    assert again.top_ids == one.top_ids
    np.testing.assert_allclose(again.umi, one.umi, rtol=1e-6)


def test_every_pathology_encoder_says_what_it_saw() -> None:
    assert set(PATHOLOGY) <= set(TRAINED_ON)
    assert trained_on("somebody-elses") == (UNKNOWN,)


def _card(cohort_folder: Path, folder: Path, change: Callable[[str], str]) -> Path:
    """The small cohort under another card."""
    folder.mkdir()
    for path in cohort_folder.iterdir():
        if path.name != "dataset.toml":
            (folder / path.name).symlink_to(path)
    (folder / "dataset.toml").write_text(change((cohort_folder / "dataset.toml").read_text()))
    return folder / "dataset.toml"


def test_the_command_finds_nothing_on_clean_data(
    cohort_folder: Path, tmp_path: Path, own_cache: Path
) -> None:
    words = ("audit", "-d", str(cohort_folder / "dataset.toml"), "-r", "16um", "-m", "mean,ridge")
    done = type_command(*words, cwd=tmp_path, cache=own_cache)

    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "simulated-16um: nothing found")


def test_an_encoder_that_saw_the_data_is_a_flag(cohort_folder: Path, tmp_path: Path, own_cache: Path) -> None:
    card = _card(cohort_folder, tmp_path / "seen", lambda text: f'collections = ["imagenet"]\n{text}')
    words = ("-d", str(card), "-r", "16um", "-m", "mean,ridge", "--folds", "0")
    done = type_command("audit", *words, "--json", cwd=tmp_path, cache=own_cache)
    finding = json.loads(done.stdout.splitlines()[-1])

    assert done.returncode == 1
    assert (finding["id"], finding["severity"], finding["basis"]) == (
        "encoder-saw-data",
        "warning",
        "declared",
    )

    ran = type_command("run", *words, "-o", "out", cwd=tmp_path, cache=own_cache)
    assert ran.returncode == 0, ran.stderr
    assert "encoder-saw-data" in next((tmp_path / "out").glob("*-16um.md")).read_text()


def test_a_twin_stops_a_run(cohort_folder: Path, tmp_path: Path, own_cache: Path) -> None:
    """The second slide's files are those of the first: what a mixed-up download gives."""
    first, second = load_dataset(str(cohort_folder / "dataset.toml")).card.samples[:2]

    def twin(text: str) -> str:
        return (
            text.replace(second.path, first.path)
            .replace(second.image, first.image)
            .replace(second.truth, first.truth)
        )

    card = _card(cohort_folder, tmp_path / "twin", twin)
    words = ("-d", str(card), "-r", "16um", "-m", "mean", "--folds", "0")
    audit = type_command("audit", *words, cwd=tmp_path, cache=own_cache)
    run = type_command("run", *words, "-o", "out", cwd=tmp_path, cache=own_cache)

    assert audit.returncode == 3, audit.stdout
    assert "duplicate-section" in audit.stdout
    assert run.returncode == 2
    assert run.stderr.startswith("error: audit of simulated-16um: same-pixels: fold 0")
    assert not (tmp_path / "out").exists()


def test_a_patient_on_both_sides_stops_a_run(cohort_folder: Path, tmp_path: Path, own_cache: Path) -> None:
    first, second = load_dataset(str(cohort_folder / "dataset.toml")).card.samples[:2]
    card = _card(
        cohort_folder,
        tmp_path / "leak",
        lambda text: text.replace(f'patient = "{second.patient}"', f'patient = "{first.patient}"'),
    )
    words = ("-d", str(card), "-r", "16um", "-m", "mean")

    assert type_command("audit", *words, cwd=tmp_path, cache=own_cache).returncode == 3
    assert type_command("run", *words, cwd=tmp_path, cache=own_cache).returncode == 2


def test_an_unknown_data_set_is_one_line(tmp_path: Path, own_cache: Path) -> None:
    done = type_command("audit", "-d", "nowhere", cwd=tmp_path, cache=own_cache)

    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
