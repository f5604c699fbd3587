"""`python -m webapp …` is `seedproof …` without an install."""

from webapp.cli import main

if __name__ == "__main__":
    main()
