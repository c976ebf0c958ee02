"""The curve of a training, read from its history."""

from pathlib import Path

import pytest

from bundle.errors import HallmarkError
from bundle.pages.figures import training
from pipeline.run.curve import training_curve

HISTORY = """\
epoch,lr,loss_cross_entropy,loss_kl,validation_clean,validation_pgd_10,selected
1,0.1,2.5,0.25,0.4,0.1,1
2,0.1,1.25,-0.5,0.8,0.6,1
"""


def test_terms_are_summed(tmp_path: Path) -> None:
    (tmp_path / "history.csv").write_text(HISTORY)
    assert training_curve(tmp_path) == [
        {"epoch": 1, "loss": 2.75, "clean": 0.4, "pgd_10": 0.1},
        {"epoch": 2, "loss": 0.75, "clean": 0.8, "pgd_10": 0.6},
    ]


@pytest.mark.parametrize("content", [HISTORY.replace("validation_clean", "clean"), HISTORY.replace("0.4", "much")])
def test_what_is_no_history_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "history.csv").write_text(content)
    with pytest.raises(HallmarkError, match=r"history\.csv: is no history"):
        training_curve(tmp_path)


def test_a_training_without_a_history_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HallmarkError, match="train"):
        training_curve(tmp_path)


@pytest.mark.parametrize("losses", [(2.0,), (0.0, 0.0), (-3.0, -1.0), (5.0, -5.0)])
def test_any_loss_is_drawn_inside_its_panel(losses: tuple[float, ...]) -> None:
    curve = [{"epoch": at, "loss": loss, "clean": 0.5, "pgd_10": 0.25} for at, loss in enumerate(losses, 1)]
    figure = training(curve, 1)
    drawn = figure.split('class="curve outline" d="')[1].partition('"')[0]
    heights = [float(number) for number in drawn.replace("M", "").replace("L", "").split()[1::2]]
    assert len(heights) == len(losses) and all(211.9 <= height <= 272.1 for height in heights)
