# %% [markdown]
# # 01 Addition: solution
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/example/mini/blob/v1/solutions/01_addition.ipynb)
#
# Write two functions. It takes five minutes.

# %% tags=["setup"]
SETUP = "the tests replace this cell by the built one"

# %% tags=["parameters"]
most: int = 5  # [1, 50] the largest number tried

# %% [markdown]
# ## 1. Add (2 points)
# Write `add(a, b)`: two ints in, their sum out.


# %% gap="add" stub="return the sum of a and b"
def add(a, b):
    ### BEGIN SOLUTION
    return a + b
    ### END SOLUTION


# %% check="add" points=2
assert add(2, 3) == 5, "two and three make five"
### BEGIN HIDDEN TESTS
for number in range(most):
    assert add(number, -number) == 0
### END HIDDEN TESTS

# %% tags=["thumbnail"]
from IPython.display import SVG

SVG(
    "<svg xmlns='http://www.w3.org/2000/svg' width='20' height='20'>"
    "<circle cx='10' cy='10' r='9' fill='#0072B2'/></svg>"
)

# %% [markdown]
# ## 2. Double (1 point)
# Write `double(a)` with the help of `add`.


# %% gap="double" stub="return twice a"
def double(a):
    ### BEGIN SOLUTION
    return add(a, a)
    ### END SOLUTION


# %% check="double" points=1
assert double(4) == 8, "twice four is eight"

# %% [markdown]
# ## 3. Why (1 point)
# Why does the order of the two numbers not matter?

# %% [markdown] question="order" points=1
# ### BEGIN SOLUTION
# Addition is commutative: counting three after two ends where counting two after three does.
# ### END SOLUTION

# %% [markdown]
# ## Summary
# You can add.
#
# ## Exercises
# 1. Write `triple`. *Hint: use both functions.*
#
# ## Further reading
# - G. Peano, *Arithmetices principia*, Turin, 1889.
