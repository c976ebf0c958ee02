"""The schema of params.yaml: one frozen model a section, every field with its unit and range.

What params.yaml leaves out (or sets to null) is filled in by three owners: the method (loss weights, crafting), the
data (eps, network, image size, augmentation, sample size) and the schedule (epochs, learning rate, averaging).
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from bundle.errors import HallmarkError

Model = TypeVar("Model", bound=BaseModel)
Eps255 = Annotated[float, Field(gt=0, le=255)]
Radius = Annotated[float, Field(gt=0, le=1000)]


def _each_once(values: list[float]) -> list[float]:
    if len(set(values)) != len(values):
        raise ValueError("must list each eps once")
    return sorted(values)


class ParamsError(HallmarkError):
    """params.yaml says something that cannot be run; the message names every wrong field."""


class Section(BaseModel):
    """A section of params.yaml: unknown keys are refused, values keep their YAML type, nothing changes after loading."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
    )


class DataSettings(Section):
    """Which images, and how they are split."""

    name: Literal["digits", "cifar10", "cifar100", "tiny_imagenet", "folder"] = Field(description="the data set")
    path: str = Field("datasets", min_length=1, description="folder that holds the files; digits needs none")
    image_size: int | None = Field(None, ge=4, le=1024, description="side in pixels that folder images are resized to")
    channels: Literal[1, 3] | None = Field(None, description="1: greyscale, 3: RGB (folder only)")
    train_images: int | None = Field(None, ge=1, description="keep this many training images, stratified; null: all")
    test_images: int | None = Field(None, ge=1, description="keep this many test images, stratified; null: all")
    validation_share: float = Field(0.1, gt=0, lt=0.9, description="share of the training split held out for choices")
    test_share: float = Field(0.2, gt=0, lt=0.9, description="share held out for testing where there is no test split")
    extra: str | None = Field(
        None,
        min_length=1,
        description="npz of additional or generated training images, below `path`: images uint8 (N, H, W, C), labels (N,)",
    )
    extra_share: float = Field(0.5, gt=0, lt=1, description="share of every batch that is drawn from `extra`")
    seed: int = Field(
        0, ge=0, description="draws the splits; apart from `seed`, so that retrained models share a test split"
    )


class ThreatSettings(Section):
    """What training defends against; what is attacked follows from it, unless `attack` names radii."""

    norm: Literal["linf", "l2", "l1"] = Field("linf", description="norm of the ball")
    eps_255: Eps255 | None = Field(None, description="linf: radius in 255ths of the pixel range, > 0 to 255")
    eps: Radius | None = Field(None, description="l2, l1: radius for images in [0, 1], > 0")


class NetworkSettings(Section):
    """The target network, and the guide of co-training methods.

    Widths are multiples of 8: with others oneDNN's CPU kernels gave another result on every run, or crashed.
    """

    name: str | None = Field(None, description="a name of `python -m pipeline.networks`")
    width: int | None = Field(None, ge=8, multiple_of=8, description="channels of the first stage; null: as published")
    guide: str | None = Field(None, description="the guide's name (co-training methods)")
    guide_width: int | None = Field(None, ge=8, multiple_of=8, description="channels of the guide's first stage")


