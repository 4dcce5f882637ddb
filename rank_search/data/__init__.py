"""Where examples come from: files, folders and the hub; their columns; their three splits."""
