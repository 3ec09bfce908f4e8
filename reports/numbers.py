"""Numbers as text."""

import math


def plain(value: float) -> str:
    """A number as people write it: three significant digits, thousands set apart, no exponent for common sizes."""
    if value == 0 or not 1e-4 <= abs(value) < 1e7:
        return f"{value:.3g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{digits}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace(",", " ").replace("-", "−")
