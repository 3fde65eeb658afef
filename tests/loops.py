"""Sampling loops driven by hand, what several at once must come to, and what the library said meanwhile."""

import logging
import threading

import torch

from problems import VANILLA, sampler


def by_hand(sampler, denoiser, x, cond, uc, steps=None, announced=True):
    """The sampler's own loop, prepared now; an iterator that takes a step and yields x each time.

    Not ``announced``: over a plain ``range``, so that nobody is told which step is being taken.
    """
    x, s_in, sigmas, count, cond, uc = sampler.prepare_sampling_loop(x, cond, uc, steps)

    def walk(x, state=None):
        for i in sampler.get_sigma_gen(count) if announced else range(count - 1):
            x, state = sampler.sampler_step(x, s_in * sigmas[i], s_in * sigmas[i + 1], denoiser, cond, uc, state)
            yield x

    return walk(x)


def in_a_thread(work, *args):
    """``work`` is done in another thread, and waited for."""
    other = threading.Thread(target=work, args=args)
    other.start()
    other.join()


def last(loop):
    """The result of a loop that is walked to its end."""
    for x in loop:  # noqa: B007
        pass
    return x


def in_turn(loops):
    """The results of several loops, of which each takes a step in turn until all have ended."""
    results, left = {}, dict(enumerate(loops))
    while left:
        for n, loop in list(left.items()):
            try:
                results[n] = next(loop)
            except StopIteration:
                del left[n]
    return [results[n] for n in sorted(results)]


def sharing(shared, names, **options):
    """A sampler for each of ``names``: one and the same, several with one ``guider``, or each with its own (``nothing``)."""
    if shared == "sampler":
        return [sampler(names[0], **options)] * len(names)
    built = [sampler(name, **options) for name in names]
    for other in built if shared == "guider" else []:
        other.guider = built[0].guider
    return built


def computed(name, denoiser, inputs, scale, steps):
    """What the host's own guider gives."""
    return sampler(name, VANILLA, scale=scale)(denoiser, *inputs, num_steps=steps)


def said(caplog):
    """The warnings of the library, each record that it logged."""
    return [log for log in caplog.records if log.name.startswith("taylorseer_guider") and log.levelno >= logging.WARNING]


def alone_or_computed(found, alone, full, caplog):
    """Whether every result is the one of its run alone, or that of the host's own guider where the log says so."""
    right = [torch.equal(*pair) for pair in zip(found, alone, strict=True)]
    without = [torch.equal(*pair) for pair in zip(found, full, strict=True)]
    return all(right) or (all(map(max, right, without)) and bool(said(caplog)))
