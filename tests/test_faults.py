"""Faults seen on real hosts: gradients, denoisers that nothing gates, scales set in mid-run, rising schedules, the log."""

import pytest
import torch

from loops import by_hand, last, said
from problems import IDENTITY, OURS, SAMPLERS, VANILLA, GaussianMixture, sampler, sampler_config
from taylorseer_guider.standalone import sampling
from taylorseer_guider.standalone.config import append_dims

TURNS = ("EulerEDMSampler", "HeunEDMSampler")
CONFIG = sampler_config("EulerEDMSampler")["params"]["discretization_config"]
STEPS = 8


def smooth(x, sigma, cond):
    """A denoiser that is one formula and bends everywhere, so that its derivatives mean something."""
    share = append_dims(1 / (1 + sigma**2), x.ndim)
    return share * x + (1 - share) * torch.tanh(cond["vector"] + 0.5 * x)


def seeded():
    """``x, cond, uc`` for ``smooth``."""
    rng = torch.Generator().manual_seed(3)
    x, lean = (torch.randn(2, 6, generator=rng, dtype=torch.float64) for _ in range(2))
    return x, {"vector": lean}, {"vector": 0 * lean}


# Gradients: right, or of a run that computes, and the log says so.


def by_autograd(function, x, along):
    """The value of ``function`` at x and its derivative ``along`` a direction, by reverse mode."""
    x = x.detach().requires_grad_()
    value = function(x)
    return value.detach(), (torch.autograd.grad(value, x)[0] * along).sum()


def by_func_grad(function, x, along):
    slope, value = torch.func.grad_and_value(function)(x)
    return value, (slope * along).sum()


def by_func_jvp(function, x, along):
    return torch.func.jvp(function, (x,), (along,))


