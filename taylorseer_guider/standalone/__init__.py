"""The host that is always there: a small sampler family with the contracts of Stability's sgm, written from the papers."""
