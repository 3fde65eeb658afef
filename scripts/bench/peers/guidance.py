"""Cheaper guidance: solvers that call every step, but not always both branches. Counted in branches; needs a scale over 1.

Every class here is the ``denoise`` of one run, asked once a visit; any solver takes it. A visit with both branches is one call of
the network on both, as a guider makes it. ``branches`` makes rows of them.
"""

import torch

from taylorseer_guider.calibration.squares import ridge
from taylorseer_guider.standalone.config import instantiate_from_config

from ..workloads import own_guider

LOW, HIGH = (99, 901), (-1, 301)  # time steps of 1000 in which FasterCache's low and high frequencies grow
GROWTH = 1.1  # by what, a cheap visit
RIDGE = 1e-8


class Guided:
    """Both branches at every visit. ``cheap`` visits are those of one branch; which and how is said by the methods below."""

    def __init__(self, workload):
        if workload.scale == 1:
            raise ValueError("scale is 1, at which there is no unconditional branch to save; take a scale over 1")
        self.workload, self.scale, self.visit = workload, workload.scale, -1
        self.guider = instantiate_from_config(own_guider(self.scale))

    def __call__(self, x, sigma):
        self.visit += 1
        return self.output(x, sigma)

    def output(self, x, sigma):
        return self.combine(*self.both(x, sigma))

    def both(self, x, sigma):
        """(unconditional, conditional) output, by one call."""
        sigma = x.new_ones(x.shape[0]) * sigma
        return self.workload.network(*self.guider.prepare_inputs(x, sigma, self.workload.cond, self.workload.uc)).chunk(2)

    def combine(self, uncond, cond):
        return uncond + self.scale * (cond - uncond)


class FasterCache(Guided):
    """CFG-Cache of FasterCache (arXiv 2410.19355): the unconditional output is the conditional one plus their last difference.

    Followed as its code and diffusers' ``FasterCacheConfig`` have it: low and high frequencies of the difference (within a fifth
    of the shorter side or not) are kept apart, and each grows by ``growth`` at every cheap visit of its time. Visits are taken as
    evenly spaced time steps, and the difference is one of eps, which lasts far longer here than one of denoised outputs. Left
    out: the reuse of attention outputs inside the network.
    """

    def __init__(self, workload, visits, called, growth=GROWTH):
        super().__init__(workload)
        self.visits, self.called, self.growth = visits, set(called), growth

    def output(self, x, sigma):
        if self.visit in self.called:
            uncond, cond = self.both(x, sigma)
            self.low, self.high = _split((uncond - cond) / sigma)
        else:
            cond = self.workload.branch(x, sigma, "cond")
            time = 1000 * (1 - self.visit / self.visits)
            self.low = self.low * (self.growth if LOW[0] < time < LOW[1] else 1)
            self.high = self.high * (self.growth if HIGH[0] < time < HIGH[1] else 1)
            uncond = cond + sigma * (self.low + self.high)
        return self.combine(uncond, cond)


def _split(image):
    """(low, high) frequencies of ``image``."""
    height, width = image.shape[-2:]
    down, across = ((torch.fft.fftfreq(length) * length).round() for length in (height, width))
    near = down[:, None] ** 2 + across**2 <= (min(height, width) // 5) ** 2
    low = torch.fft.ifft2(torch.fft.fft2(image) * near.to(image.device)).real
    return low, image - low


class AdaptiveGuidance(Guided):
    """Adaptive Guidance (arXiv 2312.12487): picture by picture, conditional output alone once both have been alike.

    Alike is a cosine of at least ``threshold``, of denoised outputs as in its ComfyUI port: of eps it is near 1 from the start,
    where both are nearly the noise. ``cosines`` keeps those of the pictures still guided, visit by visit.
    """

    def __init__(self, workload, threshold):
        super().__init__(workload)
        self.threshold, self.cosines = threshold, []
        self.guided = torch.ones(len(workload.noise), dtype=torch.bool)

    def output(self, x, sigma):
        if self.guided.all():
            uncond, cond = self.both(x, sigma)
        else:
            cond = self.workload.branch(x, sigma, "cond")
            uncond = cond.clone()
            if self.guided.any():
                uncond[self.guided] = self._some(x[self.guided], sigma)
        output = self.combine(uncond, cond)
        output[~self.guided] = cond[~self.guided]
        if self.guided.any():
            alike = torch.cosine_similarity(uncond[self.guided].flatten(1), cond[self.guided].flatten(1))
            self.cosines.append(alike)
            self.guided[self.guided.clone()] = (alike < self.threshold).cpu()
        return output

    def _some(self, x, sigma):
        sides = {key: value[self.guided] for key, value in self.workload.uc.items()}
        return self.workload.network(x, x.new_ones(len(x)) * sigma, sides)


def threshold(training, solve, sigmas, visits, branches):
    """The cosine at which Adaptive Guidance costs ``branches`` on ``training``, as near as can be."""
    seen = AdaptiveGuidance(training, 2.0)
    solve(seen, training.noise, sigmas)
    highest = torch.stack(seen.cosines).cummax(0).values
    costs = {
        float(cut): visits + float((highest < cut).sum(0).add(1).clamp(max=visits).float().mean()) for cut in highest.flatten()
    }
    return min(costs, key=lambda cut: abs(costs[cut] - branches))


class LinearAG(Guided):
    """LinearAG (arXiv 2312.12487): the unconditional eps as a linear function of earlier ones of both branches and of this
    visit's conditional one; scalar weights, fitted by least squares to runs with full guidance (``fit``)."""

    def __init__(self, workload, rows):
        super().__init__(workload)
        self.rows, self.known = rows, []

    def output(self, x, sigma):
        if self.visit in self.rows:
            cond = self.workload.branch(x, sigma, "cond")
            self.known.append((x - cond) / sigma)
            eps = sum(weight * known for weight, known in zip(self.rows[self.visit], self.known, strict=True))
            uncond = x - sigma * eps
        else:
            uncond, cond = self.both(x, sigma)
            self.known += [(x - cond) / sigma, (x - uncond) / sigma]
        return self.combine(uncond, cond)


class Recorded(Guided):
    """Full guidance that keeps the eps of both branches, visit by visit."""

    def __init__(self, workload):
        super().__init__(workload)
        self.pairs = []

    def output(self, x, sigma):
        uncond, cond = self.both(x, sigma)
        self.pairs.append([(x - cond) / sigma, (x - uncond) / sigma])
        return self.combine(uncond, cond)


def fit(training, solve, sigmas, called):
    """{cheap visit: weights} of LinearAG, of the outputs that are known then, oldest first.

    Only what a branch has given counts as known: an estimate is a linear function of these and would add nothing.
    """
    recorded = Recorded(training)
    solve(recorded, training.noise, sigmas)
    flat = torch.stack([eps.flatten().double() for pair in recorded.pairs for eps in pair])
    gram, known, rows = (flat @ flat.T).cpu(), [], {}
    for visit in range(len(recorded.pairs)):
        known.append(2 * visit)
        if visit in called:
            known.append(2 * visit + 1)
        else:
            index = [*known, 2 * visit + 1]
            rows[visit] = ridge(gram[index][:, index], RIDGE).tolist()
    return rows
