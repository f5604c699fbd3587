"""`make bench`: ratios between two ways to do the same, side by side in one process."""
