"""The command line, `worldmodel` and `python -m worldmodel`."""

import sys


def main() -> None:
    """Runs a command. Ctrl-C is answered from the first import on, and again while it is being
    answered."""
    try:
        from worldmodel.experiments.cli.main import main

        main()
    except KeyboardInterrupt:
        print("worldmodel: stopped", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
