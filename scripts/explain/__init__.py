"""What method.py measures and draws: real runs of the standalone host, forecasts made from them, and how far they are off."""
