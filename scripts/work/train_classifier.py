"""Training the classifier that judges the benchmark's pictures of clothes."""

import logging
from pathlib import Path

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from bench.fashion.classifier import Classifier, judge, moments
from bench.fashion.data import read
from taylorseer_guider.files import replacing

from .trainer import build_trainer, last_checkpoint, on_device

PASSES, RATE, BATCH = 8, 3e-3, 128


class Training(pl.LightningModule):
    """Cross entropy on pictures shifted by up to a pixel; one cycle of the learning rate."""

    def __init__(self):
        super().__init__()
        self.classifier = Classifier()

    def training_step(self, batch):
        pictures, classes = batch
        top, left = torch.randint(0, 3, (2,)).tolist()
        moved = F.pad(pictures, (1, 1, 1, 1), value=-1.0)[..., top : top + 28, left : left + 28]
        loss = F.cross_entropy(self.classifier(moved), classes)
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=RATE, weight_decay=0.01)
        steps = self.trainer.estimated_stepping_batches
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


def train(args):
    """Train, measure on the pictures that were kept away, and write the weights with the features' moments of those."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    pl.seed_everything(args.seed, verbose=False)
    args.run_dir = args.run_dir / "classifier"
    trainer = build_trainer(args, max_epochs=PASSES, **on_device(args.device))
    module = Training()
    pictures = TensorDataset(*(tensor.to(args.device) for tensor in read(args.data_dir, "train")))
    data = DataLoader(pictures, batch_size=None, sampler=BatchSampler(RandomSampler(pictures), BATCH, drop_last=False))
    trainer.fit(module, data, ckpt_path=last_checkpoint(args.run_dir))
    right = export(module.classifier.cpu().eval(), *read(args.data_dir, "t10k"), args.out)
    print(f"{'weights':<10} {args.out}\n{'right':<10} {100 * right:.1f} % of the pictures that it was not trained on")


def export(classifier, pictures, classes, path):
    """Write the weights, and the moments of the features of ``pictures``; returns the share that it names right."""
    found, features = judge(classifier, pictures)
    classifier.mean, classifier.covariance = moments(features)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(Path(path)) as partial:
        save_file({name: value.contiguous() for name, value in classifier.state_dict().items()}, partial)
    return (found == classes).double().mean().item()
