"""The label that stands for no class, the same in data, losses, metrics and figures."""

IGNORED = 255  # in a semantic mask: pixels that count neither as an object nor as background
