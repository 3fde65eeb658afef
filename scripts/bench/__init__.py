"""What scripts/benchmark.py compares, on what, and how it shows the result."""
