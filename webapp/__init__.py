"""The front doors: terminal and browser."""
