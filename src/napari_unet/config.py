"""Every setting, once: default, bounds, title and description.

From one field come validation, the form row and its tooltip, the command-line
flag, the row in the reference and the JSON in the model file.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Device = Literal["auto", "cuda", "mps", "cpu"]
Precision = Literal["auto", "fp32", "fast"]


class WeightConfig(_Config):
    """How much each pixel counts in training.

    Two published formulas; `napari_unet.imaging.weight_maps` writes them out. Each
    brings its own w0 and sigma where these are not given.
    """

    formula: Literal["ronneberger2015", "falk2019"] = Field(
        "ronneberger2015",
        title="Formula",
        description="'ronneberger2015' is the U-Net paper's; 'falk2019', of the Fiji "
        "plugin, also lowers the weight of background far from cells.",
    )
    w0: float = Field(
        10.0,
        ge=0,
        le=1000,
        title="w0",
        description="Height of the border weight between two close cells. With "
        "falk2019 the default is 50, not 10.",
    )
    sigma: float = Field(
        5.0,
        gt=0,
        le=200,
        title="Sigma",
        description="Width of the border weight: gaps wider than about 4 sigma "
        "get none. With falk2019 the default is 6, not 5.",
    )
    unit: Literal["px", "um"] = Field(
        "px",
        title="Unit",
        description="Unit of the sigmas: pixels, or micrometres for images whose "
        "pixel size is known.",
    )
    v_bal: float = Field(
        0.1,
        ge=0,
        le=1,
        title="Far background",
        description="Weight of background far from cells; falk2019 only.",
    )
    sigma1: float = Field(
        10.0,
        gt=0,
        le=1000,
        title="Sigma 1",
        description="How far from a cell the background's weight falls from 1 to "
        "that of far background; falk2019 only.",
    )
    balance_classes: bool = Field(
        False,
        title="Balance classes",
        description="Weigh rare classes more, by their share of the annotation.",
    )

    @model_validator(mode="before")
    @classmethod
    def _take_numbers_of_formula(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("formula") == "falk2019":
            return {"w0": 50.0, "sigma": 6.0, **given}
        return given

    @classmethod
    def ronneberger2015(cls) -> Self:
        """Return the formula and numbers of the U-Net paper, in pixels."""
        return cls()

    @classmethod
    def falk2019(cls) -> Self:
        """Return the formula and numbers of the Fiji plugin, in pixels."""
        return cls(formula="falk2019")


def _architecture_of(given: Any) -> str:
    return str(given.get("architecture")) if isinstance(given, dict) else ""


# What an architecture leaves no choice of: TransU-Net is published for planes, with
# patches of 1/16 and bilinear up-sampling, and has the only weights of others.
FIXED_BY_ARCHITECTURE: dict[str, dict[str, Any]] = {
    "unet": {"pretrained": False},
    "residual_unet": {"pretrained": False},
    "attention_unet": {"pretrained": False},
    "trans_unet": {
        "n_dims": 2,
        "padding": "same",
        "depth": 4,
        "up": "linear",
        "skips": "concatenate",
    },
}


class NetworkConfig(_Config):
    """The shape of the network."""

    architecture: Literal["unet", "residual_unet", "attention_unet", "trans_unet"] = (
        Field(
            "unet",
            title="Network",
            description="Family of the network: the U-Net, with residual blocks, with "
            "attention gates on the skips, or with a transformer at the bottom.",
        )
    )
    base_width: int = Field(
        16,
        ge=1,
        le=256,
        title="Base width",
        description="Feature channels at full resolution; doubled on each level.",
    )
    depth: int = Field(
        3,
        ge=1,
        le=6,
        title="Depth",
        description="How often the image is halved on the way down.",
    )
    padding: Literal["same", "valid"] = Field(
        "same",
        title="Padding",
        description="'same' keeps the size; 'valid' is the 2015 network, whose "
        "output is smaller than its input.",
    )
    norm: Literal["batch", "group", "instance", "none"] = Field(
        "batch",
        title="Normalisation layer",
        description="'batch' trains faster and tiles exactly; 'group' and 'instance' "
        "don't depend on the batch, but see the whole input; 'none' is the 2015 "
        "network.",
    )
    up: Literal["transposed", "linear"] = Field(
        "transposed",
        title="Up-sampling",
        description="Transposed convolution, or linear up-sampling + convolution.",
    )
    skips: Literal["concatenate", "sum"] = Field(
        "concatenate",
        title="Skips",
        description="Concatenate what comes across to what comes up, or add both: "
        "less to compute and to learn with.",
    )
    dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        title="Dropout",
        description="Share of features dropped at the end of the contracting path.",
    )
    in_channels: int = Field(
        1,
        ge=1,
        le=1000,
        title="Input channels",
        description="Channels of the image; taken from the images when training.",
    )
    out_channels: int = Field(
        2,
        ge=1,
        le=1000,
        title="Outputs",
        description="Output channels; taken from the classes when training.",
    )
    n_dims: Literal[2, 3] = Field(
        2, title="Dimensions", description="2 for planes, 3 for volumes."
    )
    upscale: Literal[1, 2, 4] = Field(
        1,
        title="Upscale",
        description="Super-resolution: output pixels for each input pixel, along "
        "each axis.",
    )
    adds_image: bool = Field(
        False,
        title="Add the image",
        description="The network learns what to change of the image, and the image is "
        "added: for images without noise, or with finer pixels.",
    )
    transformer_layers: int = Field(
        12,
        ge=1,
        le=48,
        title="Transformer layers",
        description="Layers of the transformer; trans_unet only.",
    )
    pretrained: bool = Field(
        False,
        title="Pretrained",
        description="Begin with weights from ImageNet, downloaded once: trans_unet of "
        "base width 64 only, and needs the extra 'pretrained'.",
    )

    @model_validator(mode="before")
    @classmethod
    def _take_what_is_fixed(cls, given: Any) -> Any:
        fixed = FIXED_BY_ARCHITECTURE.get(_architecture_of(given), {})
        return {**fixed, **given} if fixed else given

    @model_validator(mode="after")
    def _is_as_fixed(self) -> Self:
        for name, only in FIXED_BY_ARCHITECTURE.get(self.architecture, {}).items():
            if getattr(self, name) != only:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}: {self.architecture} takes "
                    f"only {only!r}"
                )
        return self

    @classmethod
    def oktay2018(cls, *, in_channels: int = 1, out_channels: int = 2) -> Self:
        """Return the Attention U-Net as published: volumes, four halvings."""
        return cls(
            architecture="attention_unet",
            base_width=16,
            depth=4,
            up="linear",
            n_dims=3,
            in_channels=in_channels,
            out_channels=out_channels,
        )

    @classmethod
    def chen2021(cls, *, in_channels: int = 3, out_channels: int = 9) -> Self:
        """Return TransU-Net as published: ResNet-50, then ViT-B/16."""
        return cls(
            architecture="trans_unet",
            base_width=64,
            dropout=0.1,
            in_channels=in_channels,
            out_channels=out_channels,
        )

    @classmethod
    def ronneberger2015(cls, *, in_channels: int = 1, out_channels: int = 2) -> Self:
        """Return the network of the 2015 paper: 31,030,658 parameters, 572 -> 388."""
        return cls(
            base_width=64,
            depth=4,
            padding="valid",
            norm="none",
            dropout=0.5,
            in_channels=in_channels,
            out_channels=out_channels,
        )


class ForeignConfig(_Config):
    """The network of another program, kept as the graph that it was saved as.

    Sizes are in pixels of the input and hold for each axis of space. `input_axes` and
    `output_axes` name the graph's own axes in their order: N one image a row, C, Z, Y
    and X.
    """

    architecture: Literal["foreign"] = "foreign"
    format: Literal["onnx", "torchscript"]
    n_bytes: int = Field(ge=1, lt=2**31)
    in_channels: int = Field(1, ge=1, le=1000)
    out_channels: int = Field(1, ge=1, le=1000)
    n_dims: Literal[2, 3] = 2
    input_axes: str = Field("NCYX", pattern="^[NCZYX]{2,5}$")
    output_axes: str = Field("NCYX", pattern="^[NCZYX]{2,5}$")
    input_name: str = ""
    output_name: str = ""
    multiple: int = Field(
        1, ge=1, le=4096, description="Sizes that it takes are multiples of this."
    )
    min_size: int = Field(1, ge=1, le=65536, description="Smallest size that it takes.")
    fixed_size: int | None = Field(
        None, ge=1, le=65536, description="The only size that it takes, if so."
    )
    halo: int | None = Field(
        None,
        ge=0,
        le=65536,
        description="Context that its output depends on; None where nobody knows.",
    )
    shrink: int = Field(
        0, ge=0, le=65536, description="What its output lacks on each side."
    )
    upscale: int = Field(
        1, ge=1, le=16, description="Output pixels for each input pixel."
    )
    clip: tuple[float | None, float | None] = Field(
        (None, None), description="Limits of the normalised intensities that it takes."
    )


class TrainConfig(_Config):
    """How to train.

    What is not given is planned from the images and the device
    (`napari_unet.learning.planning`): patch size, batch size, learning rate, steps.
    """

    task: Literal["segment", "regress"] = Field(
        "segment",
        title="Task",
        description="'segment' finds cells and areas; 'regress' makes one image from "
        "another: denoising, translation, super-resolution.",
    )
    target: Literal["gap", "boundary", "distance"] = Field(
        "gap",
        title="Target",
        description="How touching cells are kept apart: by a gap of background "
        "(2015), by a class of their own for boundaries, or by the distance to the "
        "cell's border.",
    )
    start_with: Literal["auto", "all", "encoder"] = Field(
        "auto",
        title="Start with",
        description="What is kept of a model to start from: 'auto' all that fits the "
        "channels and classes, but of a model that hardly tells these cells from their "
        "background the contracting path alone; 'all' the whole model or nothing (an "
        "error); 'encoder' the contracting path alone.",
    )
    max_steps: int = Field(
        1000,
        ge=1,
        le=10_000_000,
        title="Steps",
        description="Training steps at most; each sees one batch of patches.",
    )
    max_minutes: float | None = Field(
        None,
        gt=0,
        title="Minutes at most",
        description="Stop training after this time, whatever the steps.",
    )
    batch_size: int = Field(
        8, ge=1, le=1024, title="Batch size", description="Patches per step."
    )
    patch_size: int = Field(
        128,
        ge=16,
        le=4096,
        title="Patch size (px)",
        description="Side of a training patch; rounded up to what the network takes.",
    )
    working_scale: float | None = Field(
        None,
        ge=1 / 64,
        le=8,
        title="Working scale",
        description="Pixels that the network sees for each pixel of the images; empty "
        "is chosen from the size of the cells.",
    )
    learning_rate: float = Field(
        3e-3,
        gt=0,
        le=10,
        title="Learning rate",
        description="Peak step size; warmed up, then annealed to zero.",
    )
    loss: Literal["cross_entropy", "dice", "combined", "focal"] = Field(
        "cross_entropy",
        title="Loss",
        description="What training makes small: weighted cross entropy (2015), Dice, "
        "their sum, or focal, which looks at hard pixels.",
    )
    regression_loss: Literal["mae", "mse", "ssim_mae"] = Field(
        "mae",
        title="Regression loss",
        description="What training makes small when it makes images from images: the "
        "mean absolute or squared error, or SSIM together with the absolute error.",
    )
    ema_decay: float = Field(
        0.99,
        ge=0,
        lt=1,
        title="Averaging",
        description="Share of the averaged weights that stays at each step; "
        "validation, preview and the model use the average. 0 switches it off.",
    )
    choose_by: Literal["mean_ap", "ap", "f1", "iou", "loss", "psnr", "ssim"] | None = (
        Field(
            None,
            title="Best by",
            description="Score that says which model is best. Empty takes the mean of "
            "mean AP and IoU for cells, PSNR for images.",
        )
    )
    optimizer: Literal["adamw", "sgd"] = Field(
        "adamw",
        title="Optimiser",
        description="'adamw' needs no tuning; 'sgd' with momentum 0.99 is that of "
        "2015.",
    )
    momentum: float = Field(
        0.99,
        ge=0,
        lt=1,
        title="Momentum",
        description="How much of the last steps goes on in the next; sgd only.",
    )
    weight_decay: float = Field(
        1e-4,
        ge=0,
        le=1,
        title="Weight decay",
        description="Pull of the weights towards zero.",
    )
    val_fraction: float = Field(
        0.2,
        gt=0,
        lt=0.9,
        title="Validation share",
        description="Share held back for validation where none is given.",
    )
    validate_every: int = Field(
        50,
        ge=1,
        le=1_000_000,
        title="Validate every (steps)",
        description="Steps between two validations.",
    )
    patience: int = Field(
        20,
        ge=1,
        le=100_000,
        title="Patience (validations)",
        description="Stop early after this many validations without a better score.",
    )
    checkpoint_every: int = Field(
        200,
        ge=1,
        le=1_000_000,
        title="Checkpoint every (steps)",
        description="Steps between two checkpoints to go on from after a crash.",
    )
    keep_learning: bool = Field(
        False,
        title="Keep learning",
        description="Go on after the last step, at a tenth of the learning rate, until "
        "stopped: for cells that are painted meanwhile.",
    )
    flip: bool = Field(
        True, title="Flip", description="Augment by mirroring and quarter turns."
    )
    rotation_deg: float = Field(
        180.0,
        ge=0,
        le=180,
        title="Rotation (degrees)",
        description="Augment by turning up to this angle either way.",
    )
    scale: float = Field(
        0.5,
        ge=0,
        lt=0.9,
        title="Scale",
        description="Augment by shrinking and enlarging by up to this share.",
    )
    elastic_px: float = Field(
        4.0,
        ge=0,
        le=100,
        title="Elastic (px)",
        description="Augment by a smooth random deformation of this standard "
        "deviation.",
    )
    elastic_grid_px: float = Field(
        32.0,
        ge=4,
        le=1000,
        title="Elastic grid (px)",
        description="Distance between the random displacements.",
    )
    intensity: float = Field(
        0.3,
        ge=0,
        le=1,
        title="Intensity",
        description="Augment brightness, contrast, gamma and noise by up to this "
        "share.",
    )
    blur_px: float = Field(
        1.0,
        ge=0,
        le=20,
        title="Blur (px)",
        description="Augment every other channel by a blur of up to this standard "
        "deviation.",
    )
    seed: int = Field(
        0,
        ge=0,
        le=2**63 - 1,
        title="Seed",
        description="Same seed, data and machine: same model.",
    )
    device: Device = Field(
        "auto",
        title="Device",
        description="auto takes CUDA (or ROCm), then Apple's MPS, then the CPU.",
    )
    precision: Precision = Field(
        "auto",
        title="Precision",
        description="'fast' uses bfloat16 where the device is faster with it (auto "
        "does too); 'fp32' is full precision.",
    )

    @classmethod
    def ronneberger2015(cls) -> Self:
        """Return the 2015 optimiser: single images, momentum 0.99, cross entropy."""
        return cls(
            optimizer="sgd",
            momentum=0.99,
            # The paper gives none; docs/science/optimisers.md says what was tried.
            learning_rate=1e-3,
            weight_decay=0.0,
            batch_size=1,
            patch_size=388,
            # Displacements of 10 px on a grid of 3 x 3 over the input of 572 px.
            elastic_px=10.0,
            elastic_grid_px=286.0,
            blur_px=0.0,
        )


class PredictConfig(_Config):
    """How to apply a model."""

    tile_size: int | None = Field(
        None,
        ge=16,
        le=65536,
        title="Tile size (px)",
        description="Side of a tile without its halo; empty chooses by memory.",
    )
    halo: Literal["exact"] | int = Field(
        "exact",
        title="Halo",
        description="Context around each tile in pixels; 'exact' is the receptive "
        "field, so that tiles leave no trace. A network that sees its whole input is "
        "blended over twice the halo.",
    )
    scale: float | None = Field(
        None,
        ge=1 / 16,
        le=8,
        title="Scale",
        description="Pixels that the network sees for each pixel of the image; empty "
        "takes cells to the size that the model knows, where pixel sizes are known. "
        "Results are on the image's own grid.",
    )
    cell_diameter_px: float | None = Field(
        None,
        gt=0,
        le=10_000,
        title="Cell diameter (px)",
        description="Diameter of a typical cell of the image, in its pixels: from it "
        "follows the scale. Empty takes what pixel sizes or a first look tell.",
    )
    device: Device = Field(
        "auto",
        title="Device",
        description="auto takes CUDA (or ROCm), then Apple's MPS, then the CPU.",
    )
    precision: Precision = Field(
        "auto",
        title="Precision",
        description="'fp32' is full precision; 'fast' uses reduced precision; auto "
        "is fast on CUDA and fp32 elsewhere.",
    )

    test_time_augmentation: Literal["off", "flips", "all"] = Field(
        "off",
        title="Test-time augmentation",
        description="Average over mirror images: 'flips' takes four times as long, "
        "'all', with turns by 90 degrees, eight times. Where they disagree the network "
        "is not sure.",
    )

    @model_validator(mode="after")
    def _halo_is_not_negative(self) -> Self:
        if self.halo != "exact" and self.halo < 0:
            raise ValueError(f"halo is {self.halo}: give 'exact' or 0 and more pixels")
        return self


class InstanceConfig(_Config):
    """How probabilities become cells; tuned on validation, kept in the model."""

    threshold: float = Field(
        0.5,
        gt=0,
        lt=1,
        title="Threshold",
        description="Pixels whose probability of being a cell is above this are cell.",
    )
    seed_threshold: float = Field(
        0.7,
        gt=0,
        lt=1,
        title="Seed threshold",
        description="A cell grows from each region above this probability.",
    )
    min_size_px: int = Field(
        10,
        ge=0,
        le=10**9,
        title="Minimum size (px)",
        description="Smaller objects are dropped.",
    )
    smoothing_px: float = Field(
        1.0,
        ge=0,
        le=50,
        title="Smoothing (px)",
        description="Gaussian smoothing of the map that seeds are taken from.",
    )
    give_back_gap: bool = Field(
        True,
        title="Give back the gap",
        description="Give the gap between cells that touch back to them, up to two "
        "pixels wide: training cuts it. Off where the annotated cells have such gaps "
        "themselves.",
    )
    fill_holes: bool = Field(
        False,
        title="Fill holes",
        description="What a cell encloses belongs to it.",
    )
    clear_border: bool = Field(
        False,
        title="Clear the border",
        description="Cells that touch the border of the image are dropped: they are "
        "cut off there, which spoils what is measured of them.",
    )


class NormalizationConfig(_Config):
    """How intensities are scaled; frozen into the model.

    ``image`` measures each image once, as a whole, whatever tile or region of it
    is looked at, by percentiles; ``standardize`` does so by mean and standard
    deviation; ``dataset`` uses the numbers of the training images.
    """

    policy: Literal["image", "standardize", "dataset"] = Field(
        "image",
        title="Normalisation",
        description="'image' measures each image by its percentiles, 'standardize' by "
        "mean and standard deviation; 'dataset' uses the training images' numbers.",
    )
    low_percentile: float = Field(
        1.0, ge=0, le=100, title="Low percentile", description="Becomes 0."
    )
    high_percentile: float = Field(
        99.8, ge=0, le=100, title="High percentile", description="Becomes 1."
    )

    @model_validator(mode="after")
    def _low_is_below_high(self) -> Self:
        if self.low_percentile >= self.high_percentile:
            raise ValueError(
                f"low percentile {self.low_percentile} is not below the high "
                f"percentile {self.high_percentile}"
            )
        return self
