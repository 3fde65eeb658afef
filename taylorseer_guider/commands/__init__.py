"""The commands that ``pip install taylorseer-guider[demo]`` brings, and what they are made of.

    command.py, sample.py, calibrate.py    arguments, read without torch
    configuration.py, calibrations.py, job.py    what is sampled with, settled once
    folder.py, origin.py    which results are to be made, and what each is made from
    estimate.py             what a large one will take
    sampling.py             one result: runs, figures, panels (figures.py)
    making.py, devices.py   all of them, in this process or in many; progress.py is their bar
    results.py, pictures.py    their files and records
    calibrating.py          what ``taylorseer-calibrate`` does
    compare.py, page/       results side by side on one page
    outputs.py, perceptual.py    what such a page shows of a run
    trajectory.py, map/     a map of one's own model

The plugin does not import this room.
"""
