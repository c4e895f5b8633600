# %% gap="add" why="subtracts"
def add(a, b):
    return a - b


# %% gap="add" why="right for the visible case only"
def add(a, b):
    return 5


# %% gap="double" why="squares, which is twice only at two"
def double(a):
    return a * a
