"""MUSIC and MUSIC-21: solos of instruments, in audio/<class>/<id>.wav as they are usually kept.

Lists as they come with published code, without a header: train.csv and val.csv (recording, video, seconds), and
test_sep_2.csv, whose rows name the recordings of each test mixture; without lists every recording is dealt out by seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from usepcli.data.corpora.labelled import Labelled
from usepcli.data.corpora.listing import Recording

_LISTS = ("train.csv", "val.csv", "valid.csv", "test.csv")


class Music(Labelled):
    """Solos, labelled by their innermost folder; mixtures as those of `Labelled`, of stretches from anywhere.

    A list of test mixtures beside the others, test_sep_K.csv for K sources, is found by itself; each of its mixtures
    goes on in stretches of `seconds` as long as all its recordings do.
    """

    depth = -1
    cut = "anywhere"
    segments = True
    usual = (("manifest.csv",), _LISTS, tuple(f"data/{name}" for name in _LISTS))

    def _mixtures(self, root: Path, lists: Sequence[Path]) -> list[tuple[str, list[str]]]:
        beside = [path.parent / f"test_sep_{self.recipe.sources[1]}.csv" for path in (*lists[:1], root / "_")]
        usual = next((path for path in beside if path.is_file()), None)
        if usual and not self.test_list:
            self.test_list = str(usual.relative_to(root))
        return super()._mixtures(root, lists)

    def _unlisted(self, paths: Sequence[str], root: Path) -> list[Recording]:
        return [Recording(path, 0, 0, Path(path).parent.name, "test", root.name) for path in paths]
