"""Forecasts in front-ends that have no sgm sampler: one core, and a thin adapter for each. See README.md."""
