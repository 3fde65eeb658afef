"""Drawing the map of a job's model, for each of its pictures."""

from dataclasses import replace
from time import perf_counter

import torch
from omegaconf import OmegaConf
from tqdm import tqdm

from ...calibration.host import Probe
from ...engines.errors import UserError, explained
from ...engines.pictures import each_of, read_picture
from ...settings import MOVED, OPTIONS
from ...tiny.photographs import photograph
from ..configuration import steps_name
from ..folder import cut, sources
from ..job import Job, rehearse
from ..pictures import write_text
from ..results import into
from .choose import decibels, scouted
from .draw import draw, require
from .record import followed
from .say import as_json, chosen_lines, expected, table
from .survey import survey


def map_all(args):
    """Do what trajectory.py was asked for. The exit code: 1 where some of several pictures could not be mapped."""
    require()
    job = bare(Job.of(args))
    if (steps := job.config.sampler_config.params.num_steps) < 2:
        raise UserError(f"--num-steps {steps}: a map shows how outputs move from step to step; give 2 or more")
    engine = job.engine()
    rehearse(job.full_sampler())
    for calls in args.check:
        rehearse(job.sampler(calls=calls))
    with into(args.out_dir):
        pass

    def mapped(name, file):
        for enlarged, small, _ in engine.inputs(picture(name, file, args, engine), args.shrink_first):
            map_one(job, args, engine, enlarged, small)

    found = sources(args, engine)
    return int(len(list(each_of(found, mapped))) < len(found))


def picture(name, file, args, engine):
    """[(name, uint8 (H, W, 3))] of a ``file``, or of a photograph of ours; [] where the model takes none."""
    if not engine.takes_pictures:
        return []
    if file is None:
        return [(name, photograph(name))]
    return [(name, read_picture(file, 1 if args.shrink_first else engine.factor))]


def bare(job):
    """``job`` without options of ours: the map tells which to choose."""
    config = OmegaConf.create(OmegaConf.to_container(job.config))
    params = config.sampler_config.params.guider_config.params
    for name in {*OPTIONS, *MOVED} & params.keys():
        del params[name]
    return replace(job, config=config)


def map_one(job, args, engine, name, small):
    """Follow one run, write its three files, and print the table."""
    subject = Subject(job, engine, small, args.seed)
    sampler, start = job.full_sampler(), perf_counter()
    course, some = subject.followed(sampler, name)
    seconds = perf_counter() - start
    found = survey(course, engine.peak, args.db, lambda calls: tqdm(calls, desc="foretelling", unit="calls", leave=False))
    found = replace(found, measured=subject.checked(course, some, found, args.check))
    rest = f"_{subject.run_name}_seed{args.seed}_trajectory"
    title, stem = subject.title(name), f"{cut(name, rest)}{rest}"
    path = args.out_dir / stem
    figures = {"title": title, "calls": course.calls, "seconds": seconds, "shape": list(course.shape), "seed": args.seed}
    said = table(found, f"{title}: {course.calls} calls in {seconds:.1f} s", course.calls)
    draw(found, title, [expected(found, course.calls), *chosen_lines(found)], path.with_name(f"{stem}.png"))
    write_text(path.with_name(f"{stem}.txt"), f"{said}\n")
    write_text(path.with_name(f"{stem}.json"), as_json(found, figures))
    print(f"{said}\n{path}.png, .txt, .json")


class Subject:
    """One picture and one seed of a job's model."""

    def __init__(self, job, engine, small, seed):
        self.job, self.engine, self.small, self.seed = job, engine, small, seed
        sampler = job.config.sampler_config
        self.sampler, self.steps = sampler.target.rpartition(".")[2], sampler.params.num_steps
        self.scale = sampler.params.guider_config.params.get("scale")

    @property
    def run_name(self):
        return steps_name(self.job.config.sampler_config) + ("" if self.scale is None else f"-s{self.scale:g}")

    def title(self, name):
        scale = "" if self.scale is None else f", scale {self.scale:g}"
        return f"{name}, {self.sampler}, {self.steps} steps{scale}, seed {self.seed}"

    def arguments(self, seed=None):
        with explained("engine", "cannot prepare a run"):
            return self.engine.arguments(self.small, self.seed if seed is None else seed)

    def followed(self, sampler, name):
        """(the ``Course`` of the full run, what takes of a tensor what that holds)."""
        with tqdm(desc=f"{name}, full run", unit="call", leave=False) as bar, explained("sampler_config", "its run failed"):

            def denoiser(*args, **kwargs):
                bar.update()
                return self.engine.denoiser(*args, **kwargs)

            course, _, some = followed(sampler, denoiser, self.arguments())
            if course.stepping.method == "euler":
                course = scouted(course, Probe(sampler, denoiser, self.arguments(), self.seed), some)
        return course, some

    def checked(self, course, some, found, budgets):
        """{calls: dB to the full run} of real runs with the options that were thought to be best."""
        measured = {}
        for calls in tqdm(budgets, desc="real runs", leave=False, disable=not budgets):
            options = found.best[calls].params if calls in found.best else {}
            sampler = self.job.sampler(calls=calls, **options)
            with torch.inference_mode(), explained("sampler_config", "its run failed"):
                for seed in ([self.seed + 1] if options.get("learn") else []) + [self.seed]:  # another is learnt from
                    x = sampler(self.engine.denoiser, **self.arguments(seed))
            measured[calls] = decibels(some(x), course.end, course.elements, self.engine.peak)
        return measured
