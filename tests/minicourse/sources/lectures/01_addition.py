# %% [markdown]
# # 01 Addition
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/example/mini/blob/v1/lectures/01_addition.ipynb)
#
# What happens when two numbers meet? You will be able to add. It takes a minute.

# %% tags=["setup"]
SETUP = "the tests replace this cell by the built one"

# %% tags=["parameters"]
repeats: int = 10  # [1, 100] how often to add
label: str = "sum"  # {sum, total} what to call it

# %% [markdown]
# ## Adding
# Two and one make three, so adding them `repeats` times gives three times as much.

# %% tags=["nbval-check-output"]
print(2 + 1)

# %%
total = sum([2 + 1] * repeats)
print(label, total)

# %% tags=["thumbnail"]
import base64

from IPython.display import Image, display

png = "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAEElEQVR4nGNgKNqEHQ0tCQBZ7EkB"
png += "BJYQnwAAAABJRU5ErkJggg=="
display(Image(base64.b64decode(png)))

# %%
recorded = {"application/vnd.course.results+json": {"total": total}}
display({**recorded, "text/plain": f"total = {total}"}, raw=True)

# %% [markdown]
# ## Summary
# Adding is repeated counting.
#
# ## Exercises
# 1. Add three numbers. *Hint: add two, then the third.*
#
# ## Further reading
# - G. Peano, *Arithmetices principia*, Turin, 1889.
