"""What commands do once their arguments are read. Torch is imported here, so that ``--help`` need not wait for it."""
