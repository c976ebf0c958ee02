"""The schema of params.yaml: one frozen model a section, every field with its unit and range."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator

#: What torch's generators and NumPy's take alike, with room for those that follow from it.
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
#: Images, steps, epochs, copies: more than anybody has, and no more than arrays can count.
Count = Annotated[int, Field(ge=1, le=10**9)]
#: A batch is held in memory at once.
Batch = Annotated[int, Field(ge=1, le=2**20)]
#: Channels of a first stage. Widths are multiples of 8: with others oneDNN's CPU kernels gave another result on every
#: run, or crashed. A resnet18 of the largest has 2.8 billion weights.
Width = Annotated[int, Field(ge=8, le=1024, multiple_of=8)]
#: float32 holds nothing larger.
Rate = Annotated[float, Field(gt=0, le=1e38)]
Eps255 = Annotated[float, Field(gt=0, le=255)]
Multiple = Annotated[float, Field(gt=0, le=10)]
Radius = Annotated[float, Field(gt=0, le=1000)]
Words = Annotated[str | None, Field(min_length=1, max_length=200)]


def _each_once(values: list[float]) -> list[float]:
    if len(set(values)) != len(values):
        raise ValueError("must list each eps once")
    return sorted(values)


def _deviations(value: object) -> float | list[float]:
    """One deviation, or several in the order in which they are reported."""
    listed: list[Any] = value if isinstance(value, list) else [value]
    numbers = [float(item) for item in listed if type(item) in (int, float) and 0 < item <= 4]
    if not listed or len(numbers) < len(listed) or len({f"{number:g}" for number in numbers}) < len(numbers):
        raise ValueError("must be a number > 0 to 4, or a list of such numbers, each once")
    return numbers if isinstance(value, list) else numbers[0]


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
    path: str = Field(default="datasets", min_length=1, description="folder that holds the files; digits needs none")
    image_size: int | None = Field(
        default=None, ge=4, le=1024, description="side in pixels that folder images are resized to"
    )
    test_folder: str | None = Field(
        default=None,
        min_length=1,
        description="folder of the test images, e.g. val, where none is called test (folder only)",
    )
    channels: Literal[1, 3] | None = Field(default=None, description="1: greyscale, 3: RGB (folder only)")
    train_images: Count | None = Field(
        default=None, description="keep this many training images, stratified; null: all"
    )
    test_images: Count | None = Field(default=None, description="keep this many test images, stratified; null: all")
    validation_share: float = Field(
        default=0.1, gt=0, lt=0.9, description="share of the training split held out for choices"
    )
    test_share: float = Field(
        default=0.2, gt=0, lt=0.9, description="share held out for testing where there is no test split"
    )
    extra: str | None = Field(
        default=None,
        min_length=1,
        description="npz of additional or generated training images, below `path`: images uint8 (N, H, W, C), labels (N,)",
    )
    extra_share: float = Field(default=0.5, gt=0, lt=1, description="share of every batch that is drawn from `extra`")
    title: Words = Field(default=None, description="the data's name on pages; null: `name`")
    source: Words = Field(default=None, description="where the images come from, for the pages; null: what is known")
    licence: Words = Field(default=None, description="under which the images may be used; null: what is known")
    seed: Seed = Field(
        default=0, description="draws the splits; apart from `seed`, so that retrained models share a test split"
    )


class ThreatSettings(Section):
    """What training defends against; what is attacked follows from it, unless `attack` names radii."""

    norm: Literal["linf", "l2", "l1"] = Field(default="linf", description="norm of the ball")
    eps_255: Eps255 | None = Field(default=None, description="linf: radius in 255ths of the pixel range, > 0 to 255")
    eps: Radius | None = Field(default=None, description="l2, l1: radius for images in [0, 1], > 0")


class NetworkSettings(Section):
    """The target network, and the guide of co-training methods."""

    name: str | None = Field(default=None, description="a name of `python -m pipeline.networks`")
    width: Width | None = Field(default=None, description="channels of the first stage; null: as published")
    guide: str | None = Field(default=None, description="the guide's name (co-training methods)")
    guide_width: Width | None = Field(default=None, description="channels of the guide's first stage")


class TrainSettings(Section):
    """The optimisation; whatever is null comes from the schedule."""

    schedule: Literal["digits", "paper", "common"] | None = Field(
        default=None, description="owner of the defaults below"
    )
    epochs: int | None = Field(default=None, ge=1, le=100_000, description="passes over the training split")
    batch_size: int | None = Field(default=None, ge=2, le=2**20, description="images per step")
    lr: Rate | None = Field(default=None, description="peak learning rate")
    lr_shape: Literal["piecewise", "cosine", "one_cycle"] | None = Field(
        default=None, description="learning rate over time"
    )
    milestones: list[Annotated[float, Field(ge=0, le=1)]] | None = Field(
        default=None, max_length=100, description="piecewise: shares of all steps at which lr is divided by 10"
    )
    first_epoch_lr: Rate | None = Field(default=None, description="learning rate of the first epoch, where it differs")
    warmup: float | None = Field(
        default=None, ge=0, lt=1, description="share of all steps in which lr rises linearly from 0"
    )
    momentum: float | None = Field(default=None, ge=0, lt=1, description="of SGD (Nesterov off)")
    weight_decay: float | None = Field(default=None, ge=0, le=1, description="of SGD")
    averaging: Literal["none", "ema", "swa"] | None = Field(
        default=None, description="which weights are validated and served: the last, an exponential or an equal average"
    )
    ema_decay: float | None = Field(default=None, ge=0, lt=1, description="share of the old average kept a step")
    swa_start: float = Field(default=0.75, ge=0, lt=1, description="swa: share of the epochs before the average begins")
    gradient_clip: float | None = Field(
        default=None, gt=0, le=1e6, description="largest gradient norm; null: no clipping"
    )
    label_smoothing: float | None = Field(
        default=None, gt=0, lt=1, description="share of every label that is spread over all classes equally; null: none"
    )
    augment: Literal["none", "shift", "crop", "crop_flip", "trivial"] | None = Field(
        default=None,
        description="shift: 1 px; crop: crop with pad; crop_flip: and horizontal flip; trivial: crop_flip, then "
        "TrivialAugment",
    )
    cutmix: float | None = Field(
        default=None, gt=0, le=1, description="share of the steps whose batch is mixed; null: none"
    )
    awp_gamma: float | None = Field(
        default=None,
        gt=0,
        le=0.1,
        description="adversarial weight perturbation, as a share of each weight's norm; null: none",
    )
    awp_start: float = Field(
        default=0.0, ge=0, lt=1, description="share of the epochs before weight perturbation begins"
    )
    eps_warmup: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="share of all steps in which eps rises linearly to its full size; null: none",
    )
    catastrophic_overfitting: Literal["log", "stop", "roll_back"] = Field(
        default="log", description="what happens when single-step accuracy rises while PGD accuracy collapses"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto",
        description="auto: bf16 where the device computes in it; images under 32 pixels on a CPU: fp32",
    )
    compile: bool = Field(default=False, description="torch.compile the networks")
    channels_last: bool | None = Field(
        default=None, description="memory layout; null: but for images under 32 pixels on a CPU"
    )
    cuda_graphs: bool | None = Field(default=None, description="a step as one CUDA graph; null: on CUDA")


class ExportSettings(Section):
    """The ONNX file."""

    opset: int = Field(default=20, ge=18, le=23, description="ONNX operator set")
    tolerance: float = Field(
        default=1e-3,
        gt=0,
        le=1,
        description="largest difference of logits between torch and ONNX Runtime, as a share of the largest logit",
    )


class AttackSettings(Section):
    """The evaluation on the test split."""

    tier: Literal["quick", "standard", "thorough"] = Field(
        default="standard",
        description="quick: PGD and margin; standard: and AutoAttack, transfer, queries, corruptions; thorough: and more "
        "of each, AutoAttack plus, further seeds, C&W",
    )
    eps_255: Annotated[list[Eps255], Field(max_length=100), AfterValidator(_each_once)] | None = Field(
        default=None, description="linf radii attacked, in 255ths of the pixel range"
    )
    eps_l2: Annotated[list[Radius], Field(max_length=100), AfterValidator(_each_once)] | None = Field(
        default=None, description="l2 radii attacked, for images in [0, 1]"
    )
    eps_l1: Annotated[list[Radius], Field(max_length=100), AfterValidator(_each_once)] | None = Field(
        default=None, description="l1 radii attacked, for images in [0, 1]"
    )
    sweep: Annotated[list[Multiple], Field(max_length=100), AfterValidator(_each_once)] = Field(
        default=[0.25, 0.5, 0.75, 1.5, 2.0],
        description="radii, as multiples of the headline's, that the margin attack alone searches, for the curve of "
        "accuracy against eps; not in the quick tier",
    )
    seeds: int = Field(default=3, ge=1, le=20, description="thorough: seeds that AutoAttack is run with")
    plugins: list[str] = Field(
        default=[], max_length=100, description="further attacks: entry points of the group hallmark.attacks, by name"
    )
    images: Count | None = Field(
        default=None, description="test images drawn by `seed`, stratified; null: the data's default"
    )
    restarts: int = Field(default=1, ge=1, le=100, description="random starts of PGD and margin")
    batch_size: Batch = Field(
        default=256, description="images attacked and kept at once; AutoAttack's examples depend on it"
    )
    seed: Seed = Field(default=0, description="draws the sample and the random starts")


class CertifySettings(Section):
    """Randomized smoothing (Cohen et al. 2019), and bounds about the served classifier itself."""

    sigma: Annotated[float | list[float], PlainValidator(_deviations)] = Field(
        default=0.25,
        description="standard deviation of the noise, > 0 to 4 in units of the pixel range; a list: a smoothed classifier "
        "each, the first is the headline's",
    )
    selection: int = Field(default=100, ge=1, le=10**7, description="noisy copies that choose the class")
    estimation: int = Field(default=1000, ge=10, le=10**7, description="other noisy copies that bound its probability")
    early_end: bool | None = Field(
        default=None,
        description="ends an image after a first part of the estimation where its class is no majority; that costs a "
        "radius with chance 1e-4 at most; null: off for the digits, on otherwise",
    )
    alpha: float = Field(default=0.001, gt=0, lt=0.5, description="chance, an image, that its radius is too large")
    seed: Seed = Field(default=0, description="draws the noise, image by image")
    proof: Literal["none", "ibp", "crown-ibp", "crown-forward", "crown"] | None = Field(
        default=None,
        description="l-infinity bounds about the served classifier: none, or a technique, from the quickest to the "
        "tightest; null: up to 256 pixel values per image crown-forward, in the tier thorough crown; ibp otherwise",
    )


class Params(Section):
    """params.yaml as a whole."""

    seed: Seed = Field(default=0, description="of the weights, the order of images and the training noise")
    threads: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="CPU threads; another number gives other weights; null: 1 for digits, 2 otherwise",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto: CUDA where there is one")
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

    @property
    def cpu_threads(self) -> int:
        """`threads`, or the data's default: layers of the digits' size cost more to share out than to compute."""
        return self.threads or (1 if self.data.name == "digits" else 2)
