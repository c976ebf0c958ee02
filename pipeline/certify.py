"""Stage certify: l2 radii that randomized smoothing proves, for the smoothed classifier and for no other."""

from __future__ import annotations

from bundle.claims import smoothing_bounds
from bundle.digests import canonical_json, write_whole
from bundle.layout import OUTCOMES
from bundle.outcomes import Outcomes, load_outcomes
from pipeline.data.split import load_split
from pipeline.evaluation.smoothed import describe, smoothed_columns
from pipeline.folders import OUT, Folders
from pipeline.params import Params
from pipeline.serialisation import load_network
from pipeline.stage import stage
from pipeline.training.devices import choose_device


def main(params: Params, folders: Folders = OUT) -> None:
    """Writes outcomes.parquet (the smoothed classifier's columns), smoothing.json, curve.csv and metrics.json."""
    settings, out = params.certify, folders.certified
    index = load_outcomes(folders.evidence / OUTCOMES)["index"]
    test = load_split(folders.data / "test.npz").take(index)
    columns = smoothed_columns(
        load_network(folders.trained), test.images, index, settings, choose_device(params.device)
    )
    outcomes = Outcomes({"index": index, "label": test.labels, **columns})
    described = describe(settings)
    *curve, average = smoothing_bounds(outcomes, described)
    rows = ["radius,certified_accuracy,lower,upper"]
    rows += ["{},{:.6f},{:.6f},{:.6f}".format(bound["radius"], bound["value"], *bound["interval"]) for bound in curve]
    metrics = {f"certified_at_{bound['radius']}": bound["value"] for bound in curve}
    write_whole(out / "smoothing.json", canonical_json({"smoothing": [described], "settings": settings.model_dump()}))
    write_whole(out / "curve.csv", ("\n".join(rows) + "\n").encode())
    write_whole(out / "metrics.json", canonical_json({**metrics, "average_certified_radius": average["value"]}))
    outcomes.save(out / OUTCOMES)
    print(
        f"smoothed classifier, sigma {settings.sigma:g} (not the served one): "
        f"average certified l2 radius {average['value']:.3f}"
    )


def leave_out(folders: Folders) -> None:
    """Writes the record of an evaluation that certifies nothing."""
    evidence = load_outcomes(folders.evidence / OUTCOMES)
    write_whole(folders.certified / "smoothing.json", canonical_json({"smoothing": [], "settings": None}))
    Outcomes({name: evidence[name] for name in ("index", "label")}).save(folders.certified / OUTCOMES)


if __name__ == "__main__":
    stage("certify", main)
