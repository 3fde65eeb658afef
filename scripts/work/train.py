"""Training the embedded super-resolution model."""

import logging
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from PIL import Image
from pytorch_lightning.callbacks import EMAWeightAveraging, LearningRateMonitor
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch.utils.data import DataLoader, Dataset

from taylorseer_guider.commands.figures import sharpness
from taylorseer_guider.files import first_line, replacing
from taylorseer_guider.standalone.config import append_dims
from taylorseer_guider.tiny import build_network, enlarge, from_uint8, load_denoiser, load_network, residual, shrink, to_uint8
from taylorseer_guider.tiny.model import SIGMA_DATA, edm_denoiser
from taylorseer_guider.tiny.photographs import HELD_OUT, TRAINING, photograph

from .trainer import build_trainer, last_checkpoint

SCALES = (1.0, 0.8, 0.65, 0.5)  # each photograph is also seen reduced: other sizes of the same things, less camera blur
CRISPEST = 16.0  # more detail than that is line art
NOISIEST = 80.0  # a sigma that drowns every photograph: the denoiser's answer there is the mean over all that fit


def pyramid(image, crop):
    """uint8 (H, W, 3) -> list of (photograph, bicubic) uint8 pairs, one per scale that still holds a crop."""
    pairs = []
    for scale in SCALES:
        width, height = (int(n * scale) // 4 * 4 for n in image.shape[1::-1])
        if min(width, height) >= crop:
            sharp = torch.from_numpy(np.array(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS)))
            bicubic = to_uint8(enlarge(shrink(from_uint8(sharp)[None])))[0]
            pairs.append((sharp, bicubic))
    return pairs


def detail(sharp, bicubic):
    """Gradient energy of a photograph over its bicubic copy's: about 5 where it is soft, 10 and more where it is crisp."""
    sharp, bicubic = (from_uint8(image[None]) for image in (sharp, bicubic))
    return min(sharpness(sharp) / max(sharpness(bicubic), 1e-6), CRISPEST)


def mean_of(denoiser, bicubic, noise):
    """What ``denoiser`` knows of a photograph of which it has the ``bicubic`` image alone, as a residual."""
    sigma = torch.full((len(bicubic),), NOISIEST, device=bicubic.device)
    return denoiser(NOISIEST * noise, sigma, {"concat": bicubic}).float()


def calmed(target, mean, share):
    """``target`` with ``share`` of what is neither in the ``mean`` nor finer than some three pixels. All (B, 3, H, W).

    A sample lies as far from the mean as the photograph does, and nearness and likeness trade along the line between the two
    (Freirich, Michaeli and Meir, arXiv 2107.02555, theorem 3). Here only what is coarse moves along it: the eye takes a grain
    that it cannot compare for texture, and a stroke that is not there for a mark.
    """
    coarse = target - mean
    for _ in range(2):
        coarse = F.avg_pool2d(coarse, 3, stride=1, padding=1, count_include_pad=False)
    return target - (1 - share) * coarse


