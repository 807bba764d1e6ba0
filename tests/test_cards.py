"""Cards of single public slides: files are where 10x puts them, and checksums are checksums."""

import re

import pytest

from hdstbench.data.card import load_dataset, shipped

SINGLE = sorted(name for name in shipped() if name.startswith("hd-"))


@pytest.mark.parametrize("name", SINGLE)
def test_a_single_slide_is_named_and_found_by_its_id(name: str) -> None:
    card = load_dataset(name).card
    (sample,) = card.samples
    paths = [file.path for file in sample.files]

    assert card.name == name
    assert not card.splits
    assert f" {sample.path}, Space Ranger {card.base_url.rsplit('/', 1)[1]}" in card.citation
    assert all(path.startswith(f"{sample.path}/{sample.path}_") for path in paths)
    if sample.image:
        assert re.fullmatch(r".+_tissue_image\.(btf|tif)", sample.image)
        assert paths == [sample.image, f"{sample.path}/{sample.path}_binned_outputs.tar.gz"]


@pytest.mark.parametrize("name", [*SINGLE, "crc"])
def test_a_checksum_comes_with_an_exact_size(name: str) -> None:
    for file in (file for sample in load_dataset(name).card.samples for file in sample.files):
        assert re.fullmatch(r"([0-9a-f]{32})?", file.md5)
        assert not (file.bytes and file.about)
        assert bool(file.md5) == bool(file.bytes)


def test_the_section_that_was_published_three_times_is_of_one_patient() -> None:
    crc = {sample.id: sample.patient for sample in load_dataset("crc").card.samples}

    again = [load_dataset(name).card.samples[0] for name in ("hd-colon-2024", "hd-colon-2025")]

    assert {sample.patient for sample in again} == {crc["P2CRC"]}
    assert len({sample.files[0].md5 for sample in again}) == 1
