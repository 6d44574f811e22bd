"""Models from and to other toolkits, runtimes and places."""
