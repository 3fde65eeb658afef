"""A folder's pictures shared out among processes by Lightning: one command, torchrun or SLURM starts them.

The first process decides what there is to make, and tells the others; each makes every N-th, the large ones first, and writes
what it made by itself. Nothing passes between them until all are done.
"""

import logging
import os
import signal
import sys
import warnings
from datetime import timedelta
from pathlib import Path

import torch

from ..engines.errors import UserError
from ..files import first_line
from .job import Job
from .making import Maker, begin, sum_up
from .progress import Progress

try:
    import pytorch_lightning as pl
    from pytorch_lightning.callbacks import BasePredictionWriter
    from pytorch_lightning.overrides.distributed import UnrepeatedDistributedSampler
    from pytorch_lightning.strategies import DDPStrategy
    from pytorch_lightning.utilities.exceptions import MisconfigurationException
    from pytorch_lightning.utilities.rank_zero import rank_zero_only
except ImportError as error:
    raise UserError(f"--devices: needs Lightning ({first_line(error)}); pip install 'pytorch-lightning>=2.6'") from None

PATIENCE = timedelta(days=30)  # that a process waits for the slowest one


class Sampling(pl.LightningModule):
    """Tasks as batches: numbers of ``tasks``, which the first process hands to the others."""

    def __init__(self, args, job, engine, work):
        super().__init__()
        self.args, self.job, self.engine, self.work = args, job, engine, work
        self.parent, self.stopped = os.getppid(), None

    def setup(self, stage):
        strategy = self.trainer.strategy
        self.work = strategy.broadcast(self.work)
        self.tasks = sorted(self.work.todo, key=lambda task: task.pixels, reverse=True)
        self.maker = Maker(self.args, self.job, self.engine or self.job.engine(), alone=False, shown=self.trainer.is_global_zero)

    def predict_dataloader(self):
        numbers = range(max(len(self.tasks), self.trainer.world_size))  # each process must get one, if only to find it empty
        sampler = UnrepeatedDistributedSampler(numbers, self.trainer.world_size, self.trainer.global_rank, shuffle=False)
        return torch.utils.data.DataLoader(numbers, batch_size=None, sampler=sampler)

    def predict_step(self, number):
        self.leave_if_orphaned()
        made = None if number >= len(self.tasks) or self.stopped else self.maker.make(self.tasks[number])
        self.leave_if_orphaned()
        return made or ()  # None would be taken for a mistake

    def leave_if_orphaned(self):
        """End this process where the one that started it was killed: the same command may be running again."""
        started = self.trainer.local_rank > 0 or "TORCHELASTIC_RUN_ID" in os.environ
        if started and os.getppid() != self.parent:
            os._exit(1)


class Writer(BasePredictionWriter):
    """Writes each result as it is made, and gathers what went wrong everywhere."""

    def __init__(self):
        super().__init__(write_interval="batch")

    def on_predict_start(self, trainer, module):
        self.progress = Progress(module.tasks if trainer.is_global_zero else [], module.args.out_dir, module.maker.failed)
        self.progress.__enter__()

    def write_on_batch_end(self, trainer, module, prediction, *_):
        try:
            module.maker.write(prediction)
        except UserError as error:
            module.stopped = str(error)  # by a full disk: nothing more is made here, and the others are not torn down

    def on_predict_end(self, trainer, module):
        found = [None] * trainer.world_size
        torch.distributed.all_gather_object(found, (module.maker.failed, module.stopped))
        self.failed = [failure for failed, _ in found for failure in failed]
        self.stopped = next((stopped for _, stopped in found if stopped), None)
        self.progress.__exit__()


class Died(logging.Handler):
    """Says what Lightning tells its log when a process has died: the others are killed then, and nothing else is said."""

    def emit(self, record):
        told = record.getMessage()
        if "terminated with code" in told:
            code = told.rpartition("terminated with code ")[2].split(".")[0]
            why = " (killed, perhaps for want of memory)" if code == f"-{signal.SIGKILL.value}" else ""
            remedy = "finished pictures are kept: run the same command again, with fewer --devices if need be"
            print(f"\n{Path(sys.argv[0]).name}: a process died with code {code}{why}; {remedy}", file=sys.stderr, flush=True)


def trainer_for(args, job, writer):
    """Lightning's trainer on the devices that ``args`` ask for; quiet, and patient. UserError where they are not there."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module=name)
    observer = logging.getLogger("lightning_fabric.strategies.launchers.subprocess_script")
    observer.setLevel(logging.INFO)  # which it logs at before it kills all processes, since one has died
    observer.handlers = [Died()]
    accelerator = "gpu" if job.device == "cuda" else "cpu"
    try:
        return pl.Trainer(
            accelerator=accelerator, devices=args.devices, num_nodes=args.num_nodes, strategy=DDPStrategy(timeout=PATIENCE),
            callbacks=[writer], logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            use_distributed_sampler=False,
        )  # fmt: skip
    except MisconfigurationException as error:
        raise UserError(f"--devices {args.devices}: {first_line(error)}") from None


def sample_on_devices(args):
    """Do what was asked for, in every process that is started. The exit code, which the first process decides."""
    job, writer = Job.of(args), Writer()
    first = rank_zero_only.rank == 0 and os.environ.get("NODE_RANK", "0") == "0"
    engine = job.engine() if first else None
    work = begin(args, job, engine) if first else None
    trainer = trainer_for(args, job, writer)
    if first and not work.todo and args.num_nodes == 1 and not outside(trainer):
        return sum_up(args, work, [])
    try:
        trainer.predict(Sampling(args, job, engine, work), return_predictions=False)
    except SystemExit as left:  # with 1 where Lightning caught a KeyboardInterrupt
        if first and trainer.interrupted and left.code == 1:
            raise KeyboardInterrupt from None
        raise
    if torch.distributed.is_initialized():  # while all are still there: at exit, a connection that another has closed may abort
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
    if not first:
        return 0
    if writer.stopped:
        raise UserError(writer.stopped)
    return sum_up(args, work, writer.failed)


def outside(trainer):
    """Whether the processes are started by something else, which has started them already."""
    return trainer.strategy.cluster_environment.creates_processes_externally
