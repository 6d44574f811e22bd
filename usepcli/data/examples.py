"""Training examples: random segments of fixed mixtures, or mixtures made afresh from a pool of utterances.

Both are maps from a counter key (epoch, index) to an Example. A file that cannot be used is replaced by
another drawn from the next counter, and named in the example so that the trainer can count it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from usepcli import guard
from usepcli.data import lazy, rttm, words
from usepcli.data.batch import Example, Unusable
from usepcli.data.crops import Deal, How, held, seconds, weights
from usepcli.data.echoes import Echoes
from usepcli.data.items import Reader
from usepcli.data.kept import Kept
from usepcli.data.known import Halves, Split, known
from usepcli.data.manifest import Manifest, Pool, Row
from usepcli.data.phrases import Chosen, fixed
from usepcli.data.promise import Promised, check_utterance
from usepcli.data.responses import heard_through, low_passed
from usepcli.data.sampling import Key, rng
from usepcli.data.store import LONG_S, AudioStore
from usepcli.data.voices import Voices
from usepcli.errors import BadInput, ConfigError, MissingDependency

ATTEMPTS = 20
PLACES = 5  # drawn in a recording, before it is cut where it is loudest
_NO_ITEM = (ConfigError, MissingDependency)  # what another item would meet as well


class Replacing:
    """Draws an example; on an unusable file draws again from the next counter and remembers the name."""

    seed: int
    n_files: int  # recordings that the examples are made of
    segments: int  # of them, side by side
    deal: Deal | Halves | None = None

    def place_of(self, epoch: int, index: int) -> int:
        """Return what item `index` of an epoch is drawn from: a recording, or the item itself."""
        return index if self.deal is None else self.deal.file(epoch, index)

    def __getitem__(self, key: Key) -> Example:
        epoch, index = key
        bad: list[Unusable] = []
        for attempt in range(ATTEMPTS):
            draw = rng(self.seed, epoch, index, attempt)
            place = self.place_of(epoch, index if attempt == 0 else int(draw.integers(len(self))))
            try:
                example = self.draw(place, draw)
            except Exception as error:
                item = self.culprit(place)
                bad.append(Unusable(item, str(guard.fault(error, item, _NO_ITEM))))
                continue
            example.bad_files = tuple(bad)
            return example
        raise BadInput(f"{ATTEMPTS} unusable files in a row, the last: {bad[-1].reason}; run usep prepare-data --check")

    def draw(self, index: int, draw: np.random.Generator) -> Example:
        """Return an example of what `place_of` gave, with its random choices taken from `draw`."""
        raise NotImplementedError

    def culprit(self, index: int) -> str:
        """Return what could not be used when `draw(index)` failed, under one name however often it is drawn."""
        raise NotImplementedError

    def __len__(self) -> int:
        raise NotImplementedError


def place(wave: np.ndarray, frames: int, draw: np.random.Generator) -> np.ndarray:
    """Return (frames,): a random segment of a longer wave, or a shorter one at a random place in silence."""
    if wave.size >= frames:
        at = int(draw.integers(wave.size - frames + 1))
        return wave[at : at + frames]
    out = np.zeros(frames, np.float32)
    at = int(draw.integers(frames - wave.size + 1))
    out[at : at + wave.size] = wave
    return out


class FixedMixtures(Replacing):
    """Random segments of a manifest's mixtures, with all that its rows say of them in words.

    References are read only when `with_sources`; `needs` may name words that no row may lack.  An epoch has n_items
    (0: as many as `crops` gives the recordings, see data/crops.py).  split: some alone are read with their sources,
    and half of every batch is of them (data/known.py).  n_phrases: so many phrases of each (0: its own),
    drawn anew each time, see `phrases.fixed`.
    """

    def __init__(
        self,
        manifest: Manifest,
        rate: int,
        segment_s: float,
        seed: int,
        with_sources: bool,
        kept: Kept | None = None,
        needs: Collection[str] = (),
        n_items: int = 0,
        crops: How = "auto",
        channels: str = "mix",
        n_phrases: int = 0,
        split: Split | None = None,
    ) -> None:
        self.manifest, self.seed, self.with_sources, self.n_phrases = manifest, seed, with_sources, n_phrases
        self.with_activity = "activity" in needs
        self.reader = Reader(manifest, rate, segment_s, kept, channels)
        self._whole, self._heard = Reader(manifest, rate, channels=channels), dict[str, str]()
        lengths = seconds(manifest.rows)
        self.weights = weights(lengths, segment_s, crops)
        self.known = None if split is None else known(manifest, split)
        self.deal = (
            Deal(self.weights, n_items, seed) if self.known is None else Halves(self.weights, self.known, n_items, seed)
        )
        self.n_files, self.segments = len(manifest.rows), int(held(lengths, segment_s).sum())
        if with_sources and not lazy.counts(manifest.rows, "sources").all():
            raise ConfigError(
                f"{manifest.path}: the objective needs sources and some rows have none; "
                "choose an objective that learns from mixtures (mixit, remixit, self_remixing), or list the sources"
            )
        if self.known is None:
            words.check_manifest(manifest, needs)
        else:  # queries belong to sources
            words.check_manifest(_some(manifest, self.known), {"queries"} & {*needs})
            words.check_manifest(_some(manifest, ~self.known), {*needs} - {"queries"})

    def __len__(self) -> int:
        assert self.deal is not None
        return self.deal.n_items

    @property
    def most_sources(self) -> int:
        """The largest number of sources that a mixture lists."""
        return int(lazy.counts(self.manifest.rows, "sources").max(initial=0))

    def culprit(self, index: int) -> str:
        """Return the id of mixture `index`."""
        return self.manifest.rows[index].id

    def draw(self, index: int, draw: np.random.Generator) -> Example:
        """Return a random segment of mixture `index`."""
        row = self.manifest.rows[index]
        with_sources = self.with_sources if self.known is None else bool(self.known[index])
        item = self.reader.segment(row, draw, with_sources)
        if not item.mix.any() or (item.sources is not None and not item.sources.any()):
            self._check_heard(row, with_sources)
        said = Chosen(row.phrases, False)
        if self.n_phrases and row.phrases:
            said = fixed(row.phrases, self.n_phrases, draw)
        heard = rttm.activity(self.manifest, row, item) if self.with_activity else rttm.UNKNOWN
        return Example(
            row.id, item.mix, item.sources, row.text, queries=row.queries, caption=row.caption, phrases=said.phrases,
            label=row.label, incomplete=said.incomplete, files=(row.mixture,) if row.mixture else row.sources,
            activity=heard.frames, talkers=heard.talkers,
        )  # fmt: skip

    def _check_heard(self, row: Row, with_sources: bool) -> None:
        """BadInput for an item that is silent throughout, or in all its sources; a silent segment of others is fine."""
        if row.id not in self._heard:
            mute: list[str] = []
            if not row.sample_rate or row.frames / row.sample_rate <= LONG_S:
                item = self._whole.whole(row, with_sources)
                mute += [] if item.mix.any() else ["the mixture"]
                mute += [] if item.sources is None or item.sources.any() else ["all sources"]
            self._heard[row.id] = " and ".join(mute)
        if mute_parts := self._heard[row.id]:
            raise BadInput(f"{row.id}: {mute_parts} silent from beginning to end; replace or remove it")


def _some(manifest: Manifest, which: np.ndarray) -> Manifest:
    return replace(manifest, rows=lazy.some(manifest.rows, np.flatnonzero(which)))


class Part(NamedTuple):
    """`frames` samples from `first` on of a recording played `speed` times faster, or of silence where path is None."""

    path: Path | None
    speed: float
    first: int
    frames: int


class DynamicMixtures(Replacing):
    """Fresh mixtures of different talkers from pools of single-talker utterances.

    Every draw takes `n_talkers` talkers, or `min_talkers` to so many, each number as often (0: always `n_talkers`) or
    fewer than `n_talkers` with a chance of `fewer_prob`; a talker of n utterances as often as n^talker_power says. Of
    each one utterance, played at one of `speeds` (which also makes new voices) and through a response of
    +-`response_db`, is placed in `segment_s` seconds, and the levels are spread over `level_db`. A source brings the
    query of its utterance along; utterances with the same query should bear the same talker's name, so that they never
    meet. Noise, up to `noises` recordings of it, is played at one of the speeds and heard through a response as well.
    Of a share of rooms_prob the talkers are in one of `rooms`; a share of low_pass_prob has nothing above a frequency
    that is drawn evenly over its logarithm.
    """

    def __init__(
        self,
        pools: Sequence[Pool],
        rate: int,
        segment_s: float,
        seed: int,
        n_items: int,
        n_talkers: int = 2,
        min_talkers: int = 0,
        fewer_prob: float = 0.0,
        talker_power: float = 0.0,
        level_db: float = 5.0,
        speeds: Sequence[float] = (1.0,),
        join_prob: float = 0.0,
        response_db: float = 0.0,
        noise: Pool | None = None,
        noise_snr_db: tuple[float, float] = (5.0, 20.0),
        noise_prob: float = 0.0,
        noises: int = 1,
        rooms: Echoes | None = None,
        rooms_prob: float = 0.0,
        low_pass_hz: tuple[float, float] = (3400.0, 8000.0),
        low_pass_prob: float = 0.0,
        kept: Kept | None = None,
        needs: Collection[str] = (),
        seek: bool = True,
        channels: str = "mix",
    ) -> None:
        """seek: of long files a stretch counts as the whole.  channels: "mix" or "first"."""
        words.check_pools(pools, needs)
        self.pools = list(pools)
        if min_talkers > n_talkers:
            raise ConfigError(f"data.min_talkers: found {min_talkers}; expected at most data.talkers, {n_talkers}")
        self.seed, self.n_items, self.n_talkers, self.most_sources = seed, n_items, n_talkers, n_talkers
        self.min_talkers, self.fewer_prob = min_talkers or n_talkers, fewer_prob
        if fewer_prob and self.min_talkers == n_talkers:
            raise ConfigError(
                f"data.fewer_prob: found {fewer_prob:g}; expected 0, or data.min_talkers of 1 or more beside it, below "
                f"data.talkers, {n_talkers}"
            )
        self.n_files = sum(len(pool.rows) for pool in (*pools, *([noise] if noise else [])))
        self.segments = n_items
        self.frames, self.rate = round(segment_s * rate), rate
        self.level_db, self.speeds, self.join_prob = level_db, list(speeds), join_prob
        self.response_db = response_db
        self.noise, self.noise_snr_db, self.noise_prob, self.noises = noise, noise_snr_db, noise_prob, noises
        self.rooms, self.rooms_prob = rooms, rooms_prob
        self.low_pass_hz, self.low_pass_prob = low_pass_hz, low_pass_prob
        self.store, self.seek = AudioStore(rate, kept, channels), seek
        self.voices = Voices(pools)
        weight = self.voices.weight * self.voices.counts**talker_power
        self.cumulated = np.cumsum(weight) / np.sum(weight)
        found = len(np.unique(self.voices.group))
        if found < n_talkers:
            raise ConfigError(
                f"data.pool: {found} talkers found, {n_talkers} needed for one mixture; add recordings of more talkers"
            )

    def __len__(self) -> int:
        return self.n_items

    def culprit(self, index: int) -> str:
        """Return the file that was read last."""
        return str(self.store.read_last)

    def draw(self, index: int, draw: np.random.Generator) -> Example:
        """Return one fresh mixture; `index` only names it."""
        chosen: list[int] = []
        wanted = self._wanted(draw)
        while len(chosen) < wanted:
            talker = int(np.searchsorted(self.cumulated, draw.random(), side="right"))
            if self.voices.group[talker] not in self.voices.group[chosen]:
                chosen.append(talker)
        half = self.level_db / 2
        waves, queries = [], []
        for talker in chosen:
            wave, query = self._voice(talker, draw)
            waves.append(wave * 10 ** (draw.uniform(-half, half) / 20))
            queries.append(query)
        if self.rooms is not None and draw.random() < self.rooms_prob:
            try:
                waves = self.rooms(waves, draw)
            except BadInput:
                self.store.read_last = self.rooms.read_last  # the culprit is no voice
                raise
        sources = np.stack(waves)
        mix = sources.sum(0)
        if self.noise is not None and draw.random() < self.noise_prob:
            mix = mix + self._noise(mix, draw)
        if self.low_pass_prob and draw.random() < self.low_pass_prob:
            cut = float(np.exp(draw.uniform(*np.log(self.low_pass_hz))))
            *parts, mix = low_passed(np.stack([*sources, mix]), self.rate, cut)
            sources = np.stack(parts)
        # One common level: 0.1 rms, where int16 recordings of speech usually lie.
        gain = 0.1 / max(float(np.sqrt(np.mean(mix**2))), 1e-6)
        scaled = (mix * gain).astype(np.float32), (sources * gain).astype(np.float32)
        if not any(queries):
            return Example(f"dynamic-{index}", *scaled)
        # Two queries of one talker name the same kind of sound, in whatever words.
        kinds = ";".join(self.voices.name(talker) for talker in chosen)
        return Example(f"dynamic-{index}", *scaled, label=kinds, queries=tuple(queries))

    def _wanted(self, draw: np.random.Generator) -> int:
        """Return the number of talkers of a mixture."""
        if self.min_talkers == self.n_talkers:
            return self.n_talkers
        if not self.fewer_prob:
            return int(draw.integers(self.min_talkers, self.n_talkers + 1))
        return (
            int(draw.integers(self.min_talkers, self.n_talkers)) if draw.random() < self.fewer_prob else self.n_talkers
        )

    def _voice(self, talker: int, draw: np.random.Generator) -> tuple[np.ndarray, str]:
        """Return a source (frames,) of unit rms, and its query; what is joined to it has the same query."""
        said = self.voices.utterances(talker)
        speed = self.speeds[int(draw.integers(len(self.speeds)))]
        path, query, promised = self._utterance(said[int(draw.integers(len(said)))])
        said = self.voices.utterances(talker, query)
        for last in (*[False] * PLACES, True):  # a pause is no fault of a recording
            voice = [self._part(path, speed, draw, promised)]
            if last:
                wave = self._heard(voice[0])
                at = max(0, int(np.argmax(np.abs(wave))) - self.frames // 2)
                voice = [voice[0]._replace(first=voice[0].first + at, frames=min(self.frames, wave.size - at))]
            while sum(part.frames for part in voice) < self.frames and draw.random() < self.join_prob:
                pause = int(draw.uniform(0.1, 0.6) * self.rate)
                other, _, length = self._utterance(said[int(draw.integers(len(said)))])
                voice += [Part(None, speed, 0, pause), self._part(other, speed, draw, length)]
            wave = self._placed(voice, draw)
            if self.response_db:
                wave = heard_through(wave, self.rate, self.response_db, draw)
            rms = float(np.sqrt(np.mean(wave**2)))
            if rms >= 1e-5:
                return wave / rms, query
        self.store.read_last = path
        raise BadInput(f"{path}: silent wherever it was cut; replace or remove it")

    def _utterance(self, number: int) -> tuple[Path, str, Promised]:
        """Return an utterance's file, what a model is asked for to get it, and what its list says of the file."""
        pool, row = self.voices.row(number)
        return pool.resolve(row.path), row.query, Promised(row.sample_rate, row.frames, row.path in pool.sums)

    def _part(self, path: Path, speed: float, draw: np.random.Generator, promised: Promised) -> Part:
        """Return what of a recording may be heard: all of it, or a stretch of a long one from a place that is drawn.

        BadInput where it is not what its list says.
        """
        said = self.store.header(path)
        check_utterance(promised, path, said)
        total, first = self.store.length(path, speed), 0
        if self.seek and said.seconds > LONG_S:
            first = int(draw.integers(max(total - self.frames, 0) + 1))
            total = min(self.frames, total - first)
        return Part(path, speed, first, total)

    def _heard(self, part: Part, first: int = 0, frames: int | None = None) -> np.ndarray:
        frames = part.frames if frames is None else frames
        if part.path is None:
            return np.zeros(frames, np.float32)
        return self.store.segment(part.path, part.first + first, frames, part.speed)

    def _placed(self, parts: Sequence[Part], draw: np.random.Generator) -> np.ndarray:
        """Return what `place` gives for the parts one behind the other, reading only what is heard of them."""
        total = sum(part.frames for part in parts)
        begin = int(draw.integers(total - self.frames + 1)) if total >= self.frames else 0
        end, at, waves = min(begin + self.frames, total), 0, list[np.ndarray]()
        for part in parts:
            first, last = max(begin - at, 0), min(end - at, part.frames)
            if first < last:
                waves.append(self._heard(part, first, last - first))
            at += part.frames
        return place(np.concatenate(waves), self.frames, draw)

    def _noise(self, mix: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        """Return noise (frames,) of a level that is drawn below that of the talkers: one recording, or several."""
        count = 1 if self.noises == 1 else int(draw.integers(1, self.noises + 1))
        wave = sum((self._one_noise(draw) for _ in range(count)), np.zeros(self.frames))
        snr = draw.uniform(*self.noise_snr_db)
        scale = np.sqrt(np.mean(mix**2) / max(float(np.mean(wave**2)), 1e-10)) * 10 ** (-snr / 20)
        return wave * scale

    def _one_noise(self, draw: np.random.Generator) -> np.ndarray:
        """Return a noise (frames,) of unit rms, within 5 dB where there are several; a short one goes on anew."""
        assert self.noise is not None
        row = self.noise.rows[int(draw.integers(len(self.noise.rows)))]
        speed = self.speeds[int(draw.integers(len(self.speeds)))]
        part = self._part(self.noise.resolve(row.path), speed, draw, Promised(row.sample_rate, row.frames))
        wave = self._placed([part] * -(-self.frames // part.frames), draw)
        if self.response_db:
            wave = heard_through(wave, self.rate, self.response_db, draw)
        wave = wave / max(float(np.sqrt(np.mean(wave**2))), 1e-5)
        return wave if self.noises == 1 else wave * 10 ** (draw.uniform(-2.5, 2.5) / 20)
