"""Claims, whole folders, the index, stale results and how far a run is."""

import json
import multiprocessing
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import type_command

from hdstbench.errors import DataError
from hdstbench.records import SCORES, Record, load_record, save_json
from hdstbench.sweep.cell import Cell, is_done, run_cell
from hdstbench.sweep.claim import claim, is_claimed
from hdstbench.sweep.durable import publish, recover
from hdstbench.sweep.overwrite import overwriting
from hdstbench.sweep.store import INDEX, cells_in, load_index, note, others, rebuild, with_older


def _hold(folder: Path, ready: "multiprocessing.Queue[int]") -> None:
    with claim(folder) as ours:
        ready.put(int(ours))
        time.sleep(60)


def test_a_claim_ends_with_its_owner_however_that_ends(tmp_path: Path) -> None:
    folder, context = tmp_path / "fold0-seed0-01234567", multiprocessing.get_context("spawn")
    ready: multiprocessing.Queue[int] = context.Queue()
    owner = context.Process(target=_hold, args=(folder, ready))
    owner.start()
    assert ready.get(timeout=30) == 1

    with claim(folder) as second:
        assert not second
    assert is_claimed(folder)
    owner.kill()
    owner.join()

    assert not is_claimed(folder)
    with claim(folder) as third:
        assert third


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    folder, part = tmp_path / "cell", tmp_path / "cell.part"
    for text in ("first", "second"):
        part.mkdir()
        (part / "file").write_text(text)
        publish(part, folder)

        assert (folder / "file").read_text() == text
        assert [p.name for p in tmp_path.iterdir()] == ["cell"]


def test_what_a_dying_process_moved_aside_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, part = tmp_path / "cell", tmp_path / "cell.part"
    folder.mkdir()
    (folder / "file").write_text("old")
    part.mkdir()
    real = Path.rename

    def dies(self: Path, target: Path) -> Path:
        if self == part:
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(Path, "rename", dies)
    with pytest.raises(KeyboardInterrupt):
        publish(part, folder)
    assert not folder.exists()

    recover(folder)

    assert (folder / "file").read_text() == "old"


def _record(number: int, **change: object) -> Record:
    record = Record(
        key=f"{number:016x}",
        model=f"m{number % 7}",
        kind="model",
        recipe="tiny",
        fold=number,
        seed=0,
        task={},
        status="ok",
        seconds={"total": 2.0},
        finished="2026-01-01T00:00:00+00:00",
    )
    return replace(record, **change)


def _store(run: Path, number: int, **change: object) -> Path:
    record = _record(number, **change)
    folder = run / "demo" / "16um" / record.model / f"fold{number}-seed0-{record.key[-8:]}"
    folder.mkdir(parents=True)
    save_json(folder / "record.json", record)
    return folder


def test_the_index_holds_what_the_folders_hold(tmp_path: Path) -> None:
    folders = [_store(tmp_path, number) for number in range(5)]
    for folder in folders:
        note(tmp_path, folder, load_record(folder))
    kept = load_index(tmp_path)

    assert kept == rebuild(tmp_path)
    assert sorted(kept) == sorted(str(folder.relative_to(tmp_path)) for folder in folders)


def test_an_index_cut_short_or_lost_is_no_harm(tmp_path: Path) -> None:
    folder = _store(tmp_path, 1)
    note(tmp_path, folder, load_record(folder))
    with (tmp_path / INDEX).open("a") as file:
        file.write('{"folder": "demo/16u')

    assert len(load_index(tmp_path)) == 1
    (tmp_path / INDEX).unlink()
    assert len(load_index(tmp_path)) == 1


def test_a_folder_that_is_gone_is_in_no_index(tmp_path: Path) -> None:
    folder = _store(tmp_path, 1)
    note(tmp_path, folder, load_record(folder))
    (folder / "record.json").unlink()

    assert load_index(tmp_path) == {}
    assert list(cells_in(tmp_path)) == []


def _many(run: Path, count: int) -> None:
    ready = "".join(f"{number}\n" for number in range(count))
    assert ready
    for number in range(count):
        note(run, run / "demo" / "16um" / "m" / f"fold{number}-seed0-{number:08x}", _record(number))


def test_many_writers_lose_no_line(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_many, args=(tmp_path, 200)) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    lines = (tmp_path / INDEX).read_text().splitlines()
    assert len(lines) == 800
    assert all(json.loads(line)["status"] == "ok" for line in lines)


@pytest.fixture
def cells(tmp_path: Path) -> Callable[..., Cell]:
    """A cell whose result is of another key than what is wanted."""

    def make(**change: object) -> Cell:
        folder = _store(tmp_path, 3, **change)
        save_json(folder / "scores.json", {"version": SCORES, "slides": []})
        (folder / "predictions.npz").touch()
        wanted = _record(3, key="f" * 16)
        return Cell(
            model="m",
            config=None,
            task=None,  # type: ignore[arg-type]
            split=None,  # type: ignore[arg-type]
            folders={},
            weights=None,
            folder=folder.with_name(f"fold3-seed0-{'f' * 8}"),
            cache=tmp_path,
            record=wanted,
        )

    return make


