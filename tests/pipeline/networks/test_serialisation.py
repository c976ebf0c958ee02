"""The ONNX file is a function of the network alone; weights come back whole; torch and ONNX Runtime agree."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bundle.errors import HallmarkError
from bundle.served.runtime import OnnxClassifier
from pipeline.data.split import Split
from pipeline.evaluation.victim import check_parity
from pipeline.networks import build_network, describe
from pipeline.networks.serialisation import ServedNetwork, load_network, to_onnx

ROOT = Path(__file__).parents[3]
SHAPE = (8, 8, 1)


def small_network(seed: int = 0) -> nn.Module:
    """A network whose BatchNorm statistics are not the initial ones, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network("preact_resnet8", classes=10, channels=1, width=8)
        with torch.no_grad():
            for _ in range(3):
                network.train()(torch.rand(32, 1, 8, 8))
    return network.eval()


def save(network: nn.Module, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(network.state_dict(), folder / "weights.safetensors")
    (folder / "network.json").write_text(json.dumps(describe(network)))
    return folder


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return small_network()


@pytest.fixture(scope="module")
def content(network: nn.Module) -> bytes:
    return to_onnx(network, SHAPE, opset=20)


@pytest.fixture(scope="module")
def split() -> Split:
    generator = np.random.default_rng(0)
    return Split(generator.integers(0, 256, (40, *SHAPE), dtype=np.uint8), generator.integers(0, 10, 40))


def test_exporting_again_gives_the_same_bytes(network: nn.Module, content: bytes):
    assert to_onnx(network, SHAPE, opset=20) == content


def test_another_process_in_another_folder_gives_the_same_bytes(network: nn.Module, content: bytes, tmp_path: Path):
    save(network, tmp_path / "a folder")
    script = (
        "import sys; from pathlib import Path; from pipeline.networks.serialisation import load_network, to_onnx; "
        f"Path('model.onnx').write_bytes(to_onnx(load_network(Path('a folder')), {SHAPE}, opset=20))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert (tmp_path / "model.onnx").read_bytes() == content


def test_no_path_of_this_machine_is_in_the_file(content: bytes):
    for path in (str(ROOT), str(Path.home()) + "/", sys.prefix, "site-packages", ".py", os.getcwd()):
        assert path.encode() not in content, path


def test_the_file_says_what_made_it_and_nothing_else(content: bytes):
    model = onnx.load_from_string(content)
    assert {entry.key: entry.value for entry in model.metadata_props} == {
        "exporter": f"torch {torch.__version__}",
        "opset": "20",
    }
    assert {item.domain: item.version for item in model.opset_import}[""] == 20
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    assert not any(tensor.external_data for tensor in model.graph.initializer), "weights are inside"


def test_the_contract_of_the_file(content: bytes):
    classifier = OnnxClassifier(content, threads=1, device="cpu")
    assert classifier.image_shape == SHAPE and classifier.classes == 10


@pytest.mark.parametrize("size", [1, 3, 7])
def test_rows_are_the_same_in_batches_of_any_size(size: int, network: nn.Module, content: bytes, split: Split):
    classifier = OnnxClassifier(content, threads=1, device="cpu")
    parts = [classifier.logits(split.images[start : start + size]) for start in range(0, 40, size)]
    found = np.concatenate(parts)
    np.testing.assert_allclose(found, classifier.logits(split.images), rtol=0, atol=1e-5)
    with torch.no_grad():
        expected = ServedNetwork(network)(torch.from_numpy(split.images)).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    assert np.array_equal(found.argmax(1), expected.argmax(1))


def test_all_levels_are_divided_by_255_alike(network: nn.Module, content: bytes):
    """Every one of the 256 levels goes through both: v/255 and v·(1/255) differ at half of them."""
    images = np.arange(256, dtype=np.uint8).reshape(4, *SHAPE)
    with torch.no_grad():
        expected = network(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255).numpy()
    np.testing.assert_allclose(OnnxClassifier(content, device="cpu").logits(images), expected, rtol=0, atol=1e-4)


def test_the_served_network_is_the_network_on_images_over_255(network: nn.Module, split: Split):
    images = torch.from_numpy(split.images)
    with torch.no_grad():
        found = ServedNetwork(network)(images)
        assert torch.equal(found, network(images.permute(0, 3, 1, 2).to(torch.float32) / 255))


def test_colour_images_keep_their_channel_order():
    """NHWC to NCHW: a colour network would answer otherwise if channels were mixed up."""
    torch.manual_seed(1)
    network = build_network("resnet8", classes=3, channels=3, width=8).eval()
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 10, 3), dtype=np.uint8)
    with torch.no_grad():
        expected = network(torch.from_numpy(images).permute(0, 3, 1, 2) / 255).numpy()
    found = OnnxClassifier(to_onnx(network, (8, 10, 3), opset=18), device="cpu").logits(images)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_exporting_leaves_the_network_as_it_was():
    network = small_network().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    to_onnx(network, SHAPE, opset=20)
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in before.items())


