"""Training sgm's own engine, class-conditional, on Fashion-MNIST."""

import logging
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf
from pytorch_lightning.callbacks import Callback
from safetensors.torch import save_file
from torch.utils.data import DataLoader, Dataset

from bench.fashion.data import read
from standins import stand_ins
from taylorseer_guider.engines.checkouts import imported
from taylorseer_guider.engines.errors import UserError
from taylorseer_guider.files import replacing
from taylorseer_guider.standalone.config import instantiate_from_config

from .trainer import build_trainer, last_checkpoint, on_device

SCHEDULED = [np._core.multiarray.scalar, np.dtype, np.dtypes.Float64DType]  # how the host's schedule leaves its learning rate
EMBEDDING = "conditioner.embedders.0.embedding.weight"


class Draws(Dataset):
    """``length`` batches of random pictures, on the pictures' device.

    Batch i of an epoch depends on (seed, epoch, i) alone, so a resumed run sees the same.
    """

    def __init__(self, images, classes, length, batch_size, seed):
        self.images, self.classes, self.length, self.batch_size, self.seed, self.epoch = (
            images,
            classes,
            length,
            batch_size,
            seed,
            0,
        )

    def __len__(self):
        return self.length

    def __getitem__(self, i):
        """What sgm's engine takes: pictures (N, 1, 28, 28) under ``jpg``, their classes (N,) under ``cls``."""
        rng = np.random.default_rng((self.seed, self.epoch, i))
        chosen = torch.from_numpy(rng.integers(len(self.images), size=self.batch_size)).to(self.images.device)
        return {"jpg": self.images[chosen], "cls": self.classes[chosen]}


class Epochs(pl.LightningDataModule):
    """Draws of a new epoch each time they are asked for."""

    def __init__(self, draws):
        super().__init__()
        self.draws = draws

    def train_dataloader(self):
        self.draws.epoch = self.trainer.current_epoch
        return DataLoader(self.draws, batch_size=None)


class SeededSteps(Callback):
    """The engine draws noise, sigmas and dropped labels from torch's own generator: each step begins it anew."""

    def __init__(self, seed):
        self.seed = seed

    def on_train_batch_start(self, trainer, module, batch, index):
        torch.manual_seed(self.seed * 1_000_003 + trainer.global_step)


def build_engine(args):
    """sgm's DiffusionEngine from the config, with the schedule of the learning rate as long as the run."""
    if args.sgm_root is None:
        raise UserError("sgm's own engine is trained: name its checkout with --sgm-root, or SGM_ROOT")
    config = OmegaConf.load(args.config).model
    config.params.scheduler_config.params.max_decay_steps = args.steps
    pl.seed_everything(args.seed, verbose=False)
    with stand_ins():
        imported(args.sgm_root, "sgm.models.diffusion", "--sgm-root", "Stability-AI/generative-models")
        engine = instantiate_from_config(config)
    engine.learning_rate = args.learning_rate
    return engine


def export(engine, path):
    """Write the averaged network and the classes' embedding in half precision, atomically, under the names of the engine."""
    with engine.ema_scope():
        state = {name: value for name, value in engine.state_dict().items() if name.startswith("model.") or name == EMBEDDING}
        weights = {name: value.half().cpu().contiguous() for name, value in state.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        save_file(weights, partial)


def train(args):
    """Do what train_sgm_toy.py was asked for."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    engine = build_engine(args)
    if args.export:
        with torch.serialization.safe_globals(SCHEDULED):
            engine.load_state_dict(torch.load(args.export, weights_only=True)["state_dict"])
        export(engine, args.out)
        return
    images, classes = (tensor.to(args.device) for tensor in read(args.data_dir, "train"))
    steps = {"max_steps": args.steps, "gradient_clip_val": 1.0, "reload_dataloaders_every_n_epochs": 1, **on_device(args.device)}
    trainer = build_trainer(args, SeededSteps(args.seed), **steps)  # the weights' average is the engine's own
    epochs = Epochs(Draws(images, classes, args.epoch, args.batch_size, args.seed))
    with torch.serialization.safe_globals(SCHEDULED):
        trainer.fit(engine, epochs, ckpt_path=last_checkpoint(args.run_dir))
    export(engine, args.out)
    print(f"{'weights':<10} {args.out}\n{'loss curve':<10} {Path(trainer.logger.log_dir) / 'metrics.csv'}")
