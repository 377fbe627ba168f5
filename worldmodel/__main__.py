"""The command line, `worldmodel` and `python -m worldmodel`."""

import sys


def main() -> None:
    """Runs a command. Ctrl-C is answered from the first import on."""
    try:
        from worldmodel.experiments.cli.main import main
    except KeyboardInterrupt:
        print("worldmodel: stopped", file=sys.stderr)
        sys.exit(130)
    main()


if __name__ == "__main__":
    main()
