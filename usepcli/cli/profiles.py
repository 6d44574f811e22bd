"""`usep profiles`: the experiments in reach."""

from __future__ import annotations

from usepcli.cli import _options as options


def profiles(as_json: options.Json = False) -> None:
    """List the profiles in reach, one line each.

    Searched are ./profiles, the folders of $USEP_PROFILES, and the profiles that come with usep.

    \b
    Examples:
      usep profiles
      usep train --profile NAME --print-config
    """
    from usepcli.profile.load import profiles_available

    found = profiles_available()
    if as_json:
        options.listing([{"name": n, "about": about, "path": str(path)} for n, about, path in found], True)
    else:
        options.listing([{"name": n, "about": about} for n, about, _ in found], cut=("about",))
