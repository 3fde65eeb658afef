"""Models of Stability's sgm, built from its own code and its own model YAML."""

import traceback
from contextlib import contextmanager
from pathlib import Path

import torch
from omegaconf import OmegaConf
from torch.nn.functional import interpolate

from .. import tiny
from ..files import first_line
from ..standalone.config import instantiate_from_config
from .base import Engine
from .checkouts import imported, lacking, load_weights, offline, read_weights
from .errors import UserError

REPLACED = ("sampler_config", "ckpt_path", "loss_fn_config", "use_ema")  # of the host's model YAML: not what is sampled with here
DOWNSCALING = 8  # of the first stage of the video models


class SgmEngine(Engine):
    """``sgm.models.diffusion.DiffusionEngine`` of a checkout, from its YAML ``model``.

    ``shape`` (N, C, H, W) is that of what is sampled. ``batch`` holds what the conditioner is asked for, by input key: a list
    of N, or one value for all. ``zero`` names the keys whose embedding is zero without conditioning. ``video``: the N are the
    frames of one video, conditioned on a picture. ``columns`` of the N make one picture to look at.
    """

    factor, peak, on_cuda = 1, 2.0, "float16"

    def __init__(self, sgm_root, model, shape, batch, name="sample", zero=(), video=False, columns=5, ckpt=None,
                 device="cpu", dtype=torch.float32):  # fmt: skip
        self.shape, self.batch, self.name, self.zero, self.video = tuple(shape), batch, name, list(zero), video
        self.columns, self.device, self.dtype, self.takes_pictures = columns, device, dtype, video
        with offline():
            imported(sgm_root, "sgm.models.diffusion", "--sgm-root", "Stability-AI/generative-models")
            self.net = built(Path(sgm_root) / model)
        if ckpt is not None:
            load_weights(
                self.net, read_weights(ckpt, "--ckpt", "state_dict"), f"--ckpt {ckpt}",
                {"": f"is it a checkpoint of {model}?"}, may_hold_more=True,
            )  # fmt: skip
        self.net.to(device).eval().requires_grad_(False)

    def inputs(self, pictures, shrink_first=False):
        """Yield (name, picture (1, 3, H, W) that a video starts from, None) for each (name, uint8 (H, W, 3)) of ``pictures``.

        The other models are not conditioned on pictures: theirs is one (name, None, None). Nothing here can be shrunk first.
        """
        if not self.video:
            yield self.name, None, None
            return
        for name, picture in pictures:
            yield name, self.fitted(tiny.from_uint8(picture.copy())[None]), None

    def fitted(self, image):
        """The centre of ``image``, scaled to the size of the frames."""
        height, width = (n * DOWNSCALING for n in self.shape[-2:])
        scale = max(height / image.shape[-2], width / image.shape[-1])
        size = [max(round(n * scale), least) for n, least in zip(image.shape[-2:], (height, width), strict=True)]
        image = interpolate(image, size=size, mode="bicubic", antialias=True).clamp(-1, 1)
        top, left = (size[0] - height) // 2, (size[1] - width) // 2
        return image[..., top : top + height, left : left + width]

    def autocast(self):
        return torch.autocast(torch.device(self.device).type, self.dtype, enabled=self.dtype != torch.float32)

    def denoiser(self, x, sigma, cond):
        """The host's denoiser around its network."""
        more, frames = {}, self.shape[0]
        if self.video:
            more = {"image_only_indicator": x.new_zeros(x.shape[0] // frames, frames), "num_video_frames": frames}
        with self.autocast():
            return self.net.denoiser(self.net.model, x, sigma, cond, **more)

    @torch.no_grad()
    def arguments(self, small, seed):
        """Keyword arguments for ``sampler(denoiser, ...)``. The noise is drawn on the CPU: the same on every device."""
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(self.shape, generator=generator)
        batch = {key: self.values(value) for key, value in self.batch.items()}
        if self.video:
            augmented = small + self.batch["cond_aug"] * torch.randn(small.shape, generator=generator)
            batch |= {"cond_frames_without_noise": small.to(self.device), "cond_frames": augmented.to(self.device)}
        with self.autocast():
            sides = self.net.conditioner.get_unconditional_conditioning(batch, force_uc_zero_embeddings=self.zero)
        if self.video:
            sides = [{key: self.each_frame(key, value) for key, value in side.items()} for side in sides]
        cond, uc = sides
        return {"x": noise.to(self.device), "cond": cond, "uc": uc}

    def values(self, value):
        """One value for each of the N: a list of texts, or a tensor."""
        values = value if isinstance(value, list) else [value] * self.shape[0]
        return values if isinstance(values[0], str) else torch.tensor(values, device=self.device)

    def each_frame(self, key, value):
        return value.repeat_interleave(self.shape[0], dim=0) if key in ("crossattn", "concat") else value

    @torch.no_grad()
    def picture(self, x, small):
        """The N decoded samples side by side: (1, 3, H, W) in [-1, 1], float32 on the CPU."""
        first_stage = self.net.first_stage_model
        with self.autocast():
            decoded = self.net.decode_first_stage(x) if hasattr(first_stage, "decoder") else first_stage.decode(x)
        return grid(decoded.float().cpu().clamp(-1, 1), self.columns)

    def shown(self, small):
        return {}


def grid(images, columns):
    """(N, 1 or 3, H, W) -> (1, 3, rows * H, columns * W); grey where the last row has none."""
    images = images.expand(-1, 3, -1, -1)
    columns = min(columns, len(images))
    empty = images.new_zeros(-len(images) % columns, *images.shape[1:])
    rows = torch.cat([images, empty]).unflatten(0, (-1, columns))  # (rows, columns, 3, H, W)
    return rows.permute(2, 0, 3, 1, 4).flatten(3).flatten(1, 2)[None]


def built(path):
    """The host's model from its YAML, without sampler and weights. UserError where something cannot be had."""
    if not path.is_file():
        raise UserError(f"engine.params.model: no {path}; name a model YAML of the checkout")
    config = OmegaConf.load(path).model
    for key in REPLACED:
        config.params.pop(key, None)
    with lacking_explained(path):
        return instantiate_from_config(config)


@contextmanager
def lacking_explained(path):
    """Turns what a conditioner lacks into a UserError that names it."""
    try:
        yield
    except Exception as error:
        part = conditioner(error)
        if isinstance(error, ImportError):
            raise UserError(f"{path}: {part or 'the model'} needs {lacking(error)}") from None
        if part is None:
            raise
        remedy = "put them in the Hugging Face cache first (huggingface-cli download), or use a model YAML without it"
        raise UserError(f"{path}: the weights of {part} are not on this machine ({first_line(error)}); {remedy}") from None


def conditioner(error):
    """The innermost conditioner of sgm whose constructor ``error`` came through, with the weights that it asked for."""
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        values = frame.f_locals
        if type(values.get("self")).__module__ == "sgm.modules.encoders.modules" and "version" in values:
            asked = " ".join(str(values[key]) for key in ("arch", "version") if key in values)
            return f"the conditioner {type(values['self']).__name__} ({asked})"
    return None
