"""One adapter per corpus layout: its constructor's arguments are the options, `scan` lists files."""
