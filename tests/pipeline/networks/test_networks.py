"""The networks: published sizes, shapes, normalisation inside, rebuilding from the description."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from pipeline.networks import NetworkError, build_network, describe, network_names

# Narrow enough for a test of every name; the wide ones multiply their width by ten.
NARROW = {name: 1 if name.startswith("wide") else 8 for name in network_names()}
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def narrow(name: str, **options: object) -> nn.Module:
    arguments = {"classes": 10, "channels": 3, "width": NARROW[name]} | options
    return build_network(name, **arguments)  # type: ignore[arg-type]


def trained(network: nn.Module) -> nn.Module:
    """In eval mode, with BatchNorm statistics and affine values that are not the neutral ones of a fresh network."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    network.train()
    with torch.no_grad():
        for _ in range(10):
            network(torch.rand(16, 3, 16, 16))
    return network.eval()


@pytest.mark.parametrize(
    ("name", "channels", "count"),
    [
        ("resnet18", 3, 11_173_962),
        ("guide_resnet18", 3, 11_173_962),
        ("preact_resnet18", 3, 11_172_170),
        ("wide_resnet_34_10", 3, 46_160_474),
        ("wide_resnet_30_10", 3, 36_479_194),
        ("wide_resnet_28_10", 3, 36_479_194),
        ("wide_resnet_34_1", 3, 466_714),
        ("resnet20", 3, 272_474),
        ("resnet32", 3, 466_906),
        ("resnet56", 3, 855_770),
        ("resnet8", 1, 77_754),
        ("preact_resnet8", 1, 77_562),
        ("plain4", 1, 71_754),
        ("cnn7", 3, 17_192_650),
    ],
)
def test_parameter_counts_are_the_published_ones(name: str, channels: int, count: int) -> None:
    with torch.device("meta"):
        network = build_network(name, classes=10, channels=channels)
    assert sum(parameter.numel() for parameter in network.parameters()) == count


def test_every_name_builds() -> None:
    assert set(network_names()) == {
        "resnet18", "preact_resnet18", "wide_resnet_34_10", "wide_resnet_30_10",
        "wide_resnet_28_10", "wide_resnet_34_1", "guide_resnet18", "resnet8", "resnet20", "resnet32", "resnet56",
        "preact_resnet8", "plain4", "cnn7",
    }  # fmt: skip


@pytest.mark.parametrize("side", [8, 32, 64])
@pytest.mark.parametrize("name", network_names())
def test_logits_have_one_row_an_image_and_one_column_a_class(name: str, side: int) -> None:
    logits = narrow(name, classes=7).eval()(torch.rand(2, 3, side, side))
    assert logits.shape == (2, 7)
    assert logits.isfinite().all()


def test_sides_need_not_be_equal_or_even() -> None:
    assert narrow("resnet18").eval()(torch.rand(2, 3, 9, 30)).shape == (2, 10)


@pytest.mark.parametrize(
    ("name", "sides"),
    [
        ("resnet18", [32, 16, 8, 4]),
        ("guide_resnet18", [32, 32, 16, 8]),
        ("preact_resnet18", [32, 16, 8, 4]),
        ("wide_resnet_34_10", [32, 16, 8]),
        ("preact_resnet8", [32, 16, 8]),
    ],
)
def test_feature_maps_have_the_sizes_of_the_published_code(name: str, sides: list[int]) -> None:
    """The guide's strides 1, 1, 2, 2 are all that sets it apart from resnet18."""
    network = narrow(name).eval()
    features, seen = torch.rand(1, NARROW[name], 32, 32), []
    for stage in network.get_submodule("stages").children():
        features = stage(features)
        seen.append(features.shape[-1])
    assert seen == sides


@pytest.mark.parametrize(("name", "widths"), [("resnet18", [6, 12, 24, 48]), ("wide_resnet_34_10", [60, 120, 240])])
def test_width_scales_every_stage(name: str, widths: list[int]) -> None:
    network = build_network(name, classes=10, channels=1, width=6)
    assert network.get_parameter("conv.weight").shape[:2] == (6, 1)
    last_blocks = [list(stage.children())[-1] for stage in network.get_submodule("stages").children()]
    assert [block.get_parameter("conv2.weight").shape[0] for block in last_blocks] == widths


def test_normalise_subtracts_the_mean_and_divides_by_the_deviation_of_each_channel() -> None:
    network = narrow("resnet8", mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 1.0))
    images = torch.tensor([1.0, 0.5, 0.75]).view(1, 3, 1, 1).expand(2, 3, 8, 8)
    expected = torch.tensor([1.0, 1.0, 0.75]).view(1, 3, 1, 1).expand(2, 3, 8, 8)
    assert torch.equal(network.get_submodule("normalise")(images), expected)


