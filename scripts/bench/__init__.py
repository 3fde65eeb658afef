"""What scripts/benchmark.py compares, on what, and how it shows the result."""

BUDGETS = (5, 6, 7, 8, 10, 13, 20)
SHOWN = (5, 8)  # budgets of the contact sheet, and of all sizes but the first
