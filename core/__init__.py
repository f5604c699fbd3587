"""Makes pictures, and tells the truth about how."""
