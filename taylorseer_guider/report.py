"""What a run did: plain data, its table and its dictionary."""

from dataclasses import asdict, dataclass, field

CALL, FORECAST = "call", "forecast"


@dataclass
class Visit:
    """One request for an output. ``sigma`` is None where a batch shares none, or it is infinite."""

    step: int | None
    sigma: float | None
    action: str  # CALL or FORECAST
    reason: str
    number: int = 0  # of the run's visits, counted from 0
    node: int | None = None  # of the schedule: the one that sigma is, or the start of the step that contains it
    asked: float | None = None  # the sigma that the denoiser was called at, where that is another one
    order: int | None = None  # of the forecast
    weight_sum: float | None = None  # sum of |weights|: how much a forecast amplifies errors of the outputs it is made from
    error: float | None = None  # expected of the forecast, where `tolerance` asks for it
    seconds: float = 0.0  # in the denoiser and the inner guider, or in the forecast


@dataclass
class Report:
    """The visits of one run, and what they add up to."""

    visits: list[Visit] = field(default_factory=list)
    peak_bytes: int = 0  # most that the history, and the answers that a multistep host goes by, ever took together
    finished: bool = False
    learnt: object = None  # a ``learnt.Learnt``: what `learn` made of the run, or what the run went by

    def hold(self, tensors):
        """Count what is held now."""
        self.peak_bytes = max(self.peak_bytes, sum(tensor.numel() * tensor.element_size() for tensor in tensors))

    def _of(self, action):
        return [visit for visit in self.visits if visit.action == action]

    @property
    def calls(self) -> int:
        """Runs of the denoiser (NFE)."""
        return len(self._of(CALL))

    @property
    def forecasts(self) -> int:
        """Visits answered from history."""
        return len(self._of(FORECAST))

    @property
    def denoiser_seconds(self) -> float:
        return sum(visit.seconds for visit in self._of(CALL))

    @property
    def forecast_seconds(self) -> float:
        return sum(visit.seconds for visit in self._of(FORECAST))

    def to_dict(self) -> dict:
        """Plain numbers, strings and lists, ready for JSON."""
        names = ("calls", "forecasts", "denoiser_seconds", "forecast_seconds", "peak_bytes", "finished")
        totals = {name: getattr(self, name) for name in names}
        totals["learnt"] = self.learnt and self.learnt.to_dict()
        return {**totals, "visits": [asdict(visit) for visit in self.visits]}

    def __str__(self) -> str:
        lines = [f"{'visit':>5} {'step':>4} {'sigma':>10} {'action':<8} {'order':>5} {'|w|':>6} {'error':>8} {'ms':>9}  reason"]
        for i, v in enumerate(self.visits):
            step = "-" if v.step is None else v.step
            sigma = "-" if v.sigma is None else f"{v.sigma:.5g}"
            order = "" if v.order is None else v.order
            weight = "" if v.weight_sum is None else f"{v.weight_sum:.2f}"
            error = "" if v.error is None else f"{v.error:.2g}"
            made = f"{v.action:<8} {order:>5} {weight:>6} {error:>8} {1e3 * v.seconds:>9.2f}  {v.reason}"
            lines.append(f"{i:>5} {step:>4} {sigma:>10} {made}{'' if v.asked is None else f', at sigma {v.asked:.5g}'}")
        lines.append(
            f"{len(self.visits)} visits: {self.calls} calls in {self.denoiser_seconds:.2f} s, {self.forecasts} forecasts in "
            f"{self.forecast_seconds:.3f} s, {self.peak_bytes / 2**20:.1f} MiB of history at the peak"
        )
        return "\n".join([*lines, *([] if self.learnt is None else [str(self.learnt)])])
