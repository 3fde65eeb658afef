"""The commands that ``pip install taylorseer-guider[demo]`` brings, and what they are made of.

``sample.py`` and ``calibrate.py`` hold their arguments, read without torch; ``sampling.py`` and ``calibrating.py`` hold what is
done then. The plugin does not import this room.
"""
