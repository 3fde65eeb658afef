"""What decides whether forecasts pay on one's own model, measured on one full run.

record     the run, in as few numbers as hold all distances
errors     how its outputs move, and how far off forecasts of them are
choose     what runs with few calls would end at, without making them, and which of them to make
draw       the picture
say        the table and the JSON
"""
