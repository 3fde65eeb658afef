"""The laboratory: plans and weights solved from a few runs of the user's own model. Loaded when `calibrate` is called.

host       the host's denoise at any x and sigma
ode        Euler's and Heun's methods as data, and the fine solution that is aimed at
squares    robust least squares, near to what theory says
scales     weights that follow the guidance scale
problem    what is fitted: runs, the solutions that they should reach, and what may be weighed
walk       one walk over the host's schedule, solving the weights of each visit on the way
plans      which nodes deserve a call
search     a budget's plan, on recordings and then with real calls
refine     all weights of a run moved along the gradient of its end
journal    what a person sees meanwhile, and what an interrupted calibration goes on from
unseen     samples that are left out, and what they say of it
fit        all of it, in order
recorded   a recorded run as a model of itself, and the solution that it was near
theory     what would be answered without a calibration
learn      weights from one recorded run
fingerprint  what tells one checkpoint from another
"""