def test_a_network_comes_back_whole_and_in_eval_mode(network: nn.Module, tmp_path: Path, split: Split):
    found = load_network(save(network, tmp_path))
    images = torch.from_numpy(split.images).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        assert torch.equal(found(images), network(images))
    assert not any(module.training for module in found.modules())


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_weights_must_fit_exactly(change: str, network: nn.Module, tmp_path: Path):
    save(network, tmp_path)
    weights: dict[str, Tensor] = load_file(tmp_path / "weights.safetensors")
    name = "linear.weight"
    if change == "missing":
        del weights[name]
    elif change == "extra":
        weights["extra"] = torch.zeros(1)
    else:
        weights[name] = torch.zeros(1, 2)
    save_file(weights, tmp_path / "weights.safetensors")
    with pytest.raises(HallmarkError, match=r"network\.json and weights\.safetensors do not fit together") as caught:
        load_network(tmp_path)
    assert "\n" not in str(caught.value)
    assert ("extra" if change == "extra" else name) in str(caught.value)


def test_every_float_weight_and_statistic_must_be_there(network: nn.Module, tmp_path: Path):
    """torch itself fills in BatchNorm's batch counter, which no answer depends on."""
    save(network, tmp_path)
    whole: dict[str, Tensor] = load_file(tmp_path / "weights.safetensors")
    for name in (name for name, value in whole.items() if value.is_floating_point()):
        save_file({key: value for key, value in whole.items() if key != name}, tmp_path / "weights.safetensors")
        with pytest.raises(HallmarkError, match="do not fit together"):
            load_network(tmp_path)


@pytest.mark.parametrize(
    "text", ["{", "[]", "3", '{"name": "resnet8"}', '{"name": "resnet8", "classes": 10, "channels": 1, "depth": 3}']
)
def test_a_damaged_description_is_one_sentence(text: str, network: nn.Module, tmp_path: Path):
    save(network, tmp_path)
    (tmp_path / "network.json").write_text(text)
    with pytest.raises(HallmarkError, match="do not fit together"):
        load_network(tmp_path)


def test_damaged_weights_are_one_sentence(network: nn.Module, tmp_path: Path):
    save(network, tmp_path)
    whole = (tmp_path / "weights.safetensors").read_bytes()
    for content in (b"", whole[:100], b"x" * 64):
        (tmp_path / "weights.safetensors").write_bytes(content)
        with pytest.raises(HallmarkError, match="do not fit together"):
            load_network(tmp_path)


