"""`python -m usepcli`, for torchrun and for environments without the `usep` script."""

from __future__ import annotations

from usepcli.cli.app import main

if __name__ == "__main__":
    main()
