NAMES = ()
held_out = training = None
