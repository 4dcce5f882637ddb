"""``python -m rank_search``."""

from rank_search.cli import main

if __name__ == "__main__":
    main()
