"""Kubernetes' quantities: ``500m``, ``128Mi``, ``1e3``. Exact: nothing passes through a float."""

import re
from decimal import ROUND_CEILING, Decimal
from typing import Final

from hyperd.errors import InvalidError

Quantity = int | float | str

_FORM: Final = re.compile(r"([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))([a-zA-Z]{0,2}|[eE][+-]?[0-9]{1,3})")
_BINARY: Final = {name: 1024**power for power, name in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), 1)}
_DECIMAL: Final = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1),
    "k": Decimal(10) ** 3, "M": Decimal(10) ** 6, "G": Decimal(10) ** 9, "T": Decimal(10) ** 12, "P": Decimal(10) ** 15, "E": Decimal(10) ** 18,
}  # fmt: skip
_MOST: Final = 2**63 - 1
_LONGEST: Final = 64


def parse_quantity(value: Quantity, path: str) -> Decimal:
    """``value`` as a number that is not negative; ``path`` is how the message calls it.

    :raise InvalidError: it is no quantity, negative, or beyond 2^63
    """
    text = str(value)
    found = _FORM.fullmatch(text) if len(text) <= _LONGEST else None
    if found is None:
        raise InvalidError(f"{path}: {text[:_LONGEST]!r} is not a quantity", hint="such as 500m, 1.5, 128Mi or 1e3")
    number, suffix = Decimal(found[1]), found[2]
    if suffix[:1] in ("e", "E") and len(suffix) > 1 and suffix not in _BINARY:
        scale = Decimal(10) ** int(suffix[1:])
    elif suffix in _BINARY:
        scale = Decimal(_BINARY[suffix])
    elif suffix in _DECIMAL:
        scale = _DECIMAL[suffix]
    else:
        raise InvalidError(f"{path}: {text!r}: {suffix!r} is not a unit", hint="units are m, k, M, G, T and Ki, Mi, Gi, Ti")
    number *= scale
    if number < 0:
        raise InvalidError(f"{path}: {text} is negative")
    if number > _MOST:
        raise InvalidError(f"{path}: {text} is too great")
    return number


def whole(value: Quantity, path: str) -> int:
    """A quantity of whole things such as bytes, rounded up as Kubernetes does."""
    return int(parse_quantity(value, path).to_integral_value(ROUND_CEILING))


def cores(value: Quantity, path: str) -> float:
    """A quantity of CPUs, rounded up to thousandths as Kubernetes does."""
    return milli(value, path) / 1000


def milli(value: Quantity, path: str) -> int:
    """A quantity in thousandths, rounded up."""
    return int((parse_quantity(value, path) * 1000).to_integral_value(ROUND_CEILING))
