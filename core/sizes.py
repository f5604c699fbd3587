"""Bytes as text: GB are 10⁹ bytes, everywhere."""


def gigabytes(value: int) -> str:
    """GB of 10⁹ bytes; MB below a tenth of one."""
    return f"{value / 1e9:.2f} GB" if value >= 10**8 else f"{value / 1e6:.0f} MB"
