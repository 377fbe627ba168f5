"""The command line, `python -m worldmodel`."""

from worldmodel.experiments.cli.main import main

if __name__ == "__main__":
    main()
