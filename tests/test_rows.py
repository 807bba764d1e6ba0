"""Rows with changed options, and the sweeps that packages bring."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hdstbench.errors import DataError, HdstError
from hdstbench.report.reported import reported_rows
from hdstbench.report.reproduction import MODELS, VARIANTS
from hdstbench.sweep.options import Options, resolve
from hdstbench.sweep.rows import RowSpec, presets, row_names
from hdstbench.sweep.setting import set_models

ROW = RowSpec(name="magnet-sum", model="magnet", set={"fusion": "sum", "loss": {"spot": 0.5}})


def test_a_row_is_its_model_with_other_options() -> None:
    plain, changed = set_models(["magnet", "magnet-sum"], "tiny", Options(rows=(ROW,)))

    assert (changed.name, changed.model, changed.kind) == ("magnet-sum", "magnet", "variant")
    assert (changed.config.fusion, plain.config.fusion) == ("sum", "concat")
    assert (changed.config.loss.spot, changed.config.loss.region) == (0.5, plain.config.loss.region)
    assert changed.changes == "fusion = 'sum', loss.spot = 0.5"
    assert "other-options" in changed.flags
    assert "other-options" not in plain.flags
    assert changed.key() != plain.key()


def test_all_means_models_and_rows_and_a_name_may_be_either() -> None:
    assert row_names(["all"], [ROW])[-1] == "magnet-sum"
    assert row_names(["magnet-sum", "mean"], [ROW]) == ["magnet-sum", "mean"]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([RowSpec(name="magnet", model="magnet")], "no installed model"),
        ([ROW, ROW], "no other row"),
        ([RowSpec(name="../x", model="magnet")], "wanted a name"),
        ([RowSpec(name="x", model="magnt")], "did you mean magnet"),
    ],
)
def test_bad_rows_are_refused(rows: list[RowSpec], says: str) -> None:
    with pytest.raises(HdstError, match=says):
        row_names(["all"], rows)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"fuson": "sum"}, "unknown option 'fuson'; did you mean fusion"),
        ({"fusion": "product"}, "'concat' or 'sum'"),
        ({"loss": {"spots": 1.0}}, "did you mean spot"),
        ({"width": 15}, "no multiple"),
        ({"levels": ["spots"]}, "'spot' or 'region'"),
        ({"heads": 0}, "heads = 0, wanted at least 1"),
        ({"neighbours": -1}, "neighbours = -1, wanted at least 0"),
        ({"epochs": "many"}, "wanted int"),
    ],
)
def test_an_option_that_is_not_there_or_of_another_kind_is_refused(
    change: dict[str, object], says: str
) -> None:
    row = RowSpec(name="mine", model="magnet", set=change)

    with pytest.raises(DataError, match=says):
        set_models(["mine"], "tiny", Options(rows=(row,)))


def test_options_that_exclude_each_other_are_refused_before_anything_runs() -> None:
    row = RowSpec(name="mine", model="ridge", set={"shared": True, "input_px": 64})

    with pytest.raises(DataError, match="shared = true takes patches as they are"):
        set_models(["mine"], "tiny", Options(rows=(row,)))


def test_a_model_without_options_says_so() -> None:
    row = RowSpec(name="mine", model="mean", set={"width": 1})

    with pytest.raises(DataError, match=r"unknown option .width.; \w+ has none"):
        set_models(["mine"], "tiny", Options(rows=(row,)))


@pytest.mark.parametrize("name", sorted(presets()))
def test_presets_resolve_to_rows_of_installed_models(name: str) -> None:
    assert name in presets()

    options, used = resolve({"preset": name}, "")

    assert used == f"preset {name}"
    names = row_names(options.models, options.rows)
    assert {row.name for row in options.rows} <= set(names)


def test_rows_of_the_blocks_preset_change_what_the_tables_2_and_3_leave_out() -> None:
    options, _ = resolve({"preset": "magnet-ablation-blocks"}, "")
    by_name = {s.name: s for s in set_models(options.models, "quick", options) if s.model == "magnet"}

    full = by_name.pop("magnet").config
    assert full.graph_attention == "gat"
    assert full.levels == ("spot", "region")
    assert by_name["magnet-without-gat"].config.graph_attention == "off"
    assert by_name["magnet-without-levels"].config.levels == ()
    both = by_name["magnet-without-both"].config
    assert (both.graph_attention, both.levels) == ("off", ())
    assert by_name["magnet-without-consistency"].config.loss.consistency == 0


def test_encoders_share_batch_and_graph() -> None:
    options, _ = resolve({"preset": "magnet-ablation-encoder"}, "")

    names = [row.name for row in options.rows]
    settings = set_models(names, "official", Options(rows=options.rows, weights="none"))
    assert len({s.config.encoder for s in settings}) == len(settings)
    assert {(s.config.batch_size, s.config.neighbours, s.config.checkpoint) for s in settings} == {
        (256, 8, True)
    }


def test_a_sweep_file_comes_after_the_preset_and_adds_rows(tmp_path: Path) -> None:
    path = tmp_path / "sweep.toml"
    path.write_text(
        'preset = "magnet-ablation-blocks"\nrecipe = "tiny"\nmodels = ["mine", "magnet-without-gat"]\n'
        '[[rows]]\nname = "mine"\nmodel = "magnet"\nset = { fusion = "sum" }\n'
    )

    options, used = resolve({"recipe": "quick"}, str(path))

    assert used == f"preset magnet-ablation-blocks and {path}"
    assert options.recipe == "quick"
    assert row_names(options.models, options.rows) == ["mine", "magnet-without-gat"]


def test_a_typed_preset_comes_after_the_sweep_file_and_keeps_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "sweep.toml"
    path.write_text(
        'models = ["mean"]\nprotocol = "hd"\nrecipe = "tiny"\n'
        '[[rows]]\nname = "mine"\nmodel = "magnet"\nset = { fusion = "sum" }\n'
    )

    options, _ = resolve({"preset": "magnet-table-1"}, str(path))

    assert (options.protocol, options.recipe) == ("magnet-paper", "tiny")
    assert {"magnet-random", "mine", "st-net"} <= set(options.models)


@pytest.mark.parametrize("given", [Options(encoder="resnet18"), Options(weights="uni.safetensors")])
def test_a_row_keeps_the_encoder_that_it_names(given: Options) -> None:
    row = RowSpec(name="mine", model="magnet", set={"encoder": "resnet50"})

    with pytest.raises(DataError, match="row mine sets its own encoder, resnet50"):
        set_models(["mine"], "tiny", replace(given, rows=(row,)))


def test_a_row_of_another_model_has_another_key() -> None:
    rows = [RowSpec(name="mine", model=model, set={"width": 32}) for model in ("magnet", "magnet-gene-pcc")]

    keys = [set_models(["mine"], "tiny", Options(rows=(row,)))[0].key() for row in rows]

    assert keys[0][:2] == ["mine", "magnet"]
    assert keys[1][:2] == ["mine", "magnet-gene-pcc"]


def test_predictions_that_depend_on_batch_mates_are_flagged() -> None:
    row = RowSpec(name="mine", model="magnet", set={"sampler": "random"})

    mine, plain = set_models(["mine", "magnet"], "tiny", Options(rows=(row,)))

    assert "batch-mates" in mine.flags
    assert "batch-mates" not in plain.flags
    assert "batch-mates" in set_models(["magnet-published"], "tiny", Options())[0].flags


def test_an_unknown_preset_is_told_with_those_there_are() -> None:
    with pytest.raises(HdstError, match="there are demo, full, magnet-ablation-blocks"):
        resolve({"preset": "magnet-ablations"}, "")


def test_a_row_that_is_no_table_is_refused(tmp_path: Path, refused: Callable[..., None]) -> None:
    refused(tmp_path, '[[rows]]\nname = "x"\n', "missing model")
    refused(tmp_path, 'rows = ["x"]\n', "wanted RowSpec")


@pytest.fixture
def refused() -> Callable[..., None]:
    """A sweep file is refused with a message."""

    def check(folder: Path, text: str, says: str) -> None:
        path = folder / "sweep.toml"
        path.write_text(text)
        with pytest.raises(DataError, match=says):
            resolve({}, str(path))

    return check


def test_the_sweep_file_of_the_docs_works(tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "models.md").read_text()
    (text,) = [b for b in re.findall(r"```toml\n(.*?)```", page, re.DOTALL) if "[[rows]]" in b]
    path = tmp_path / "hdstbench.toml"
    path.write_text(text)

    options, _ = resolve({}, str(path))

    names = row_names(options.models, options.rows)
    settings = set_models(names, "tiny", options)
    assert [s.model for s in settings if s.name == "magnet-sum"] == ["magnet"]


def test_presets_of_the_papers_protocol_hold_a_row_for_every_row_of_its_tables() -> None:
    names: set[str] = set()
    for preset in ("magnet-table-1", "magnet-tables-2-3", "magnet-table-4"):
        options, _ = resolve({"preset": preset}, "")
        assert options.protocol == "magnet-paper"
        names |= set(row_names(options.models, options.rows))
        set_models([n for n in row_names(options.models, options.rows) if "uni" not in n], "tiny", options)

    assert {*MODELS.values(), *VARIANTS.values()} <= names
    assert {row.variant for row in reported_rows() if row.variant} == VARIANTS.keys()
