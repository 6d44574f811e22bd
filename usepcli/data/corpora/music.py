"""MUSIC and MUSIC-21: solos of instruments, in audio/<class>/<id>.wav as they are usually kept."""

from __future__ import annotations

from usepcli.data.corpora.labelled import Labelled


class Music(Labelled):
    """Solos, labelled by their innermost folder; mixtures as those of `Labelled`."""

    depth = -1
