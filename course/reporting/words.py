"""Numbers as the terminal shows them. The report, which is HTML, has its own in `course.reporting.pages`."""

from __future__ import annotations

import math


def number(value: float, digits: int = 4) -> str:
    """Whole numbers whole, `15,470,264,320`; others to so many digits."""
    whole = math.isfinite(value) and abs(value) < 1e15 and value == int(value)
    return f"{int(value):,}" if whole else f"{value:.{digits}g}"


def shown(band: tuple[float, float]) -> str:
    """`5 to 7.25`, `212`."""
    low, high = (number(bound, 6) for bound in band)
    return low if band[0] == band[1] else f"{low} to {high}"
