"""Makes pictures, and tells the truth about how."""

__version__ = "0.1.0"
