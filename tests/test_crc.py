"""The CRC command word for word, from an empty cache to the table, against a mirror of simulated files.

The mirror serves four small simulated slides under the names and in the archives of the CRC download.
"""

import json
import shutil
import tarfile
from pathlib import Path

import pytest
from helpers import type_command
from web import Fault, Web

from hdstbench.data.card import load_dataset
from hdstbench.data.image import open_image
from hdstbench.protocol.splits import load_split
from hdstbench.simulate.cohort import Cohort, simulate

COMMAND = "run --models all --dataset crc --res 16um"


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a mirror of the CRC files holds, made of a simulated cohort."""
    root, cohort = (tmp_path_factory.mktemp(name) / "x" for name in ("mirror", "cohort"))
    root.mkdir()
    simulate(Cohort(slides=4, size_mm=0.3), cohort)
    crc = load_dataset("crc")
    slides = {sample.id: sample for sample in crc.card.samples}
    for number, name in enumerate(load_split(crc, None).slides, 1):
        folder = root / slides[name].path
        folder.mkdir()
        source = cohort / f"SIM{number}"
        shutil.copyfile(next(source.glob("*_tissue_image.*")), folder / f"{folder.name}_tissue_image.btf")
        outs = source / "outs" if (source / "outs").is_dir() else source
        with tarfile.open(folder / f"{folder.name}_binned_outputs.tar.gz", "w:gz", compresslevel=1) as tar:
            tar.add(outs / "binned_outputs", "binned_outputs")
    return root


def test_the_crc_command_goes_from_an_empty_cache_to_the_table(mirror: Path, tmp_path: Path) -> None:
    (tmp_path / "hdstbench.toml").write_text('recipe = "tiny"\n')
    cache = tmp_path / "cache"
    fault = {"_P2_binned_outputs.tar.gz": Fault(drop_at=300_000)}

    with Web(mirror, fault) as web:
        done = type_command(*COMMAND.split(), "--mirror", web.url, "--yes", cwd=tmp_path, cache=cache)
        asked = {request.path.strip("/").split("/")[0] for request in web.log if request.method == "GET"}
        ranges = [request.range for request in web.log if request.range]

    assert done.returncode == 0, done.stderr + done.stdout
    assert "crc: 8 files from http://127.0.0.1" in done.stdout  # it says what will come
    assert asked == {path.name for path in mirror.iterdir()}  # the four patients, not P5CRC
    assert ranges == ["bytes=300000-"]  # and goes on where the connection was dropped
    table = (tmp_path / "runs/default/crc-16um.md").read_text()
    assert "# crc-16um: Human colorectal cancer and normal adjacent colon, Visium HD" in table
    assert "leave one patient out: four patients, one slide each" in table
    rows = json.loads((tmp_path / "runs/default/crc-16um.json").read_text())["rows"]
    assert {row["model"] for row in rows} >= {"st-net", "magnet", "ridge", "shuffled-ridge", "mean"}
    assert all(row["pcc"] is not None for row in rows)
    sums = json.loads((cache / "data/crc/checksums.json").read_text())
    assert len(json.dumps(sums).split("sha256")) > 8

    _other_resolutions(tmp_path, cache)


def _other_resolutions(work: Path, cache: Path) -> None:
    """At 8 and 55 um, without any server: the files are there now."""
    words = "run --models mean --dataset crc --res 8um,55um"

    done = type_command(*words.split(), cwd=work, cache=cache)

    assert done.returncode == 0, done.stderr + done.stdout
    assert "fetching" not in done.stdout
    for name in ("crc-8um", "crc-55um"):
        assert "| *mean* (control) | 0.000 |" in (work / "runs/default" / f"{name}.md").read_text()


def test_without_leave_it_says_what_it_would_download_and_stops(tmp_path: Path) -> None:
    done = type_command(*COMMAND.split(), "--recipe", "quick", cwd=tmp_path, cache=tmp_path / "cache")

    assert done.returncode == 2
    assert "about 12.5 GB" in done.stdout
    assert "Visium_HD_Human_Colon_Normal_P5/Visium_HD_Human_Colon_Normal_P5_tissue_image.btf" in done.stdout
    assert "P5CRC" not in done.stdout
    assert "to fetch them, type: hdstbench data fetch crc --only P1CRC,P2CRC,P3NAT,P5NAT" in done.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_the_crc_card_is_that_of_the_paper() -> None:
    crc = load_dataset("crc")
    patients = {sample.id: sample.patient for sample in crc.card.samples}

    assert patients == {"P1CRC": "P1", "P2CRC": "P2", "P3NAT": "P3", "P5NAT": "P5", "P5CRC": "P5"}
    assert crc.card.licence == "CC-BY-4.0"
    assert load_split(crc, None).slides == ("P1CRC", "P2CRC", "P3NAT", "P5NAT")
    assert load_split(crc, "five").folds[3].test == ("P5NAT", "P5CRC")
    for sample in crc.card.samples:
        urls = [f"{crc.card.base_url}/{file.path}" for file in sample.files]
        assert all(
            url.startswith("https://cf.10xgenomics.com/samples/spatial-exp/3.0.0/Visium") for url in urls
        )
        assert sample.image == sample.files[0].path
        assert sample.files[1].path.endswith("_binned_outputs.tar.gz")


def test_the_mirror_is_one_of_small_pictures(mirror: Path) -> None:
    for path in mirror.rglob("*.btf"):
        assert max(open_image(path).size) < 3_000
    assert sum(path.stat().st_size for path in mirror.rglob("*") if path.is_file()) < 200_000_000
