"""What a command samples with, settled once: nothing changes it afterwards."""

from dataclasses import dataclass

import torch
from omegaconf import DictConfig

from .. import shim
from ..engines.config import build_engine, build_sampler, usual_dtype
from ..engines.errors import UserError, explained
from .command import OURS
from .configuration import merged_config, run_name


@dataclass(frozen=True)
class Job:
    """A merged config, where its model runs and in which precision, and the name that its pictures get."""

    config: DictConfig
    device: str
    dtype: str
    name: str

    @classmethod
    def of(cls, args):
        """The job that a command's arguments ask for. UserError where there can be none."""
        config = merged_config(args)
        device = ("cuda" if torch.cuda.is_available() else "cpu") if args.device == "auto" else args.device
        if device == "cuda" and not torch.cuda.is_available():
            raise UserError("--device cuda: this machine has no CUDA device; use --device cpu")
        dtype = usual_dtype(config, device) if args.dtype == "auto" else args.dtype
        changed = bool(args.overrides or args.config or getattr(args, "calibration", None))
        return cls(config, device, dtype, run_name(config, dtype, changed))

    def engine(self):
        """The model, built."""
        return build_engine(self.config, self.device, self.dtype)

    def sampler(self, **guider_params):
        """A fresh sampler, by default with the config's guider."""
        return build_sampler(self.config, self.device, **guider_params)

    def full_sampler(self):
        """One that makes the full run: every visit computed, as the host would.

        At scale 1 it takes the conditional branch alone (``scale: 0``), since nobody would pay for two to get that one.
        """
        guider = self.config.sampler_config.params.guider_config
        one_branch = guider.target == OURS and guider.params.get("scale") == 1
        alone = one_branch and not {"guider_config", "dyn_thresh_config"} & guider.params.keys()
        return self.sampler(use_cache=False, **({"scale": 0} if alone else {}))


def rehearse(sampler):
    """Make the schedule and its plan, so that a mistake in either is found before anything is written or run."""
    with explained("sampler_config"):
        sigmas = sampler.discretization(sampler.num_steps, device="cpu")
        if not sigmas.isfinite().all():
            raise UserError("sampler_config: its schedule is not finite; correct discretization_config")
    shim.rehearse(sampler, sigmas)