class TrainSettings(Section):
    """The optimisation; whatever is null comes from the schedule."""

    schedule: Literal["digits", "paper", "common"] | None = Field(None, description="owner of the defaults below")
    epochs: int | None = Field(None, ge=1, description="passes over the training split")
    batch_size: int | None = Field(None, ge=2, description="images a step")
    lr: float | None = Field(None, gt=0, description="peak learning rate")
    lr_shape: Literal["piecewise", "cosine", "one_cycle"] | None = Field(None, description="learning rate over time")
    milestones: list[float] | None = Field(
        None, description="piecewise: shares of all steps at which lr is divided by 10"
    )
    first_epoch_lr: float | None = Field(None, gt=0, description="learning rate of the first epoch, where it differs")
    warmup: float | None = Field(None, ge=0, lt=1, description="share of all steps in which lr rises linearly from 0")
    momentum: float | None = Field(None, ge=0, lt=1, description="of SGD (Nesterov off)")
    weight_decay: float | None = Field(None, ge=0, description="of SGD")
    averaging: Literal["none", "ema", "swa"] | None = Field(
        None, description="which weights are validated and served: the last, an exponential or an equal average"
    )
    ema_decay: float | None = Field(None, ge=0, lt=1, description="share of the old average kept a step")
    swa_start: float = Field(0.75, ge=0, lt=1, description="swa: share of the epochs before the average begins")
    gradient_clip: float | None = Field(None, gt=0, description="largest gradient norm; null: no clipping")
    label_smoothing: float | None = Field(
        None, gt=0, lt=1, description="share of every label that is spread over all classes equally; null: none"
    )
    augment: Literal["none", "shift", "crop_flip", "trivial"] | None = Field(
        None, description="shift: 1 px; crop_flip: crop with pad, flip; trivial: crop_flip, then TrivialAugment"
    )
    cutmix: float | None = Field(None, gt=0, le=1, description="share of the steps whose batch is mixed; null: none")
    awp_gamma: float | None = Field(
        None, gt=0, le=0.1, description="adversarial weight perturbation, as a share of each weight's norm; null: none"
    )
    awp_start: float = Field(0.0, ge=0, lt=1, description="share of the epochs before weight perturbation begins")
    eps_warmup: float | None = Field(
        None, gt=0, le=1, description="share of all steps in which eps rises linearly to its full size; null: none"
    )
    catastrophic_overfitting: Literal["log", "stop", "roll_back"] = Field(
        "log", description="what happens when single-step accuracy rises while PGD accuracy collapses"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 on CUDA, fp32 on CPU")
    compile: bool = Field(False, description="torch.compile the networks")
    channels_last: bool | None = Field(None, description="memory layout; null: on CUDA only")


class ExportSettings(Section):
    """The ONNX file."""

    opset: int = Field(20, ge=18, le=23, description="ONNX operator set")
    tolerance: float = Field(
        1e-3,
        gt=0,
        description="largest difference of logits between torch and ONNX Runtime, as a share of the largest logit",
    )


class AttackSettings(Section):
    """The evaluation on the test split."""

    tier: Literal["quick", "standard"] = Field(
        "standard", description="quick: PGD and margin; standard: and AutoAttack"
    )
    eps_255: Annotated[list[Eps255], AfterValidator(_each_once)] | None = Field(
        None, description="linf radii attacked, in 255ths of the pixel range"
    )
    eps_l2: Annotated[list[Radius], AfterValidator(_each_once)] | None = Field(
        None, description="l2 radii attacked, for images in [0, 1]"
    )
    eps_l1: Annotated[list[Radius], AfterValidator(_each_once)] | None = Field(
        None, description="l1 radii attacked, for images in [0, 1]"
    )
    images: int | None = Field(
        None, ge=1, description="test images drawn by `seed`, stratified; null: the data's default"
    )
    restarts: int = Field(1, ge=1, le=100, description="random starts of PGD and margin")
    batch_size: int = Field(256, ge=1, description="images attacked at once; AutoAttack's examples depend on it")
    seed: int = Field(0, ge=0, description="draws the sample and the random starts")


class CertifySettings(Section):
    """Randomized smoothing (Cohen et al. 2019)."""

    sigma: float = Field(0.25, gt=0, le=4, description="standard deviation of the noise, in units of the pixel range")
    selection: int = Field(100, ge=1, description="noisy copies that choose the class")
    estimation: int = Field(1000, ge=10, description="other noisy copies that bound its probability")
    alpha: float = Field(0.001, gt=0, lt=0.5, description="chance, an image, that its radius is too large")
    seed: int = Field(0, ge=0, description="draws the noise, image by image")


class Params(Section):
    """params.yaml as a whole."""

    seed: int = Field(0, ge=0, description="of the weights, the order of images and the training noise")
    threads: int = Field(2, ge=1, le=256, description="CPU threads; another number gives other weights")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: CUDA where there is one")
    data: DataSettings
    threat: ThreatSettings = ThreatSettings()
    network: NetworkSettings = NetworkSettings()
    method: dict[str, Any] = Field(
        description="name: of `python -m pipeline.methods`; the other keys are that method's"
    )
    train: TrainSettings = TrainSettings()
    export: ExportSettings = ExportSettings()
    attack: AttackSettings = AttackSettings()
    certify: CertifySettings = CertifySettings()


DATA_DEFAULTS: dict[str, dict[str, dict[str, Any]]] = {
    "digits": {
        "threat": {"eps_255": 32.0},
        "network": {"name": "preact_resnet8", "guide": "preact_resnet8"},
        "train": {"schedule": "digits", "augment": "shift"},
        "attack": {"images": 200},
    },
    "cifar10": {
        "threat": {"eps_255": 8.0},
        "network": {"name": "resnet18", "guide": "guide_resnet18"},
        "train": {"schedule": "paper", "augment": "crop_flip"},
        "attack": {"images": 1000, "eps_255": [8.0, 16.0]},
    },
    "folder": {
        "data": {"image_size": 32, "channels": 3},
        "threat": {"eps_255": 8.0},
        "network": {"name": "preact_resnet18", "guide": "resnet18"},
        "train": {"schedule": "paper", "augment": "crop_flip"},
        "attack": {"images": 1000},
    },
}
#: The radii of the other norms, where l∞'s is DATA_DEFAULTS': l2 and l1 for images in [0, 1].
RADII: dict[str, dict[str, float]] = {
    "digits": {"l2": 0.5, "l1": 1.0},
    "cifar10": {"l2": 0.5, "l1": 12.0},
    "cifar100": {"l2": 0.5, "l1": 12.0},
    "tiny_imagenet": {"l2": 0.5, "l1": 12.0},
    "folder": {"l2": 0.5, "l1": 12.0},
}
DATA_DEFAULTS["cifar100"] = DATA_DEFAULTS["cifar10"]
DATA_DEFAULTS["tiny_imagenet"] = {
    **DATA_DEFAULTS["cifar10"],
    "network": {"name": "preact_resnet18", "guide": "resnet18"},
}


def load_params(path: str | Path = "params.yaml") -> Params:
    """Reads, validates and completes a params file.

    Returns settings in which every default is filled in by its owner, so that they can be recorded as they are.
    Raises ParamsError with one line a wrong field (`method.alpha: must be ≥ 0, got -1`).
    """
    path = Path(path)
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=Yaml12Loader)
    except FileNotFoundError:
        raise ParamsError(f"{path}: there is no such file; run from the folder that holds params.yaml") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise ParamsError(f"{path}: must be a mapping with the sections {', '.join(Params.model_fields)}")
    return complete({key: {} if value is None and _is_section(key) else value for key, value in document.items()})


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
    sections = {name: defaults.get(name, {}) | _set_by_hand(getattr(params, name)) for name in _section_names()}
    if params.data.name != "folder":
        for field in ("image_size", "channels"):
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
    document = {**params.model_dump(), **sections}
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
            raise ParamsError(f"network.{field}: {_one_of(network_names(), section[field])}")
    return section if needs_guide else {**section, "guide": None, "guide_width": None}