@pytest.mark.parametrize("name", network_names())
def test_normalisation_is_inside_the_network(name: str) -> None:
    plain, normalising = narrow(name).eval(), narrow(name, mean=MEAN, std=STD).eval()
    weights = {key: value for key, value in plain.state_dict().items() if not key.startswith("normalise.")}
    assert not normalising.load_state_dict(weights, strict=False).unexpected_keys
    images = torch.rand(4, 3, 8, 8)
    by_hand = (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    torch.testing.assert_close(normalising(images), plain(by_hand))
    assert not torch.allclose(normalising(images), plain(images))


def test_without_mean_and_std_the_images_stay_as_they_are() -> None:
    images = torch.rand(4, 3, 8, 8)
    assert torch.equal(narrow("resnet8").get_submodule("normalise")(images), images)


@pytest.mark.parametrize("options", [{}, {"mean": MEAN, "std": STD}])
@pytest.mark.parametrize("name", network_names())
def test_description_survives_json_and_rebuilds_the_network(name: str, options: dict[str, object]) -> None:
    network = trained(narrow(name, **options))
    description = json.loads(json.dumps(describe(network)))
    rebuilt = build_network(**description).eval()
    rebuilt.load_state_dict(network.state_dict(), strict=True)
    images = torch.rand(4, 3, 8, 8)
    # Widths that are no multiples of 8 round otherwise in every run on some processors.
    torch.testing.assert_close(rebuilt(images), network(images))
    assert describe(rebuilt) == description


def test_description_writes_every_default_out() -> None:
    """So that a later default cannot change what an old network.json means."""
    assert describe(build_network("resnet8", classes=10, channels=1)) == {
        "name": "resnet8", "classes": 10, "channels": 1, "width": 16, "mean": [0.0], "std": [1.0],
    }  # fmt: skip


def test_a_changed_description_leaves_the_network_alone() -> None:
    network = build_network("resnet8", classes=10, channels=1)
    describe(network)["mean"][0] = 0.5
    assert describe(network)["mean"] == [0.0]


def test_a_foreign_module_has_no_description() -> None:
    with pytest.raises(NetworkError, match="build_network made, got a Linear"):
        describe(nn.Linear(1, 1))


@pytest.mark.parametrize("name", network_names())
def test_in_eval_mode_a_row_does_not_depend_on_its_neighbours(name: str) -> None:
    network = trained(narrow(name)).double()  # float32 rounds differently for other batch sizes
    images = torch.rand(5, 3, 8, 8, dtype=torch.float64)
    alone = torch.cat([network(row) for row in images.split(1)])
    assert (network(images) - alone).abs().max() < 1e-6


@pytest.mark.parametrize("name", network_names())
def test_channels_last_gives_the_same_logits_and_trains(name: str) -> None:
    network, images = trained(narrow(name)), torch.rand(4, 3, 8, 8)
    expected = network(images)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    logits = network(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("name", ["guide_resnet18", "preact_resnet8", "wide_resnet_30_10"])
def test_one_graph_serves_every_batch_size(name: str) -> None:
    """What the ONNX exporter needs: no Python branch that depends on the data, no batch size written in."""
    network = trained(narrow(name, mean=MEAN, std=STD))
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(network, (torch.rand(2, 3, 8, 8),), dynamic_shapes=({0: batch},))
    for rows in (1, 3, 17):
        images = torch.rand(rows, 3, 8, 8)
        torch.testing.assert_close(program.module()(images), network(images), rtol=1e-4, atol=1e-4)


def test_compiles_without_a_graph_break() -> None:
    network, images = trained(narrow("preact_resnet8")), torch.rand(2, 3, 8, 8)
    compiled = cast(nn.Module, torch.compile(network, backend="eager", fullgraph=True))
    torch.testing.assert_close(compiled(images), network(images))
    assert describe(compiled) == describe(network)


def test_wide_networks_start_as_the_trades_code_does() -> None:
    network = build_network("wide_resnet_34_10", classes=10, channels=3, width=4)
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 10_000:
            variance = 2 / (module.kernel_size[0] ** 2 * module.out_channels)
            assert module.weight.var().item() == pytest.approx(variance, rel=0.1)
    assert not network.get_parameter("linear.bias").any()


def test_the_seed_draws_the_weights() -> None:
    def weights(seed: int) -> list[Tensor]:
        torch.manual_seed(seed)
        return list(narrow("wide_resnet_34_10").parameters())

    assert all(map(torch.equal, weights(1), weights(1)))
    assert not all(map(torch.equal, weights(1), weights(2)))


def test_an_unknown_name_lists_the_names_and_the_nearest_one() -> None:
    with pytest.raises(NetworkError, match=r"resnet18, .*, got 'preactresnet18' \(did you mean preact_resnet18\?\)"):
        build_network("preactresnet18", classes=10, channels=3)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"classes": 1}, "network classes: must be a whole number of at least 2, got 1"),
        ({"classes": 10.0}, "network classes: must be a whole number of at least 2, got 10.0"),
        ({"channels": 0}, "network channels: must be a whole number of at least 1, got 0"),
        ({"width": True}, "network width: must be a whole number of at least 1, got True"),
        ({"mean": MEAN}, "network mean, std: must be given together, or neither"),
        ({"mean": (0.5,), "std": STD}, r"network mean: must be 3 numbers, one per channel, got \(0.5,\)"),
        ({"mean": MEAN, "std": "abc"}, "network std: must be 3 numbers, one per channel, got 'abc'"),
        ({"mean": (float("nan"),) * 3, "std": STD}, "network mean: must be 3 numbers"),
        ({"mean": (125.3, 123.0, 113.9), "std": STD}, r"network mean: must be in \[0, 1\] as the images are"),
        ({"mean": MEAN, "std": (0.5, 0.5, 0.0)}, "network std: must be above 0 and at most 1"),
    ],
)
def test_a_wrong_value_is_named_in_one_sentence(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        narrow("resnet8", **wrong)


@pytest.mark.parametrize(
    "images", [torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.rand(2, 1, 8, 8), torch.rand(3, 8, 8)]
)
def test_images_that_would_only_seem_to_work_are_refused(images: Tensor) -> None:
    """Bytes would be taken for 0..255 floats, and one channel would be broadcast to three."""
    with pytest.raises(NetworkError, match=r"network input: must be float images in \[0, 1\] of shape \(N, 3, H, W\)"):
        narrow("resnet8")(images)


def test_names_are_known_without_importing_torch() -> None:
    code = "import sys, pipeline.networks as n; n.network_names(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_table_shows_every_network(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    from pipeline.networks.__main__ import table

    Console(width=200).print(table())
    printed = capsys.readouterr().out
    assert all(name in printed for name in network_names())
    assert "46,160,474" in printed and "Zagoruyko" in printed
