"""Lightning's trainer as every training here has it: steps that are counted, a checkpoint an epoch, the loss curve as CSV."""

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger


def build_trainer(args, *callbacks, **options):
    """A trainer for what a command was asked for; it goes on from ``args.run_dir`` (see ``last_checkpoint``)."""
    return pl.Trainer(
        default_root_dir=args.run_dir,
        precision=args.precision,
        logger=CSVLogger(args.run_dir, name="log"),
        callbacks=[ModelCheckpoint(args.run_dir, save_last=True, save_on_train_epoch_end=True), *callbacks],
        **options,
    )


def on_device(device):
    """Options of ``build_trainer`` for one ``device``, "cpu" or "cuda". ValueError where CUDA is asked for and not there."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"--device cuda: torch {torch.__version__} finds no CUDA device; run it where there is one")
    return {"accelerator": device, "devices": 1}


def last_checkpoint(run_dir):
    """The newest checkpoint of a run folder, or None."""
    last = run_dir / "last.ckpt"
    return last if last.exists() else None
