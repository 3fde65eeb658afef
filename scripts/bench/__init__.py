"""What scripts/benchmark.py compares, on what, and how it shows the result."""

BUDGETS = (5, 6, 8, 10, 13, 20)
WORKLOADS = ("mixture", "hsc64", "lsst60", "quasar72", "fashion", "embedded", "embedded-96")
PARTS = (
    "methods", "learnt", "reach", "unlike", "guard", "quality", "features", "ablations", "clock", "accelerator", "options", "page"
)  # fmt: skip
