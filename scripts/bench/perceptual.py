def flip(a, b):
    return [None] * len(a)


ssimulacra2 = flip
