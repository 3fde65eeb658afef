"""The laboratory: solvers fitted to a few runs of the user's own model. Loaded when `calibrate` is called.

host       the host's denoise at any x and sigma
ode        Euler's and Heun's methods as data, and the fine solution that is aimed at
theory     what would be answered without a calibration
squares    robust least squares, near to what theory says
scales     weights that follow the guidance scale
problem    what is fitted: runs, the solutions that they should reach, and what may be weighed
walk       one walk over a schedule, solving the weights of each visit on the way
refine     a budget as a solver of few numbers, moved along the gradient of where runs end
budgets    what a budget begins with, and what it is refined to
journal    what a person sees meanwhile, and what an interrupted calibration goes on from
unseen     samples that are left out, and what they say of it
fit        all of it, in order
recorded   a recorded run as a model of itself, and the solution that it was near
learn      weights from one recorded run
fingerprint  what tells one checkpoint from another
"""
