"""The command line: each verb has a file, which parses its arguments, calls `rank_search.app` and prints."""
