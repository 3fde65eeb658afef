"""A run as a strip: one bar for each visit, called or forecast, as high as its output is off the full run's."""

from .tables import ABSENT, count, shown

KNOWN = (
    "Each bar is one visit, from the highest sigma to the lowest. Its height, on a logarithmic scale, is how far the output that "
    "the sampler got is off the full run's at the same visit: root mean square, in per cent of the range (1 % is 40 dB). Calls "
    "are off, too: x is no longer the full run's, and a calibration weighs them."
)
UNKNOWN = (
    "Each bar is one visit, from the highest sigma to the lowest. How far outputs are off is recorded where sample.py makes the "
    "full run beside it (--compare), in one piece."
)


def strip(figures):
    """The strip of a result's ``figures``; None where its guider left no report."""
    visits = (figures.get("report") or {}).get("visits")
    if not visits:
        return None
    errors = figures.get("visit_errors") or [None] * len(visits)
    bars = [_bar(visit, error, f"{i + 1} of {len(visits)}") for i, (visit, error) in enumerate(zip(visits, errors, strict=False))]
    label = f"{count(figures['calls'], 'call')}, {count(len(visits) - figures['calls'], 'forecast')}"
    flat = all(bar["error"] is None for bar in bars)
    return {"label": label, "detail": figures["job"], "visits": bars, "flat": flat}


def legend(strips):
    return UNKNOWN if all(strip["flat"] for strip in strips) else KNOWN


def _bar(visit, error, place):
    sigma = shown(visit.get("sigma"), "{:.3g}")
    return {"action": visit["action"], "sigma": sigma, "error": finite(error), "text": _text(visit, error, place, sigma)}


def finite(value):
    """``value``, or None where it is no finite number: JSON knows no other."""
    return value if shown(value) not in (ABSENT, "identical") else None


def _text(visit, error, place, sigma):
    """Everything that is known of a visit, in a line."""
    made = "called" if visit["action"] == "call" else "forecast"
    if visit.get("order") is not None and made == "forecast":
        made += f", order {visit['order']}"
    parts = [f"Visit {place}, σ {sigma}: {made}"]
    if finite(error) is not None:
        parts.append(f"{100 * error:.3g} % off the full run's output" if error else "the full run's output exactly")
    if made != "called" and finite(visit.get("weight_sum")) is not None:
        parts.append(f"Σ|w| {visit['weight_sum']:.3g}")
    if finite(visit.get("error")) is not None:
        parts.append(f"{100 * visit['error']:.2g} % expected")
    if finite(visit.get("seconds")) is not None:
        parts.append(f"{visit['seconds']:.2f} s" if visit["seconds"] >= 0.1 else f"{1e3 * visit['seconds']:.2f} ms")
    return "; ".join(parts)