def _set_by_hand(section: Section) -> dict[str, Any]:
    return {key: value for key, value in section.model_dump().items() if value is not None}


def _section_names() -> list[str]:
    return [name for name in Params.model_fields if _is_section(name) and name != "method"]


def _is_section(name: object) -> bool:
    return name in Params.model_fields and name not in ("seed", "threads", "device")


class Yaml12Loader(yaml.SafeLoader):
    """PyYAML reads 1e-3 as text, as YAML 1.1 does; DVC and people mean the number of YAML 1.2."""


Yaml12Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?$"),
    list("-+.0123456789"),
)


def validated(model: type[Model], document: Any, prefix: str = "") -> Model:
    """A document as a model; raises ParamsError with one line a wrong field, `prefix` before each."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise ParamsError("\n".join(_sentence(model, prefix, item) for item in error.errors())) from None


def _sentence(model: type[BaseModel], prefix: str, error: Any) -> str:
    """One validation error as `where: what would be right, what there was`."""
    parts = [prefix, *(str(part) for part in error["loc"])]
    where = ".".join(part for part in parts if part)
    limits, got = error.get("ctx", {}), error["input"]
    match error["type"]:
        case "greater_than_equal":
            return f"{where}: must be ≥ {limits['ge']:g}, got {got}"
        case "greater_than":
            return f"{where}: must be > {limits['gt']:g}, got {got}"
        case "less_than_equal":
            return f"{where}: must be ≤ {limits['le']:g}, got {got}"
        case "less_than":
            return f"{where}: must be < {limits['lt']:g}, got {got}"
        case "multiple_of":
            return f"{where}: must be a multiple of {limits['multiple_of']}, got {got}"
        case "literal_error":
            return f"{where}: must be one of {limits['expected']}, got {got!r}"
        case "missing":
            return f"{where}: is missing"
        case "extra_forbidden":
            return f"{where}: is not a key here; {_nearest(model, error['loc'])}"
        case "value_error":
            return f"{where}: {limits['error']}, got {got}"
        case "int_type" | "int_from_float":
            return f"{where}: must be a whole number, got {got!r}"
        case "float_type":
            return f"{where}: must be a number, got {got!r}"
        case "bool_type":
            return f"{where}: must be true or false, got {got!r}"
        case "dict_type" | "model_type" | "model_attributes_type":
            return f"{where}: must be a section with keys of its own, got {got!r}"
        case _:
            return f"{where}: {error['msg'][0].lower()}{error['msg'][1:]}, got {got!r}"


def _nearest(model: type[BaseModel], location: tuple[Any, ...]) -> str:
    for part in location[:-1]:
        model = model.model_fields[part].annotation  # type: ignore[assignment]  # sections are models
    known = [field.alias or name for name, field in model.model_fields.items()]
    close = difflib.get_close_matches(str(location[-1]), known, n=1)
    return f"did you mean {close[0]}?" if close else f"the keys are {', '.join(known) or 'none'}"


def _one_of(names: list[str], got: object) -> str:
    close = difflib.get_close_matches(str(got), names, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    return f"must be one of {', '.join(names)}, got {got!r}{hint}"
