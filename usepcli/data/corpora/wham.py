"""WHAM! and WHAMR!: wsj0-2mix with recorded noise, and in rooms, as their scripts write them.

{tr,cv,tt}/{noise,s1,s2,mix_clean,mix_single,mix_both} below wav{8k,16k}/{min,max} (Wichern et al. 2019); WHAMR! has
each of these but the noise twice, ending in _anechoic and in _reverb (Maciejewski et al. 2020). A task says what is
mixed and what is wanted:
    sep_clean    s1 + s2            s1, s2
    sep_noisy    s1 + s2 + noise    s1, s2
    enh_single   s1 + noise         s1
    enh_both     s1 + s2 + noise    s1 + s2
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from usepcli.audio.io import show
from usepcli.data.corpora.wsj0_mix import Wsj0Mix
from usepcli.data.manifest import Row
from usepcli.errors import ConfigError, InputNotFound, choices

TASKS = {
    "sep_clean": ("mix_clean", ("s1", "s2")),
    "sep_noisy": ("mix_both", ("s1", "s2")),
    "enh_single": ("mix_single", ("s1",)),
    "enh_both": ("mix_both", ("mix_clean",)),
}
_LICENCE = "LDC user agreement (WSJ0)"
_NOISE_LICENCE = "CC-BY-NC-4.0 (WHAM! noise)"


class Wham(Wsj0Mix):
    """WHAM!: `task` names mixture and references; its noise stays in the mixture, or is the last source."""

    see = "--rate, --length and --task"

    def __init__(
        self,
        rate: int = 8000,
        length: Literal["min", "max"] = "min",
        task: Literal["sep_clean", "sep_noisy", "enh_single", "enh_both"] = "sep_noisy",
        noise_as: Literal["mixture", "source"] = "mixture",
        licence: str = "",
        limit: int = 0,
    ) -> None:
        if task not in TASKS:
            raise ConfigError(f"--task: {choices('task', task, TASKS)}")
        clean = task == "sep_clean"
        if noise_as == "source" and clean:
            raise ConfigError("--noise-as source: the mixtures of --task sep_clean hold no noise; choose another task")
        super().__init__(2, rate, length, TASKS[task][0], licence or _LICENCE + f" + {_NOISE_LICENCE}" * (not clean))
        self.limit, self.task, self.noise_as = limit, task, noise_as
        self.parts = TASKS[task][1]
        self.name = "WHAM!"

    def _from_folders(self, root: Path, folder: Path, split: str) -> list[Row]:
        lost = next((part for part in self._names() if not (folder / part).is_dir()), "")
        if lost:
            raise InputNotFound(f"{show(folder)}: no folder {lost} in it; see {self.see}")
        return super()._from_folders(root, folder, split)

    def _names(self) -> list[str]:
        return [*self.parts, *(["noise"] if self.noise_as == "source" else [])]

    def _noisy(self, folder: Path) -> bool:
        return self.task != "sep_clean" and self.noise_as == "mixture" and (folder / "noise").is_dir()


class Whamr(Wham):
    """WHAMR!: as `Wham`, in a room (`variant` reverb) or without; references anechoic, or as they sound there."""

    see = "--rate, --length, --task, --variant and --reference"

    def __init__(
        self,
        rate: int = 8000,
        length: Literal["min", "max"] = "min",
        task: Literal["sep_clean", "sep_noisy", "enh_single", "enh_both"] = "sep_noisy",
        noise_as: Literal["mixture", "source"] = "mixture",
        variant: Literal["reverb", "anechoic"] = "reverb",
        reference: Literal["anechoic", "reverberant"] = "anechoic",
        licence: str = "",
        limit: int = 0,
    ) -> None:
        super().__init__(rate, length, task, noise_as, licence, limit)
        for flag, value, known in (
            ("variant", variant, ("reverb", "anechoic")),
            ("reference", reference, ("anechoic", "reverberant")),
        ):
            if value not in known:
                raise ConfigError(f"--{flag}: {choices(flag, value, known)}")
        if (variant, reference) == ("anechoic", "reverberant"):
            raise ConfigError("--reference reverberant: mixtures of --variant anechoic are in no room; choose anechoic")
        ending = "_reverb" if reference == "reverberant" else "_anechoic"
        self.mix += f"_{variant}"
        self.parts = tuple(f"{part}{ending}" for part in self.parts)
        self.name = "WHAMR!"
