"""What a command is to make: which pictures, and which of their results are there already."""

import os
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path

from tqdm import tqdm

from .. import TaylorSeerGuider
from ..engines.errors import UserError
from ..engines.pictures import find_pictures, logger, read_header
from ..engines.tiles import LARGE, TILE, can_be_tiled
from ..tiny.photographs import photograph
from .origin import digest, digest_of_file, origin
from .results import read_record

NOT_TILED = "only the embedded model is made in tiles, and not where `learn`, `plan.tolerance` or a sampler's noise would tell " \
            "one tile from another; leave it out"  # fmt: skip
LONGEST = 210  # bytes of a name but for a digest: the names of all files that begin with it keep below a disk's 255


@dataclass(frozen=True)
class Picture:
    """What goes in, not decoded yet: ``file``, or None for a photograph of ours and for a model that takes no picture."""

    name: str
    file: Path | None
    height: int
    width: int
    content: str | None  # a digest
    dropped: tuple = ()  # what is in the file and not in what is read of it

    @property
    def address(self):
        return self.file and str(self.file.resolve())


@dataclass(frozen=True)
class Task:
    """One result to make: files that begin with ``name``, from ``picture`` and the noise of ``seed``, ``height`` x ``width``
    pixels of it, in tiles of ``tile`` pixels (0: in one piece).
    """

    picture: Picture
    seed: int
    height: int
    width: int
    tile: int
    made_from: dict
    name: str = ""

    @property
    def pixels(self):
        return self.height * self.width


@dataclass
class Work:
    """Tasks of a command; how many results are there already; (picture, what is wrong with it); what is to be said once."""

    todo: list = field(default_factory=list)
    there: int = 0
    broken: list = field(default_factory=list)
    remarks: dict = field(default_factory=lambda: defaultdict(list))  # {remark: names}


def planned(args, job, engine):
    """The Work that ``args`` ask for. UserError where no picture can be read."""
    work, made_from, sampler = Work(), origin(job, engine), job.sampler()
    tiled, compare = can_be_tiled(engine, sampler), args.compare and isinstance(sampler.guider, TaylorSeerGuider)
    if args.tile and not tiled:
        raise UserError(f"--tile {args.tile}: {NOT_TILED}")
    for picture in pictures(args, engine, work):
        for remark in picture.dropped:
            work.remarks[remark].append(picture.file.name)
        for seed in args.seeds:
            task = named(args.out_dir, job, engine, task_of(args, engine, picture, seed, tiled, made_from))
            why = "new" if args.overwrite else unmade(args.out_dir, task, compare)
            if why is None:
                work.there += 1
                continue
            work.todo.append(task)
            if why != "new":
                work.remarks[why].append(f"{task.name}.png")
    return work


def pictures(args, engine, work):
    """Yield the Picture of all that can be read of what ``args`` name; ``work`` gets the others. UserError where that is all."""
    found = sources(args, engine)
    factor = 1 if args.shrink_first else engine.factor
    for name, file in tqdm(found.items(), desc="looking at pictures", leave=False, delay=1):
        try:
            yield picture_of(name, file, engine, factor)
        except UserError as error:
            if len(found) == 1:
                raise
            work.broken.append((file.name, str(error)))
            logger.warning("skipped: %s", error)
    if len(work.broken) == len(found):
        raise UserError(f"--input-path {args.input_path}: none of its {len(found)} pictures can be made; {work.broken[0][1]}")


def sources(args, engine):
    """{name: file} of the pictures to look at; the file is None for a photograph of ours, and where a model takes no picture."""
    if args.input_path is None:
        return {args.photograph if engine.takes_pictures else next(iter(engine.inputs([])))[0]: None}
    if not engine.takes_pictures:
        raise UserError(f"--input-path {args.input_path}: this model is not conditioned on a picture; leave it out")
    return find_pictures(args.input_path)


def picture_of(name, file, engine, factor):
    """The Picture of a file, or of what ``sources`` names without one."""
    if file is not None:
        header = read_header(file, factor)
        return Picture(name, file, header.height, header.width, digest_of_file(file), header.dropped)
    if not engine.takes_pictures:
        return Picture(name, None, 1, 1, None)
    image = photograph(name)
    return Picture(name, None, *image.shape[:2], digest([image.tobytes()]))


def task_of(args, engine, picture, seed, tiled, made_from):
    """The Task of one picture and one seed, without a name."""
    height, width = (n if args.shrink_first else n * engine.factor for n in (picture.height, picture.width))
    tile = args.tile if args.tile is not None else TILE if tiled and height * width > LARGE else 0
    tile = tile if tile < max(height, width) else 0
    own = {"picture": picture.content, "seed": seed, "shrunk": args.shrink_first, "tile": tile}
    return Task(picture, seed, height, width, tile, {**made_from, **own})


def cut(name, rest):
    """``name``, cut where it is too long for a disk with ``rest`` behind it."""
    longest = LONGEST - len(os.fsencode(rest))
    encoded = os.fsencode(name)
    return name if len(encoded) <= longest else encoded[:longest].decode(errors="ignore")


def named(folder, job, engine, task):
    """``task`` with its name: one with a part of the digest of its own, where the result of another picture has that, or where a
    long name is cut.
    """
    picture, enlarged = task.picture, f"_x{engine.factor}" if engine.factor > 1 else ""
    rest, own = f"{enlarged}_{job.name}_seed{task.seed}", f"-{str(picture.content)[:8]}"
    stem = cut(picture.name, rest)
    for mark in ("", own) if stem == picture.name else (own,):
        name = f"{stem}{mark}{rest}"
        record = read_record(folder, name)
        if not record or record.get("source") == picture.address or record["made_from"].get("picture") == picture.content:
            break
    return replace(task, name=name)


def unmade(folder, task, compare):
    """Why the result of ``task`` is to be made, in a few words; None where it is there and was made from the same."""
    if not (folder / f"{task.name}.png").exists():
        return "new"
    record = read_record(folder, task.name)
    if record is None:
        return "there, with nothing beside it that says what it was made from: made again"
    if other := [name for name, value in task.made_from.items() if record["made_from"].get(name) != value]:
        return f"there, but another {' and '.join(other)}: made again"
    if compare and "to_full_run" not in record:
        return "there, without the full run: made again"
    beside = record.get("pictures") if isinstance(record.get("pictures"), dict) else {}
    gone = [role for role, file in beside.items() if not (folder / str(file)).exists()]
    return f"there, without its {' and '.join(gone)}: made again" if gone else None