def test_a_stale_result_is_found_and_run_again(cells: Callable[..., Cell]) -> None:
    cell = cells()

    (kept,) = overwriting([cell], "stale")

    assert not is_done(kept)
    assert [p.name for p in others(cell.folder)] == ["fold3-seed0-00000003"]


def test_cells_with_older_results_are_counted(tmp_path: Path) -> None:
    old = _store(tmp_path, 3)
    wanted = [old.with_name(f"fold3-seed0-{'f' * 8}"), old.with_name(f"fold4-seed0-{'f' * 8}")]

    assert with_older(wanted) == 1
    assert with_older([old]) == 0
    assert with_older([tmp_path / "none" / "fold0-seed0-01234567"]) == 0


def test_a_stale_result_is_kept_if_asked_for_and_marked(cells: Callable[..., Cell]) -> None:
    (kept,) = overwriting([cells()], "never")

    assert is_done(kept)
    assert kept.stale
    assert kept.folder.name == "fold3-seed0-00000003"
    assert kept.record.key == f"{3:016x}"


def test_a_stale_failure_is_not_kept(cells: Callable[..., Cell]) -> None:
    (kept,) = overwriting([cells(status="failed")], "never")

    assert not kept.stale


def test_everything_is_made_anew_if_asked_for(cells: Callable[..., Cell]) -> None:
    assert [cell.anew for cell in overwriting([cells()], "always")] == [True]


def test_a_cell_that_another_run_is_at_is_left_alone(cells: Callable[..., Cell]) -> None:
    cell = cells()
    with claim(cell.folder):
        script = multiprocessing.get_context("fork").Pool(1)
        with script:
            assert script.apply(run_cell, (cell, print)) is None


@pytest.fixture(scope="module")
def swept(cohort_folder: Path, tmp_path_factory: pytest.TempPathFactory, own_cache: Path) -> Path:
    """A finished sweep of one control on one fold."""
    folder = tmp_path_factory.mktemp("swept")
    done = type_command(*_words(cohort_folder), cwd=folder, cache=own_cache)
    assert done.returncode == 0, done.stderr
    return folder


def _words(cohort_folder: Path) -> tuple[str, ...]:
    card = str(cohort_folder / "dataset.toml")
    return ("run", "-m", "mean", "-d", card, "-r", "16um", "--folds", "0", "--recipe", "tiny", "-o", "out")


def test_status_tells_what_is_whole_failed_and_waiting(swept: Path, own_cache: Path) -> None:
    plan = next((swept / "out").glob("*.plan.json"))
    cell = (
        swept
        / "out"
        / next(
            name for name in json.loads(plan.read_text())["cells"] if "mean/" in name and "slide" not in name
        )
    )
    assert "4 of 4 cells whole" in type_command("status", "out", cwd=swept, cache=own_cache).stdout

    cell.rename(cell.with_name("aside"))
    said = type_command("status", "out", cwd=swept, cache=own_cache).stdout
    cell.with_name("aside").rename(cell)

    assert "3 of 4 cells whole, 0 failed, none running, 1 waiting" in said
    assert "it goes on with: hdstbench run -m mean" in said


def test_status_in_json(swept: Path, own_cache: Path) -> None:
    said = type_command("status", "out", "--json", cwd=swept, cache=own_cache).stdout

    assert json.loads(said)["ok"] == 4


def test_status_of_no_run_says_what_is_wanted(tmp_path: Path, own_cache: Path) -> None:
    done = type_command("status", "nowhere", cwd=tmp_path, cache=own_cache)

    assert done.returncode == 2
    assert "wanted the -o folder of a run" in done.stderr


def test_a_dry_run_tells_what_is_there(swept: Path, cohort_folder: Path, own_cache: Path) -> None:
    done = type_command(*_words(cohort_folder), "--dry-run", cwd=swept, cache=own_cache)

    assert "4 of 4 cells, oracles among them, are there already" in done.stdout


def test_always_runs_everything_again(swept: Path, cohort_folder: Path, own_cache: Path) -> None:
    done = type_command(*_words(cohort_folder), "--overwrite", "always", cwd=swept, cache=own_cache)

    assert done.returncode == 0
    assert "[4/4]" in done.stdout


def test_an_unknown_way_to_overwrite_is_an_error(tmp_path: Path) -> None:
    from hdstbench.sweep.options import resolve  # noqa: PLC0415

    (tmp_path / "sweep.toml").write_text('overwrite = "perhaps"\n')
    with pytest.raises(DataError, match="wanted 'never' or 'stale' or 'always'"):
        resolve({}, str(tmp_path / "sweep.toml"))
