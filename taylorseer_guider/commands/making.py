"""Everything that ``taylorseer-sample`` was asked for: planned, made one after the other, written as it is done, summed up."""

import sys

from omegaconf import OmegaConf
from tqdm import tqdm

from . import estimate
from .calibrations import default_config
from .compare import write_report
from .figures import summary
from .folder import planned
from .job import Job, rehearse
from .pictures import write_text
from .progress import Progress
from .results import SHEET, into, write_result
from .sampling import make

HALF_ON_CPU = (
    "--dtype {} on a CPU: up to ten times slower than float32 where the processor has no instructions for it; leave it out"
)


class Maker:
    """Makes tasks in one process, and keeps what went wrong: (name, message) each. A task ``alone`` fails as it is."""

    def __init__(self, args, job, engine, alone, shown=True):
        self.args, self.job, self.engine, self.alone, self.shown = args, job, engine, alone, shown
        self.failed, self._learning = [], None

    def sampler(self):
        """The job's sampler: a new one for each task, but one for all where its guider learns from the first."""
        if self._learning is not None:
            return self._learning
        made = self.job.sampler()
        if getattr(made.guider, "learn", False):
            self._learning = made
        return made

    def make(self, task):
        """The result of ``task``, or None."""
        try:
            return make(self.job, self.args, self.engine, task, self.sampler(), self.shown)
        except (ValueError, FloatingPointError) as error:
            if self.alone:
                raise
            message = " ".join(str(error).split())
            self.failed.append((task.name, message))
            tqdm.write(f"{task.name}: {message}", file=sys.stderr)
            return None

    def write(self, made):
        """Write ``made``, if anything was, and say so. UserError where the disk does not take it."""
        if made:
            write_result(self.args.out_dir, made)
            tqdm.write(f"{made.name}.png\n{summary(made.figures)}")
            sys.stdout.flush()


def begin(args, job, engine):
    """The Work of ``args``, with what there is to say of it; the folder is there then, with the job's config."""
    if why := not args.config and default_config(args)[1]:
        print(f"{why}: no calibration ships for that, so these are forecasts without one")
    if job.device == "cpu" and job.dtype != "float32":
        print(HALF_ON_CPU.format(job.dtype))
    rehearse(job.sampler())
    work = planned(args, job, engine)
    for remark, names in work.remarks.items():
        print(f"{remark} ({names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''})")
    if work.there:
        print(f"there already, skipped: {work.there} (--overwrite makes them again)")
    estimate.check(work, args, job, engine)
    with into(args.out_dir):
        write_text(args.out_dir / f"{job.name}.yaml", OmegaConf.to_yaml(job.config))
    return work


def sample_all(args):
    """Do what was asked for, in this process. The exit code: 1 where some of several pictures could not be made."""
    job = Job.of(args)
    engine = job.engine()
    work = begin(args, job, engine)
    maker = Maker(args, job, engine, alone=len(work.todo) == 1 and not work.broken)
    with Progress(work.todo, args.out_dir, maker.failed):
        for task in work.todo:
            maker.write(maker.make(task))
    return sum_up(args, work, maker.failed)


def sum_up(args, work, failed):
    """Say where the results are, and what could not be made. The exit code."""
    made = len(work.todo) - len(failed)
    failed = [*work.broken, *failed]
    if made:
        sheet = args.out_dir / f"{work.todo[0].name if made == 1 and not failed else '*'}{SHEET}.png"
        print(f"dB and SSIM are of pictures as files hold them (8 bit); look at {sheet}")
    if made + work.there + len(failed) > 1:
        print(f"{made} made, {work.there} there already, {len(failed)} could not be made")
    if failed:
        print(f"{len(failed)} could not be made:", *(f"  {name}: {why}" for name, why in failed), sep="\n", file=sys.stderr)
    faults = write_report([args.out_dir], args.out_dir / "report.html") if args.report and made + work.there else []
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if failed or faults else 0
