"""A guider that is taught by its first picture, and what that is worth."""

from problems import GaussianMixture, decibels, sampler

CALLS, SCALE = 8, 2.0
HOSTS = ("EulerEDMSampler", "HeunEDMSampler", "DPMPP2MSampler", "LinearMultistepSampler")
FULL = {"EulerEDMSampler": 20, "HeunEDMSampler": 39, "DPMPP2MSampler": 20}
LEARN = {"scale": SCALE, "calls": CALLS, "learn": True}


def problem_of(spread=0.8, **options):
    return GaussianMixture(spread=spread, components=3, **options)


def counted(sampler, problem, inputs, **keywords):
    """(the picture, how many calls it took)."""
    before = problem.calls
    return sampler(problem, *inputs, **keywords), problem.calls - before


def worst(x, exact):
    """PSNR of the picture that is farthest off."""
    return min(decibels(*pair) for pair in zip(x, exact, strict=True))


def taught(name="HeunEDMSampler", problem=None, seed=1, **options):
    """(the problem, a sampler that has made its first picture of it)."""
    problem, built = problem or problem_of(), sampler(name, **{**LEARN, **options})
    built(problem, *problem.inputs(seed=seed))
    return problem, built


def on_another(name, guider, num_steps=20):
    """A sampler ``name`` that shares the ``guider``."""
    built = sampler(name, num_steps=num_steps)
    built.guider = guider
    return built
