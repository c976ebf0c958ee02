"""params.yaml, read and completed: what it leaves out is filled in by the method, the data and the schedule.

The settings themselves (pipeline.params) know neither methods nor networks; this file knows both.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.params.defaults import DATA_DEFAULTS, RADII
from pipeline.params.reading import ParamsError, one_of, read_yaml, validated
from pipeline.params.schema import Params, Section, TrainSettings


def complete(document: dict[str, Any]) -> Params:
    """Validates a params document and fills in every default; raises ParamsError."""
    from pipeline.methods import method_class

    params = validated(Params, document)
    given = {key: value for key, value in params.method.items() if key != "name"}
    if "name" not in params.method:
        raise ParamsError("method.name: is missing; `python -m pipeline.methods` lists the methods")
    method = method_class(params.method["name"])
    settings = validated(method.Settings, method.defaults(params.data.name) | given, prefix="method")

    defaults = DATA_DEFAULTS[params.data.name]
    preferred = method.sections(params.data.name)
    sections = {
        name: defaults.get(name, {}) | preferred.get(name, {}) | _set_by_hand(getattr(params, name))
        for name in _section_names()
    }
    if params.data.name != "folder":
        for field in ("image_size", "channels", "test_folder"):
            if getattr(params.data, field) is not None:
                raise ParamsError(f"data.{field}: only data.name folder takes it, got {getattr(params.data, field)}")
    sections["threat"] = _threat_section(params)
    if params.threat.norm not in method.trains_in:
        raise ParamsError(
            f"threat.norm: {method.name} trains in {', '.join(method.trains_in)}, got {params.threat.norm}"
        )
    radii = {norm: getattr(settings, f"eps_{norm}") for norm in method.norms}
    sections["attack"] = _attack_section(params, sections["threat"], radii)
    sections["train"] = method.schedule(sections["train"]["schedule"]) | sections["train"]
    if sections["train"].get("awp_gamma") and method.shares_graph:
        raise ParamsError(
            f"train.awp_gamma: {method.name}'s loss goes through the graph of its own attack, so that weights cannot be "
            "moved in between; leave it null"
        )
    _require_beginnings(sections["train"])
    if sections["train"].get("label_smoothing") and method.smooths_labels:
        raise ParamsError(
            f"train.label_smoothing: {method.name} smooths labels itself (method.true_class); leave it null"
        )
    sections["network"] = _network_section(sections["network"], needs_guide=method.needs_guide)
    document = {**params.model_dump(), **sections, "threads": params.cpu_threads}
    document["method"] = {"name": params.method["name"], **settings.model_dump(by_alias=True)}
    return validated(Params, document)


def _require_beginnings(train: dict[str, Any]) -> None:
    """A feature that begins after the last epoch would be off without a word."""
    begins = {"swa_start": train.get("averaging") == "swa", "awp_start": bool(train.get("awp_gamma"))}
    for field, wanted in begins.items():
        start = train.get(field, TrainSettings.model_fields[field].default)
        if wanted and start > (train["epochs"] - 1) / train["epochs"]:
            raise ParamsError(
                f"train.{field}: {start:g} begins in no epoch of {train['epochs']}; lower it, or train longer"
            )


def _threat_section(params: Params) -> dict[str, Any]:
    """The norm with its radius in its own unit; the other unit stays null."""
    given, data = params.threat, params.data.name
    field, other = ("eps_255", "eps") if given.norm == "linf" else ("eps", "eps_255")
    if getattr(given, other) is not None:
        raise ParamsError(f"threat.{other}: norm {given.norm} takes {field}, got {other} {getattr(given, other)}")
    default = DATA_DEFAULTS[data]["threat"]["eps_255"] if given.norm == "linf" else RADII[data][given.norm]
    return {"norm": given.norm, field: getattr(given, field) or default, other: None}


def _attack_section(params: Params, threat: dict[str, Any], radii: dict[str, float]) -> dict[str, Any]:
    """Radii by norm: those given; where none is, the threat's, the data's sweep, and those the method defends against."""
    defaults, given = DATA_DEFAULTS[params.data.name]["attack"], _set_by_hand(params.attack)
    section = {key: value for key, value in defaults.items() if key != "eps_255"} | given
    fields = ("eps_255", "eps_l2", "eps_l1")
    if not given.keys() & fields:
        if threat["norm"] == "linf":
            section["eps_255"] = sorted({threat["eps_255"], *defaults.get("eps_255", [])})
        else:
            section[f"eps_{threat['norm']}"] = [threat["eps"]]
        section |= {f"eps_{norm}": [radius] for norm, radius in radii.items()}
    if not any(section.get(field) for field in fields):
        raise ParamsError("attack: must name at least one radius in eps_255, eps_l2 or eps_l1; null takes the threat's")
    return section


def _network_section(section: dict[str, Any], *, needs_guide: bool) -> dict[str, Any]:
    from pipeline.networks import network_names

    for field in ("name", "guide"):
        if section.get(field) is not None and section[field] not in network_names():
            raise ParamsError(f"network.{field}: {one_of(network_names(), section[field])}")
    return section if needs_guide else {**section, "guide": None, "guide_width": None}


def _set_by_hand(section: Section) -> dict[str, Any]:
    return {key: value for key, value in section.model_dump().items() if value is not None}


def _section_names() -> list[str]:
    return [name for name in Params.model_fields if is_section(name) and name != "method"]


def is_section(name: object) -> bool:
    return name in Params.model_fields and name not in ("seed", "threads", "device")


def load_params(path: str | Path = "params.yaml") -> Params:
    """Reads, validates and completes a params file.

    Returns settings in which every default is filled in by its owner, so that they can be recorded as they are.
    Raises ParamsError with one line per wrong field (`method.alpha: must be ≥ 0, got -1`).
    """
    path = Path(path)
    document = read_yaml(path, "there is no such file; run from the folder that holds params.yaml")
    if not isinstance(document, dict):
        raise ParamsError(f"{path}: must be a mapping with the sections {', '.join(Params.model_fields)}")
    return complete({key: {} if value is None and is_section(key) else value for key, value in document.items()})
