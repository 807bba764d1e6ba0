"""Checkpoints of the authors start a run; whatever else is given is refused."""

import importlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import Planted
from safetensors.torch import save_file
from torch import nn

from hdstbench.errors import DataError
from hdstbench.plugins.plugin import RunContext
from hdstbench.plugins.registry import load_model
from hdstbench.torchkit.encoders import read_weights
from hdstbench.torchkit.official import Official


class Net(nn.Module):
    def __init__(self, genes: int = 3, rows: int = 4) -> None:
        super().__init__()
        self.body = nn.Linear(2, 5)
        self.table = nn.Embedding(rows, 2)
        self.head = nn.Linear(5, genes)


OFFICIAL = Official(
    model="Toy",
    mark=r"layers\.0\.fn\.weight",
    rules=(
        (r"layers\.0\.fn\.(.*)", r"body.\1"),
        (r"gene_head\.(.*)", r"head.\1"),
        (r"pos\.(.*)", r"table.\1"),
    ),
    unused=(r"dead\..*",),
    anew=(r"head\..*",),
    tables=(r"table\..*",),
)


def _theirs(genes: int = 3, rows: int = 4) -> dict[str, torch.Tensor]:
    net = Net(genes, rows)
    names = {"body": "layers.0.fn", "head": "gene_head", "table": "pos"}
    tensors = {f"{names[k.split('.')[0]]}.{k.split('.')[1]}": v for k, v in net.state_dict().items()}
    return tensors | {"dead.weight": torch.zeros(7)}


def test_names_become_ours_and_every_tensor_is_loaded() -> None:
    theirs, net = _theirs(), Net()

    OFFICIAL.load(net, theirs)

    assert OFFICIAL.knows(theirs)
    assert not OFFICIAL.knows(net.state_dict())
    torch.testing.assert_close(net.body.weight, theirs["layers.0.fn.weight"])
    torch.testing.assert_close(net.head.bias, theirs["gene_head.bias"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers.1.fn.weight": torch.zeros(1)}, "0 tensors missing, 1 unknown, 0 of another shape"),
        (
            {"layers.0.fn.bias": torch.zeros(6)},
            r"1 of another shape, such as body.bias \(6,\), wanted \(5,\)",
        ),
        ({"gene_head.bias": None}, "1 tensors missing, 0 unknown"),
    ],
)
def test_a_state_dict_that_does_not_fit_is_refused(change: dict[str, torch.Tensor], message: str) -> None:
    tensors = {k: v for k, v in (_theirs() | change).items() if v is not None}

    with pytest.raises(DataError, match=message):
        OFFICIAL.load(Net(), tensors)


def test_a_run_keeps_its_own_head_and_takes_the_rows_that_both_have() -> None:
    theirs, net = _theirs(genes=9, rows=6), Net()
    head = net.head.weight.clone()

    OFFICIAL.start(net, theirs)

    torch.testing.assert_close(net.body.weight, theirs["layers.0.fn.weight"])
    torch.testing.assert_close(net.head.weight, head)
    torch.testing.assert_close(net.table.weight, theirs["pos.weight"][:4])


def test_a_longer_table_keeps_its_further_rows() -> None:
    theirs, net = _theirs(rows=3), Net()
    last = net.table.weight[3].clone()

    OFFICIAL.start(net, theirs)

    torch.testing.assert_close(net.table.weight[:3], theirs["pos.weight"])
    torch.testing.assert_close(net.table.weight[3], last)


def test_a_run_refuses_a_checkpoint_of_another_size() -> None:
    tensors = _theirs() | {"layers.0.fn.weight": torch.zeros(5, 3)}

    with pytest.raises(DataError, match=r"body.weight \(5, 3\), wanted \(5, 2\)"):
        OFFICIAL.start(Net(), tensors)


@pytest.mark.parametrize("kind", ["safetensors", "torch file of a data-parallel run"])
def test_st_net_starts_from_a_published_checkpoint(planted: list[Planted], tmp_path: Path, kind: str) -> None:
    """Its head is started anew: a checkpoint was made for other genes."""
    plugin = load_model("st-net")
    config = replace(
        plugin.recipes["official"], epochs=1, epoch_units=2, batch_size=2, test_symmetries=1, input_px=48
    )
    slides = [p.slide.take(np.arange(4)) for p in planted[:1]]
    first = plugin.build(replace(config, learning_rate=0.0))
    first.fit(slides, [], RunContext(seed=0, scratch=tmp_path, cache=tmp_path))
    tensors = {
        name.replace("encoder.net.", "").replace("head.", "classifier."): value
        for name, value in first.net.state_dict().items()
        if name not in ("encoder.mean", "encoder.std")
    }
    tensors["classifier.weight"] = torch.ones(250, 1024)
    tensors["classifier.bias"] = torch.ones(250)
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pt")
    if kind == "safetensors":
        save_file(tensors, path)
    else:
        torch.save({"model": {f"module.{k}": v for k, v in tensors.items()}, "optim": {}}, path)

    second = plugin.build(replace(config, learning_rate=0.0))
    second.fit(slides, [], RunContext(seed=1, scratch=tmp_path, cache=tmp_path, weights=path))

    name = "encoder.net.features.denseblock1.denselayer1.conv1.weight"
    torch.testing.assert_close(second.net.state_dict()[name], first.net.state_dict()[name])
    assert second.net.head.out_features == 3


@pytest.mark.parametrize("name", ["st_net", "his_to_gene", "his2st", "egn", "bleep", "triplex"])
def test_the_tensors_of_another_model_are_refused_in_one_line(name: str) -> None:
    module = importlib.import_module(f"hdstbench_baselines.{name}")

    with pytest.raises(DataError, match=r"these 3 tensors are no .* checkpoint; they hold body.weight"):
        module.load_official({"body.weight": torch.zeros(3), "b": torch.zeros(1), "c": torch.zeros(1)})


def test_a_table_of_another_width_or_one_that_is_missing_is_refused() -> None:
    wide = _theirs() | {"pos.weight": torch.zeros(4, 3)}
    bare = {name: value for name, value in _theirs().items() if not name.startswith("pos")}

    with pytest.raises(DataError, match=r"1 of another shape, such as table\.weight"):
        OFFICIAL.start(Net(), wide)
    with pytest.raises(DataError, match=r"1 tensors missing.*table\.weight"):
        OFFICIAL.start(Net(), bare)


@pytest.mark.parametrize(
    "content", [b"", torch.zeros(3), [torch.zeros(3)], {"a": 1}], ids=["empty", "tensor", "list", "numbers"]
)
def test_a_file_without_named_tensors_is_refused(tmp_path: Path, content: object) -> None:
    path = tmp_path / "w.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)

    with pytest.raises(DataError, match=r"w\.pt (is no weights file|holds a .* without named tensors)"):
        read_weights(path)