@pytest.mark.parametrize("derive", [by_autograd, by_func_grad, by_func_jvp])
@pytest.mark.parametrize("of", ["x", "cond", "denoiser"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_gradient_is_that_of_the_function_that_was_evaluated_and_the_log_tells(name, of, derive, caplog):
    (x, cond, uc), built = seeded(), sampler(name, scale=2.0, interval=3, num_steps=STEPS)
    along = torch.randn(x.shape, generator=torch.Generator().manual_seed(9), dtype=x.dtype)

    def function(given):
        start, lean = given if of == "x" else x, {"vector": given} if of == "cond" else cond
        bends = 0.1 * torch.cat([given, given]) if of == "denoiser" else 0.0
        return built(lambda *visit: smooth(*visit) + bends, start, lean, uc).square().sum()

    at = cond["vector"] if of == "cond" else x
    slope = derive(function, at, along)[1]
    ahead, behind = (derive(function, at + move * along, along)[0] for move in (1e-5, -1e-5))
    torch.testing.assert_close(slope, (ahead - behind) / 2e-5, rtol=1e-6, atol=1e-8)
    assert any("gradient" in log.message for log in said(caplog))


@pytest.mark.parametrize("name", SAMPLERS)
def test_where_no_gradient_is_recorded_there_are_forecasts_and_no_warning(name, caplog):
    x, cond, uc = seeded()
    with torch.no_grad():
        built = sampler(name, scale=2.0, interval=3)
        built(smooth, x.requires_grad_(), cond, uc)
    assert built.guider.report.forecasts > 0 and not said(caplog)


# Denoisers that the shim does not gate: what they give is used.


class ByAttribute:
    """Calls ``self.network`` in the place of the denoiser that it is handed."""

    def denoise(self, x, denoiser, sigma, cond, uc):
        return self.guider(self.network(*self.guider.prepare_inputs(x, sigma, cond, uc)), sigma)


class ByAttributeInStep:
    """Does so without ``denoise``."""

    def sampler_step(self, x, sigma, next_sigma, denoiser, cond, uc, state):
        denoised = self.guider(self.network(*self.guider.prepare_inputs(x, sigma, cond, uc)), sigma)
        return x + sampling.to_d(x, sigma, denoised) * append_dims(next_sigma - sigma, x.ndim), None


@pytest.mark.parametrize("scale", [0, 1, 2.0])
@pytest.mark.parametrize("how", [ByAttribute, ByAttributeInStep])
@pytest.mark.parametrize("name", TURNS)
def test_an_output_of_a_denoiser_that_nothing_gates_is_used_and_each_run_says_so_once(name, how, scale, caplog):
    problem, cls = GaussianMixture(), type("Own", (how, getattr(sampling, name)), {})
    images = []
    for target in (VANILLA, OURS):
        if target == VANILLA and scale == 0:
            target = VANILLA.replace("VanillaCFG", "IdentityGuider")
        params = {} if target.endswith("IdentityGuider") else {"scale": scale}
        built, problem.calls = cls(CONFIG, STEPS, {"target": target, "params": params}), 0
        built.network = lambda *visit: problem(*visit)
        images += [built(None, *problem.inputs()) for _ in range(2)]
        images.append(problem.calls)
    full, again, calls, *ours = images
    assert torch.equal(full, again) and ours[2] == calls
    tolerance = 1e-9 if scale == 1 else 0  # one branch in the place of two
    for image in ours[:2]:
        torch.testing.assert_close(image, full, rtol=tolerance, atol=tolerance)
    assert len(said(caplog)) == 2


def test_an_output_is_used_where_the_sampler_goes_past_the_gate_at_some_visits_only():
    """A network for the small sigmas, as some hosts have it."""

    class Switching(sampling.EulerEDMSampler):
        def denoise(self, x, denoiser, sigma, cond, uc):
            network = self.fine if sigma[0] < 1 else denoiser
            return self.guider(network(*self.guider.prepare_inputs(x, sigma, cond, uc)), sigma)

    def fine(*visit):
        given.append(problem(*visit))
        return given[-1].clone()

    problem, given, used = GaussianMixture(), [], []
    built = Switching(CONFIG, 20, {"target": OURS, "params": {"scale": 0, "interval": 3}})
    built.fine, denoise = fine, built.denoise
    built.denoise = lambda *visit: used.append(denoise(*visit)) or used[-1]
    built(problem, *problem.inputs())
    assert given and all(map(torch.equal, used[-len(given) :], given))


# A scale that is set in mid-run.


def constant(x, sigma, cond):
    """A denoiser whose branches never change, so that what is forecast of one scale is exact."""
    return append_dims(cond["vector"][:, 0], x.ndim) * torch.ones_like(x)


@pytest.mark.parametrize("after", range(1, 7))
@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_scale_that_is_set_in_mid_run_is_that_of_every_visit_after_it(name, by_name, after):
    options = {"guider_config": {"target": VANILLA, "params": {"scale": 1.5}}} if by_name else {"scale": 1.5}
    ours = sampler(name, quantity="denoised", interval=4, **options)
    x, cond, uc = GaussianMixture().inputs()
    images = []
    for built in (ours, sampler(name, VANILLA, scale=1.5)):
        loop = by_hand(built, constant, x, cond, {"vector": uc["vector"] - 1}, STEPS)
        for _ in range(after):
            next(loop)
        built.guider.scale = 4.0
        images.append(last(loop))
    torch.testing.assert_close(images[0], images[1], rtol=1e-9, atol=1e-9)
    visits = [visit for visit in ours.guider.report.visits if visit.step >= after]
    assert visits[0].action == "call" and ours.guider.report.forecasts > 0


def test_a_scale_that_is_written_into_in_mid_run_is_noticed():
    scale = torch.tensor(1.5, dtype=torch.float64)
    built = sampler("EulerEDMSampler", interval=8, guider_config={"target": VANILLA, "params": {"scale": scale}})
    loop = by_hand(built, constant, *GaussianMixture().inputs(), STEPS)
    next(loop)
    next(loop)
    built.guider.scale.fill_(4.0)
    last(loop)
    assert [visit.step for visit in built.guider.report.visits if visit.action == "call"] == [0, 2]


# Schedules that rise.


class Rising(sampling.EulerEDMSampler):
    """DDIM from pure noise up, on x = alpha * image + sqrt(1 - alpha^2) * noise; ``keys`` are the alphas."""

    keys = torch.linspace(0, 1, STEPS + 1, dtype=torch.float64)

    def prepare_sampling_loop(self, x, cond, uc=None, num_steps=None):
        return x, x.new_ones(x.shape[0]), self.keys, len(self.keys), cond, cond if uc is None else uc

    def sampler_step(self, x, alpha, next_alpha, denoiser, cond, uc, state):
        denoised = self.denoise(x, denoiser, alpha, cond, uc)
        alpha, next_alpha = append_dims(alpha, x.ndim), append_dims(next_alpha, x.ndim)
        noise = (x - alpha * denoised) / (1 - alpha**2).clamp_min(1e-12).sqrt()
        return next_alpha * denoised + (1 - next_alpha**2).clamp_min(0).sqrt() * noise, None


def rising(name, keys=Rising.keys, target=OURS, parents=(Rising.__mro__[2],), **params):
    """A sampler of class ``name`` whose schedule rises through ``keys``."""
    body = {method: vars(Rising)[method] for method in ("prepare_sampling_loop", "sampler_step")}
    return type(name, parents, {**body, "keys": keys})(CONFIG, STEPS, {"target": target, "params": params})


def denoise_alpha(x, alpha, cond):
    return torch.tanh(append_dims(cond["vector"][:, 0] + alpha, x.ndim) + 0.1 * x)


@pytest.mark.parametrize("top", [1.0, 14.6])
@pytest.mark.parametrize("options", [{}, {"calls": 5}, {"activate": [0, 3]}, {"tolerance": 0.1}], ids=str)
def test_a_schedule_that_rises_on_a_sampler_that_nobody_knows_is_one_clear_error(options, top):
    built = rising("Mystery", top * Rising.keys, scale=2.0, **options)
    with pytest.raises(ValueError, match="ris") as raised:
        built(denoise_alpha, *GaussianMixture().inputs())
    assert "use_cache: false" in str(raised.value) and "\n" not in str(raised.value)


def test_with_the_cache_off_it_is_sampled_as_the_host_does():
    problem = GaussianMixture()
    images = [
        rising("Mystery", target=target, scale=2.0, **params)(denoise_alpha, *problem.inputs())
        for target, params in ((VANILLA, {}), (OURS, {"use_cache": False}))
    ]
    assert torch.equal(*images)


ALPHAS = ["VideoDDIMSampler", "VPSDEDPMPP2MSampler", "VPODEDPMPP2MSampler", "ZeroSNRDDIMSampler"]


def on_alphas(name, derived, keys=Rising.keys, **options):
    """A sampler of that class, or of one derived from it."""
    known = type(name, (sampling.BaseDiffusionSampler,), {})
    return rising("Mine" if derived else name, keys, parents=(known,), **options)


@pytest.mark.parametrize("name", ALPHAS)
@pytest.mark.parametrize("derived", [False, True])
@pytest.mark.parametrize("options", [{}, {"calls": 5}, {"activate": [0, 1, 4]}], ids=str)
def test_on_a_sampler_that_is_known_to_it_is_the_root_of_alpha_cumprod(name, derived, options):
    built = on_alphas(name, derived, **options)
    assert built(denoise_alpha, *GaussianMixture().inputs()).isfinite().all()
    sigmas = [visit.sigma for visit in built.guider.report.visits]
    expected = [((1 - alpha**2) ** 0.5 / alpha) for alpha in Rising.keys[1:-1].tolist()]
    assert sigmas[1:] == pytest.approx(expected) and built.guider.report.forecasts > 0


@pytest.mark.parametrize("options", [{}, {"calls": 5}, {"activate": [0, 1, 4]}], ids=str)
def test_an_alpha_that_is_rounded_to_1_is_sampled(options):
    """bfloat16 rounds the alphas of a long schedule's last nodes to 1, where no noise is left."""
    keys = Rising.keys.clone()
    keys[-2] = 1.0
    built = on_alphas(ALPHAS[0], False, keys, **options)
    assert built(denoise_alpha, *GaussianMixture().inputs()).isfinite().all()


def test_an_euler_sampler_that_runs_backwards_is_refused():
    """From an image to its noise: its sigmas are sigmas, and not another kind of keys that rise."""
    sigmas = torch.linspace(0.1, 40, STEPS + 1, dtype=torch.float64)

    class Inverting(sampling.EulerEDMSampler):
        def prepare_sampling_loop(self, x, cond, uc=None, num_steps=None):
            return x, x.new_ones(x.shape[0]), sigmas, len(sigmas), cond, cond if uc is None else uc

    built = Inverting(CONFIG, STEPS, {"target": OURS, "params": {"scale": 2.0}})
    with pytest.raises(ValueError, match="rises"):
        built(GaussianMixture(), *GaussianMixture().inputs())


# The log: once per reason and run, and the right reason.


class Odd(sampling.EulerEDMSampler):
    """Its samples are at several sigmas in the third step, and from the fifth on it samples two tiles in turn."""

    steps = 0

    def sampler_step(self, x, sigma, next_sigma, denoiser, cond, uc, state):
        state = (state or 0) + 1
        if state == 3:
            sigma = sigma * torch.linspace(1.0, 1.1, len(x), dtype=sigma.dtype)
        step = super().sampler_step
        tiles = x.chunk(2, -1) if state >= 5 else [x]
        return torch.cat([step(tile, sigma, next_sigma, denoiser, cond, uc, None)[0] for tile in tiles], -1), state


def test_every_reason_is_logged_once_in_every_run(caplog):
    built = Odd(CONFIG, STEPS, {"target": OURS, "params": {"scale": 2.0, "interval": 4}})
    lines = []
    for _ in range(3):
        built(lambda x, sigma, cond: x / 2, *GaussianMixture().inputs())
        lines.append([log.message for log in said(caplog)])
        caplog.clear()
    assert lines[0] == lines[1] == lines[2] and len(lines[0]) == 2
    assert "different sigmas" in lines[0][0] and "tile" in lines[0][1]


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_loop_by_hand_has_no_tiles(name, announced, caplog):
    built, problem = sampler(name, interval=3), GaussianMixture()
    last(by_hand(built, problem, *problem.inputs(), STEPS, announced=announced))
    assert not any("tile" in visit.reason for visit in built.guider.report.visits)
    assert not any("tile" in log.message for log in said(caplog))


# What cannot be held and weighed computes, as the host does.


@pytest.mark.parametrize(
    "options", [{}, {"calls": 4}, {"interval": 3}, {"plan": {"tolerance": 0.1}}, {"use_cache": False}], ids=str
)
@pytest.mark.parametrize("name", [*SAMPLERS, "LinearMultistepSampler"])
def test_complex_pictures_and_weights_that_are_mapped_over_compute(name, options):
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)

    def sampled(x, share, **given):
        return sampler(name, num_steps=STEPS, **given)(lambda x, sigma, cond: share * x, x, {}, None)

    def mapped(**given):
        return torch.func.vmap(lambda share: sampled(x, share, **given))(torch.tensor([0.7, 0.9], dtype=torch.float64))

    ours, host = {"scale": 0, **options}, {"target": IDENTITY}
    assert torch.equal(
        sampled(torch.complex(x, 0.3 * x), 0.5 + 0.1j, **ours), sampled(torch.complex(x, 0.3 * x), 0.5 + 0.1j, **host)
    )
    assert torch.equal(mapped(**ours), mapped(**host))


@pytest.mark.parametrize("name", [*SAMPLERS, "LinearMultistepSampler"])
def test_outputs_may_be_broadcast_against_x(name):
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)

    def grey(x, sigma, cond):
        return 0.5 * x.mean(1, keepdim=True)

    ours, host = (sampler(name, num_steps=STEPS, **given)(grey, x, {}, None) for given in ({"scale": 0}, {"target": IDENTITY}))
    assert ours.shape == host.shape and ours.isfinite().all()


@pytest.mark.parametrize("name", [*SAMPLERS, "LinearMultistepSampler"])
def test_another_default_device_changes_nothing(name):
    """As ``torch.set_default_device("cuda")`` in a script whose pictures, or whose calibration, are made on the CPU."""
    problem = GaussianMixture((3, 160, 160), dtype=torch.float32)
    inputs, built = problem.inputs(1), sampler(name, num_steps=STEPS, scale=2.0, calls=4)
    sigmas = built.discretization(STEPS)
    built.discretization = lambda *_, **__: sigmas
    expected = built(problem, *inputs)
    with torch.device("meta"):
        assert torch.equal(built(problem, *inputs), expected)
