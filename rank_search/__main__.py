"""``python -m rank_search``."""

from rank_search.cli.main import main

if __name__ == "__main__":
    main()