class Crops(Dataset):
    """``length`` random crops. Item i of an epoch depends on (seed, epoch, i) alone, so a resumed run sees the same.

    A copy of a photograph is drawn by its size, times its ``detail`` to the power ``crispness``.
    """

    def __init__(self, photographs, length, crop, seed, epoch=0, crispness=0.0):
        self.pairs = [pair for image in photographs for pair in pyramid(image, crop)]
        self.length, self.crop, self.seed, self.epoch = length, crop, seed, epoch
        areas = np.array([sharp.shape[0] * sharp.shape[1] for sharp, _ in self.pairs], dtype=float)
        shares = areas**0.75 * np.array([detail(*pair) for pair in self.pairs]) ** crispness
        self.shares = shares / shares.sum()

    def __len__(self):
        return self.length

    def __getitem__(self, i):
        """(photograph, bicubic), each float32 (3, crop, crop) in [-1, 1]; flipped, turned and recoloured alike."""
        rng = np.random.default_rng((self.seed, self.epoch, i))
        sharp, bicubic = self.pairs[rng.choice(len(self.pairs), p=self.shares)]
        top, left = (4 * int(rng.integers((n - self.crop) // 4 + 1)) for n in sharp.shape[:2])
        pair = from_uint8(torch.stack([sharp, bicubic])[:, top : top + self.crop, left : left + self.crop])
        pair = torch.rot90(pair, int(rng.integers(4)), (-2, -1))
        if rng.random() < 0.5:
            pair = pair.flip(-1)
        if rng.random() < 0.2:
            pair = pair[:, rng.permutation(3)]
        gain, bias = rng.uniform(0.7, 1.0), rng.uniform(-0.15, 0.15)
        return tuple((pair * gain + bias).contiguous())


def warm_cosine(step, steps, warmup=300):
    """Share of the full learning rate at ``step``: linear up over ``warmup`` steps, cosine down to zero at ``steps``."""
    return min((step + 1) / warmup, 0.5 + 0.5 * math.cos(math.pi * min(step / steps, 1)))


class TinyTraining(pl.LightningModule):
    """EDM's denoising loss on the residual, with the conditioning dropped from every tenth sample.

    With a ``teacher``, a ``denoiser(x, sigma, cond)``, on the residual that is ``calmed`` towards its mean.
    """

    def __init__(
        self, photographs, held_out, steps, epoch, batch_size, crop, learning_rate, seed, crispness=0.0, teacher=None, coarse=1.0
    ):
        super().__init__()
        self.save_hyperparameters(ignore=["photographs", "held_out", "teacher"])
        self.network, self.denoiser, self.teacher = build_network(), edm_denoiser(), teacher
        self.train_crops = Crops(photographs, epoch * batch_size, crop, seed, crispness=crispness)
        self.validation_crops = Crops(held_out, 8 * batch_size, crop, seed)

    def loss(self, batch, rng):
        """Weighted squared error; ln sigma ~ N(-1, 1.4), the distribution Inf-DiT trains with."""
        sharp, bicubic = batch
        target = residual(sharp, bicubic)
        n = target.shape[0]
        sigma = torch.exp(1.4 * torch.randn(n, generator=rng, device=target.device) - 1.0)
        keep = torch.rand(n, generator=rng, device=target.device) >= 0.1
        noise = torch.randn(target.shape, generator=rng, device=target.device)
        cond = {"concat": bicubic * append_dims(keep, 4)}
        if self.teacher is not None:
            apart = torch.randn(target.shape, generator=rng, device=target.device)
            with torch.no_grad():
                target = calmed(target, mean_of(self.teacher, bicubic, apart), self.hparams.coarse)
        denoised = self.denoiser(self.network, target + noise * append_dims(sigma, 4), sigma, cond)
        weight = (sigma**2 + SIGMA_DATA**2) / (sigma * SIGMA_DATA) ** 2
        return (append_dims(weight, 4) * (denoised.float() - target) ** 2).mean()

    def training_step(self, batch):
        rng = torch.Generator(self.device).manual_seed(self.hparams.seed * 1_000_003 + self.global_step)
        loss = self.loss(batch, rng)
        self.log("loss", loss, prog_bar=True, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, index):
        rng = torch.Generator(self.device).manual_seed(index)
        self.log("held_out_loss", self.loss(batch, rng), prog_bar=True)

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=self.hparams.learning_rate, betas=(0.9, 0.99), weight_decay=0.01
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(warm_cosine, steps=self.hparams.steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def train_dataloader(self):
        self.train_crops.epoch = self.current_epoch
        return DataLoader(self.train_crops, self.hparams.batch_size)

    def val_dataloader(self):
        return DataLoader(self.validation_crops, self.hparams.batch_size)


def read_photographs(directory):
    """Every image in ``directory``, or the packaged training photographs where none is named."""
    if directory is None:
        return [photograph(name) for name in TRAINING]
    files = sorted(path for path in Path(directory).rglob("*") if path.suffix.lower() in {".png", ".jpg", ".jpeg", ".webp"})
    if not files:
        raise SystemExit(f"--data-dir {directory}: no .png, .jpg or .webp in it; name a folder of photographs")
    return [np.asarray(Image.open(path).convert("RGB")) for path in files]


def export(state_dict, path):
    """Write the (averaged) network weights in half precision, atomically."""
    own = {name.removeprefix("network."): value for name, value in state_dict.items() if name.startswith("network.")}
    weights = {name: value.half().contiguous() for name, value in own.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        save_file(weights, partial)


def beyond(module, share):
    """The module's (averaged) state, moved ``share`` times as far from its teacher's as training moved it.

    What training has changed is gone on with along a straight line (task vectors: Ilharco et al., arXiv 2212.04089).
    """
    state = module.state_dict()
    if module.teacher is None:
        return state
    start = {f"network.{name}": value for name, value in module.teacher.args[0].state_dict().items()}
    return {name: torch.lerp(start[name].to(value), value, share) if name in start else value for name, value in state.items()}


def build_module(args):
    """The model and its crops, from the seed."""
    if args.crop % 4:
        raise ValueError(f"--crop {args.crop}: give a multiple of 4, by which pictures are shrunk")
    pl.seed_everything(args.seed, verbose=False)
    names = ("steps", "epoch", "batch_size", "crop", "learning_rate", "seed", "crispness", "coarse")
    module = TinyTraining(
        read_photographs(args.data_dir),
        [photograph(name) for name in HELD_OUT],
        **{name: getattr(args, name) for name in names},
        teacher=args.teacher and load_denoiser(args.teacher, "cuda" if torch.cuda.is_available() else "cpu"),
    )
    if args.init:
        try:
            module.network.load_state_dict(load_network(args.init).state_dict())
        except (SafetensorError, RuntimeError) as error:
            raise ValueError(f"--init {args.init}: no weights of this network ({first_line(error)})") from None
    return module


def averaging_trainer(args):
    """The trainer, with averaged weights."""
    steps = {"max_steps": args.steps, "gradient_clip_val": 1.0, "reload_dataloaders_every_n_epochs": 1, "num_sanity_val_steps": 0}
    return build_trainer(args, EMAWeightAveraging(decay=0.998), LearningRateMonitor("epoch"), **steps)


def fit(module, trainer, run_dir):
    """Train to the trainer's last step, from the run folder's last checkpoint where there is one."""
    trainer.fit(module, ckpt_path=last_checkpoint(run_dir))


def train(args):
    """Do what train_tiny.py was asked for."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    if args.export:
        export(torch.load(args.export, weights_only=True)["state_dict"], args.out)
        return
    module, trainer = build_module(args), averaging_trainer(args)
    fit(module, trainer, args.run_dir)
    export(beyond(module, args.beyond), args.out)
    print(f"{'weights':<10} {args.out}\n{'loss curve':<10} {Path(trainer.logger.log_dir) / 'metrics.csv'}")
