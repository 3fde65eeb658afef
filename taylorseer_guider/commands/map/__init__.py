"""What decides whether forecasts pay on one's own model, measured on one full run.

command    the command, from its arguments to what it prints
record     the run, in as few numbers as hold all distances
recall     what the denoiser would say near it
errors     how its outputs move, and how far off forecasts of them are
choose     what runs with few calls would end at, without making them, and which of them to make
survey     all of that, and what it comes to
draw       the picture; its panels in panels
say        the table and the JSON
"""
