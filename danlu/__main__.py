"""`python -m danlu` is the command `danlu`. Holds nothing of its own."""

from danlu.cli import main

if __name__ == "__main__":
    main()
