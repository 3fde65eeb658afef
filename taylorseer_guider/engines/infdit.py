"""Inf-DiT's super-resolution model, built from its own code and its own checkpoint."""

import argparse
import importlib
import logging
import sys
import tempfile
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import torch
from omegaconf import OmegaConf
from torch.nn.functional import interpolate, pad, scaled_dot_product_attention

from ..files import first_line
from .base import Enlarger
from .checkouts import imported, lacking, load_weights, offline, read_weights
from .errors import UserError

logger = logging.getLogger(__name__)
TYPES = ("full", "ar", "ar2")
CHECKPOINT = "compare engine.params.flags with the flags that this checkpoint was trained with"
ENCODER = "set modules.image_encoder_config.params.version to a local file of open_clip's ViT-L-14 datacomp_xl_s13b_b90k weights"


class InfDitEngine(Enlarger):
    """``dit.model.DiffusionEngine`` of a checkout, for pictures of any height and width.

    ``flags`` are those of the host's launch script; ``modules`` and ``modeling`` its YAML. ``inference_type`` is ``full``,
    ``ar`` (block by block) or ``ar2`` (``block_batch`` x ``block_batch`` blocks at a time). ``factor`` is 2 or 4.
    """

    on_cuda = "bfloat16"
    peak = 2.0
    denoiser = None  # of one picture: ``arguments`` makes it

    def __init__(self, infdit_root, network, flags, modules, modeling, inference_type="full", block_batch=1, factor=4,
                 device="cpu", dtype=torch.float32):  # fmt: skip
        if device == "cpu" and dtype != torch.float32:
            name = str(dtype).removeprefix("torch.")
            raise UserError(f"--dtype {name}: on a CPU this model's layer norms need float32; leave --dtype out")
        if inference_type not in TYPES:
            raise UserError(f"engine.params.inference_type={inference_type}: choose one of {', '.join(TYPES)}")
        if block_batch < 1 or (inference_type == "ar" and block_batch != 1):
            raise UserError(f"engine.params.block_batch={block_batch}: give 1 for ar, a whole number from 1 up for ar2")
        if factor not in (2, 4):
            raise UserError(f"engine.params.factor={factor}: this model enlarges 2 or 4 times")
        self.device, self.dtype, self.factor = device, dtype, factor
        self.inference_type, self.block_batch = inference_type, block_batch
        with attention(device, dtype):
            host = imported(infdit_root, "dit.model", "--infdit-root", "THUDM/Inf-DiT")
        args = host_arguments(host.DiffusionEngine, flags, dtype)
        self.sr_scale, self.block = args.sr_scale, args.image_block_size
        self.net = built(host.DiffusionEngine, args, modules, modeling)
        own_encoder = (modules.get("image_encoder_config", {}).get("params") or {}).get("version")
        load_weights(
            self.net, read_weights(network, "--network", "module"), f"--network {network}",
            {"": CHECKPOINT, "image_encoder.": ENCODER}, may_lack=["image_encoder."] if own_encoder else [],
        )  # fmt: skip
        self.net.to(device, dtype).eval().requires_grad_(False)
        if inference_type == "ar2" and args.cross_lr:
            hand_on_low_resolution(self.net, block_batch)

    def enlarged(self, small):
        """The bicubic enlargement of (1, 3, h, w) in [-1, 1], float32 on the CPU."""
        return bicubic(small, [n * self.factor for n in small.shape[-2:]]).clamp(-1, 1)

    def padded(self, small):
        """``small`` with its last rows and columns repeated until the blocks of the large picture are whole."""
        blocks = self.block * (self.block_batch if self.inference_type == "ar2" else 1)
        bottom, right = (-n % (blocks // self.factor) for n in small.shape[-2:])
        return pad(small, (0, right, 0, bottom), mode="replicate")

    @torch.no_grad()
    def arguments(self, small, seed):
        """Keyword arguments for ``sampler(denoiser, ...)``, made by the host. It is the sampler that draws the noise."""
        small = self.padded(small)
        large = self.enlarged(small)
        low = bicubic(small, [n // self.sr_scale for n in large.shape[-2:]])
        large, low = (image.to(self.device, self.dtype) for image in (large, low))
        run = {}
        own, self.net.sampler = self.net.sampler, lambda **given: run.update(given)
        try:
            self.net.sample(
                large.shape, images=large, lr_imgs=low, dtype=self.dtype, device=self.device, init_noise=True,
                ar=self.inference_type == "ar", ar2=self.inference_type == "ar2", block_batch=self.block_batch,
            )  # fmt: skip
        finally:
            self.net.sampler = own
        self.net.transformer.output_hidden_states = self.inference_type != "full"  # which sample() sets, and resets
        self.denoiser = run.pop("denoiser")
        del run["num_steps"]  # None: the sampler's own
        torch.manual_seed(seed)
        return run

    def warm_up(self, small):
        """One call that nobody times: the first one allocates, and on a GPU chooses kernels."""
        run = self.arguments(small, seed=0)
        x = run["cond"]["concat_lr_imgs"]
        with torch.inference_mode():
            self.denoiser(x, x.new_ones(1), run["rope_position_ids"], run["cond"], 0)

    def picture(self, x, small):
        """What a sampled ``x`` stands for, without what was padded: (1, 3, H, W) in [-1, 1], float32 on the CPU."""
        height, width = (n * self.factor for n in small.shape[-2:])
        return x[..., :height, :width].float().cpu().clamp(-1, 1)


def bicubic(image, size):
    return image if list(image.shape[-2:]) == size else interpolate(image, size=size, mode="bicubic", antialias=True)


class FlagParser(argparse.ArgumentParser):
    def error(self, message):
        raise UserError(f"engine.params.flags: {message}; they are those of the host's launch scripts")


def host_arguments(engine, flags, dtype):
    """The host's arguments: its own parsers' defaults under ``flags``, {name without dashes: value; true for a switch}."""
    from sat.arguments import add_model_config_args

    parser = engine.add_model_specific_args(FlagParser(add_help=False, allow_abbrev=False))
    words = []
    for name, value in flags.items():
        words += [f"--{name}"] if value is True else [] if value is False else [f"--{name}={value}"]
    args = add_model_config_args(parser).parse_args(words)
    args.bf16, args.fp16, args.mode, args.skip_init = dtype == torch.bfloat16, dtype == torch.float16, "inference", True
    return args


def built(engine, args, modules, modeling):
    """The host's model, from a file with ``modules`` and ``modeling``. Nothing is downloaded for its image encoder."""
    if encoder := modules.get("image_encoder_config"):
        encoder["params"] = {"version": None, **(encoder.get("params") or {})}
    with tempfile.TemporaryDirectory() as folder, offline():
        args.config_path = str(Path(folder) / "host.yaml")
        OmegaConf.save(OmegaConf.create({"modules": modules, "modeling": modeling}), args.config_path)
        try:
            return engine(args)
        except ImportError as error:
            raise UserError(f"modules: the host needs {lacking(error)}") from None
        except (OSError, RuntimeError, ValueError, AssertionError) as error:
            raise UserError(f"engine: cannot be built ({first_line(error)}); {CHECKPOINT}, or {ENCODER}") from None


def hand_on_low_resolution(net, block_batch):
    """Give each block of ar2 its part of the low-resolution picture: the host leaves it out, and its cross attention fails.

    ``net`` asks ``process_lr`` for the parts of all blocks, row by row, and then for ``model_forward`` of one square of
    ``block_batch`` x ``block_batch`` blocks after the other.
    """
    layer, parts = net.mixins["adaln_layer"], iter(())
    process_lr, model_forward = layer.process_lr, net.model_forward

    def processed(low):
        nonlocal parts
        found = process_lr(low)
        columns = low.shape[-1] // (layer.lr_block_size * layer.lr_patch_size)
        squares = found.unflatten(0, (-1, block_batch, columns // block_batch, block_batch)).transpose(1, 2)
        parts = iter(squares.flatten(2, 3).flatten(0, 1))
        return found

    layer.process_lr = processed
    net.model_forward = lambda *args, **kwargs: model_forward(*args, lr_imgs=next(parts), **kwargs)


@contextmanager
def attention(device, dtype=torch.float32):
    """Where flash_attn is not to be had (it knows half types on GPUs), something of its name that leaves the work to torch."""
    if device != "cpu" and dtype != torch.float32 and flash_attn_is_there():
        yield
        return
    module, before = ModuleType("flash_attn"), sys.modules.get("flash_attn")
    module.__spec__ = ModuleSpec("flash_attn", None)
    module.flash_attn_func, module.flash_attn_qkvpacked_func = flash_attn_func, None
    sys.modules["flash_attn"] = module
    try:
        yield
    finally:
        del sys.modules["flash_attn"]
        if before is not None:
            sys.modules["flash_attn"] = before


def flash_attn_is_there():
    try:
        importlib.import_module("flash_attn")
        return True
    except ImportError as error:
        logger.warning("flash_attn cannot be imported (%s): torch's attention is used, which is slower", error)
        return False


def flash_attn_func(q, k, v):
    """softmax(q k^T / sqrt(dim)) v of (batch, length, heads, dim) tensors."""
    return scaled_dot_product_attention(*(t.transpose(1, 2) for t in (q, k, v))).transpose(1, 2)
