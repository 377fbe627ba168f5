"""The command line: `worldmodel`."""