@pytest.mark.parametrize("name", ["network.json", "weights.safetensors"])
def test_a_missing_file_names_the_stage_that_makes_it(name: str, network: nn.Module, tmp_path: Path):
    save(network, tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(HallmarkError, match=rf"{name}: there is no such file; the stage train makes it"):
        load_network(tmp_path)


def test_parity_of_an_honest_file(network: nn.Module, content: bytes, split: Split):
    found = check_parity(network, content, split, tolerance=1e-3, threads=1)
    assert found["images"] == 120 and found["tolerance"] >= 1e-3 and found["disagreements"] == 0
    assert 0 <= found["largestLogitDifference"] < 1e-4


def test_parity_fails_for_the_file_of_another_network(content: bytes, split: Split):
    with pytest.raises(
        HallmarkError, match=r"logits of model\.onnx differ from torch's by .*export\.tolerance allows 1\.00e-03"
    ):
        check_parity(small_network(1), content, split, tolerance=1e-3, threads=1)


def test_parity_judges_large_logits_by_their_size(network: nn.Module, split: Split):
    """A barely trained network can answer with logits of a million, of which float32 keeps seven digits."""

    class Loud(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return 1e6 * self.network(images)

    loud = Loud().eval()
    found = check_parity(loud, to_onnx(loud, SHAPE, opset=20), split, tolerance=1e-3, threads=1)
    assert found["tolerance"] > 10 and found["largestLogitDifference"] <= found["tolerance"]


def test_parity_fails_for_a_tolerance_that_rounding_exceeds(network: nn.Module, content: bytes, split: Split):
    with pytest.raises(HallmarkError, match=r"^model\.onnx|^logits of model\.onnx"):
        check_parity(network, content, split, tolerance=1e-12, threads=1)


def test_parity_fails_for_logits_that_are_no_numbers(content: bytes, split: Split):
    """NaN is larger than no tolerance, so the comparison must not be the other way round."""
    broken = small_network()
    with torch.no_grad():
        next(iter(broken.parameters())).fill_(torch.nan)
    with pytest.raises(HallmarkError, match=r"^model\.onnx|^logits of model\.onnx"):
        check_parity(broken, content, split, tolerance=1e-3, threads=1)
    with pytest.raises(HallmarkError, match=r"^model\.onnx|^logits of model\.onnx"):
        check_parity(broken, to_onnx(broken, SHAPE, opset=20), split, tolerance=1e-3, threads=1)


def test_parity_looks_beyond_the_clean_images(split: Split):
    """A file that answers right on the clean images alone is found out."""
    base = small_network()
    content = to_onnx(base, SHAPE, opset=20)
    known = torch.from_numpy(split.images).permute(0, 3, 1, 2) / 255

    class RightOnCleanOnly(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.base = base

        def forward(self, images: Tensor) -> Tensor:
            distance = (images[:, None] - known[None]).abs().flatten(2).amax(2).amin(1)
            return self.base(images) + (distance > 0).float()[:, None]

    with pytest.raises(HallmarkError, match=r"logits of model\.onnx differ from torch's by 1\.00e\+00"):
        check_parity(RightOnCleanOnly().eval(), content, split, tolerance=1e-3, threads=1)


class Branching(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        features = images.flatten(1)
        if features.sum() > 0:
            return features
        return -features


class Decomposing(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return torch.linalg.svd(images)[0].flatten(1)


class OneByOne(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([image.flatten() for image in images])


def test_a_network_that_cannot_be_exported_is_one_sentence_with_the_line(capfd: pytest.CaptureFixture[str]):
    for network, sentence in (
        (Branching(), r"\(it decides by the values of an image\) at tests/\S+, line \d+: if features\.sum\(\) > 0:"),
        (Decomposing(), r"nothing for torch's aten\._linalg_svd at tests/\S+, line \d+: return torch\.linalg\.svd"),
        (OneByOne(), "batches of any size; its code goes through the images one by one"),
        (torch.jit.script(nn.Flatten()), r"\(TypeError: "),
    ):
        with pytest.raises(HallmarkError, match=rf"^network: cannot be exported to ONNX.*{sentence}") as caught:
            to_onnx(network, (4, 4, 1), opset=18)
        assert "\n" not in str(caught.value)
    said = capfd.readouterr()
    assert said.out == said.err == ""


@pytest.mark.parametrize("below", [MemoryError(), SystemError("error return without exception set")])
def test_memory_that_ends_in_the_exporter_is_no_fault_of_the_network(
    network: nn.Module, monkeypatch: pytest.MonkeyPatch, below: Exception
):
    def fails(*arguments: object, **settings: object) -> None:
        raise RuntimeError("a step of the exporter failed") from below

    monkeypatch.setattr(torch.onnx, "export", fails)
    with pytest.raises(MemoryError):
        to_onnx(network, SHAPE, opset=20)
