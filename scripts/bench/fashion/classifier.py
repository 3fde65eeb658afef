"""The classifier that judges pictures of clothes: which class they show, and features to compare crowds of them by."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

FEATURES = 64
WEIGHTS = Path(__file__).with_name("classifier.safetensors")


class Classifier(nn.Module):
    """(N, 1, 28, 28) in [-1, 1] -> (N, 10) logits. ``features`` are what the last layer sees, (N, 64).

    ``mean`` (64,) and ``covariance`` (64, 64) are those of the features of real pictures, which it was not trained on.
    """

    def __init__(self):
        super().__init__()
        blocks = [_block(1, 48, 5, 2), _block(48, 96, 3), _block(96, 128, 3, 2), _block(128, 128, 3)]
        self.body = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, FEATURES), nn.ReLU())
        self.head = nn.Linear(FEATURES, 10)
        self.register_buffer("mean", torch.zeros(FEATURES, dtype=torch.float64))
        self.register_buffer("covariance", torch.eye(FEATURES, dtype=torch.float64))

    def features(self, pictures):
        return self.body(pictures)

    def forward(self, pictures):
        return self.head(self.features(pictures))


def _block(came, goes, size, stride=1):
    return nn.Sequential(nn.Conv2d(came, goes, size, stride, size // 2, bias=False), nn.BatchNorm2d(goes), nn.ReLU())


def load(path=WEIGHTS):
    """The trained classifier, ready to judge."""
    classifier = Classifier()
    classifier.load_state_dict(load_file(path))
    return classifier.eval().requires_grad_(False)


@torch.no_grad()
def judge(classifier, pictures, batch=500):
    """(classes (N,), features (N, 64) in float64) of ``pictures``."""
    features = torch.cat([classifier.features(part) for part in pictures.split(batch)])
    return classifier.head(features).argmax(1), features.double()


def moments(features):
    """(mean, covariance) of ``features`` (N, F)."""
    return features.mean(0), torch.cov(features.T)


def frechet(first, second):
    """The Frechet distance between two Gaussians, (mean, covariance) each (arXiv 1706.08500, eq. 6)."""
    (mean, covariance), (other_mean, other) = first, second
    shared = torch.linalg.eigvals(covariance @ other).sqrt().real.sum()  # the trace of (C1 C2)^(1/2)
    return float((mean - other_mean).square().sum() + covariance.trace() + other.trace() - 2 * shared)
