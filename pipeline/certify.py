"""Stage certify: l2 radii that randomized smoothing proves, for the smoothed classifier and for no other."""

from __future__ import annotations

from pathlib import Path

from bundle.claims import smoothing_bounds
from bundle.digests import canonical_json, write_whole
from bundle.layout import OUTCOMES
from bundle.outcomes import Outcomes, load_outcomes
from pipeline.data.split import load_split
from pipeline.evaluation.smoothed import describe, smoothed_columns
from pipeline.params import Params
from pipeline.serialisation import load_network
from pipeline.stage import stage
from pipeline.training.devices import choose_device

DATA, TRAINED, EVIDENCE, OUT = Path("out/data"), Path("out/train"), Path("out/evidence"), Path("out/certified")


def main(params: Params) -> None:
    """Writes outcomes.parquet (the smoothed classifier's columns), smoothing.json, curve.csv and metrics.json."""
    settings = params.certify
    index = load_outcomes(EVIDENCE / OUTCOMES)["index"]
    test = load_split(DATA / "test.npz").take(index)
    columns = smoothed_columns(load_network(TRAINED), test.images, index, settings, choose_device(params.device))
    outcomes = Outcomes({"index": index, "label": test.labels, **columns})
    described = describe(settings)
    *curve, average = smoothing_bounds(outcomes, described)
    rows = ["radius,certified_accuracy,lower,upper"]
    rows += ["{},{:.6f},{:.6f},{:.6f}".format(bound["radius"], bound["value"], *bound["interval"]) for bound in curve]
    metrics = {f"certified_at_{bound['radius']}": bound["value"] for bound in curve}
    write_whole(OUT / "smoothing.json", canonical_json({"smoothing": [described], "settings": settings.model_dump()}))
    write_whole(OUT / "curve.csv", ("\n".join(rows) + "\n").encode())
    write_whole(OUT / "metrics.json", canonical_json({**metrics, "average_certified_radius": average["value"]}))
    outcomes.save(OUT / OUTCOMES)
    print(
        f"smoothed classifier, sigma {settings.sigma:g} (not the served one): "
        f"average certified l2 radius {average['value']:.3f}"
    )


if __name__ == "__main__":
    stage("certify", main)
