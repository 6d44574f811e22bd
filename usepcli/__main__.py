"""The `usep` script and `python -m usepcli`: signals are answered before anything else is loaded."""

from __future__ import annotations

from usepcli import stops


def main() -> None:
    """Run `usep` with the process's arguments."""
    stops.begin()
    from usepcli.cli.app import main as program

    program()


if __name__ == "__main__":
    main()
