import os

from pipeline.params import DataSettings, Params
from pipeline.prepare import main


def test_the_stage_writes_its_files_and_says_what_they_are_in_three_lines(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(Params(data=DataSettings(name="digits"), method={"name": "any"}))
    assert sorted(os.listdir("out/data")) == ["manifest.json", "test.npz", "train.npz", "validation.npz"]
    assert capsys.readouterr().out.splitlines() == [
        "digits: 1294 train, 144 validation, 359 test images in out/data",
        "8 x 8 x 1 (H x W x C), 10 classes",
        "test images that are also in train: 0, that look like one there: 1, images whose picture has two labels: 0, "
        "repeated within a split: 0",
    ]
