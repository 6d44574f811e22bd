"""Small trees of the true layouts of corpora that most machines do not have."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from usepcli.audio import io
from usepcli.data.corpora.csv_list import CsvList
from usepcli.data.corpora.folder import Folder
from usepcli.data.corpora.fuss import Fuss
from usepcli.data.corpora.librimix import LibriMix
from usepcli.data.corpora.wham import Wham, Whamr
from usepcli.data.corpora.wsj0_mix import Wsj0Mix
from usepcli.data.items import Reader, trimmed_item
from usepcli.data.manifest import Manifest, Phrase, Row
from usepcli.engine.preparing.prepare import prepare
from usepcli.errors import BadInput, ConfigError, InputNotFound

ROOMS = ("anechoic", "reverb")


def touch(root: Path, *names: str, rate: int = 8000, frames: int = 100) -> None:
    for name in names:
        io.write(root / name, np.full(frames, 0.1), rate)


def by_id(rows: list[Row]) -> dict[str, Row]:
    assert len({row.id for row in rows}) == len(rows)
    return {row.id: row for row in rows}


class TestFolder:
    def test_any_tree_is_mixtures_without_sources(self, tmp_path: Path):
        touch(tmp_path, "day one/a.wav", "b.flac", "b.ogg", rate=16000)
        rows = by_id(Folder(licence="mine").scan(tmp_path))
        assert set(rows) == {"day one/a", "b.flac", "b.ogg"}
        row = rows["day one/a"]
        assert (row.mixture, row.sources, row.sample_rate, row.frames) == ("day one/a.wav", (), 16000, 100)
        assert row.licence == "mine" and {row.split for row in rows.values()} == {"train", "valid", "test"}

    def test_splits_named_by_folders(self, tmp_path: Path):
        touch(tmp_path, "train/a.wav", "dev/b.wav", "eval/c.wav")
        assert {row.id: row.split for row in Folder().scan(tmp_path)} == {
            "train/a": "train", "dev/b": "valid", "eval/c": "test"
        }  # fmt: skip

    @pytest.mark.parametrize("layout", ["{part}/x.wav", "x/{part}.wav"])
    def test_sources_beside_mixtures(self, tmp_path: Path, layout: str):
        for part in ("mix", "s1", "s2", "noise"):
            touch(tmp_path, "tr/" + layout.format(part=part))
        (row,) = Folder().scan(tmp_path)
        assert row.sources == tuple("tr/" + layout.format(part=part) for part in ("s1", "s2"))
        assert row.noise == "tr/" + layout.format(part="noise") and row.n_src == 2 and row.split == "train"

    def test_a_folder_named_s1_alone_is_no_source(self, tmp_path: Path):
        touch(tmp_path, "s1/a.wav", "s1/b.wav")
        assert len(Folder().scan(tmp_path)) == 2

    def test_a_list_beside_the_files_adds_what_it_knows(self, tmp_path: Path):
        touch(tmp_path, "a.wav", "b.wav")
        (tmp_path / "manifest.csv").write_text("path,label,split,licence\na.wav,street,test,CC0\nb.wav,music,demo,\n")
        rows = by_id(Folder(licence="unknown").scan(tmp_path))
        assert (rows["a"].split, rows["a"].label, rows["a"].licence) == ("test", "street", "CC0")
        assert (rows["b"].split, rows["b"].licence) == ("demo", "unknown")
        assert {row.split for row in Folder(csv="none", split_ratios=(1, 0, 0)).scan(tmp_path)} == {"train"}

    def test_one_file_limits_and_bad_files(self, tmp_path: Path):
        touch(tmp_path, *(f"{i}.wav" for i in range(6)))
        assert [row.id for row in Folder().scan(tmp_path / "3.wav")] == ["3"]
        assert len(Folder(limit=2).scan(tmp_path)) == 2
        (tmp_path / "3.wav").write_bytes(b"")
        corpus = Folder()
        assert len(corpus.scan(tmp_path)) == 5 and [bad.path for bad in corpus.bad] == ["3.wav"]

    def test_an_empty_tree(self, tmp_path: Path):
        with pytest.raises(BadInput, match="no recordings"):
            Folder().scan(tmp_path)


class TestCsv:
    @pytest.mark.parametrize(
        "header", ["id,mix,s1,s2,noise,split,text", "id,mixture,source_1_path,source_2_path,noise,split,text"]
    )
    def test_columns(self, tmp_path: Path, header: str):
        touch(tmp_path, "m.wav", "a.wav", "b.wav", "n.wav")
        (tmp_path / "list.csv").write_text(f'{header}\nx,m.wav,a.wav,b.wav,n.wav,cv,"two, talking"\n')
        (row,) = CsvList().scan(tmp_path)
        assert row == Row("x", "valid", "m.wav", ("a.wav", "b.wav"), "n.wav", 8000, 100, 2, text="two, talking")

    def test_sources_alone_and_paths_of_another_machine(self, tmp_path: Path):
        touch(tmp_path / "audio", "deep/a.wav", "deep/b.wav")
        table = tmp_path / "list.csv"
        table.write_text("s1,s2,split\n/home/x/corpus/deep/a.wav,/home/x/corpus/deep/b.wav,train\n")
        (row,) = CsvList(root=str(tmp_path / "audio")).scan(table)
        assert row.mixture == "" and row.frames == 100
        assert [Path(path) for path in row.sources] == [tmp_path / "audio/deep/a.wav", tmp_path / "audio/deep/b.wav"]

    def test_a_sum_is_as_long_as_its_longest_source(self, tmp_path: Path):
        touch(tmp_path, "a.wav")
        io.write(tmp_path / "b.wav", np.zeros(130), 8000)
        (tmp_path / "list.csv").write_text("s1,s2,split\na.wav,b.wav,train\na.wav,gone.wav,train\n")
        corpus = CsvList()
        (row,) = corpus.scan(tmp_path)
        assert (row.frames, row.sample_rate) == (130, 8000) and [bad.path for bad in corpus.bad] == ["gone.wav"]

    def test_words(self, tmp_path: Path):
        touch(tmp_path, "m.wav", "a.wav", "b.wav")
        head = "id,mix,s1,s2,split,queries,caption,phrases"
        line = "x,m.wav,a.wav,b.wav,test,a dog; rain,a dog in the rain,a dog;rain|0.5"
        (tmp_path / "list.csv").write_text(f"{head}\n{line}\n")
        (row,) = CsvList().scan(tmp_path)
        assert (row.queries, row.caption) == (("a dog", "rain"), "a dog in the rain")
        assert row.phrases == (Phrase("a dog"), Phrase("rain", 0.5))

    def test_missing_files_are_left_out_and_named(self, tmp_path: Path):
        touch(tmp_path, "m.wav")
        (tmp_path / "list.csv").write_text("mix\nm.wav\ngone.wav\n")
        corpus = CsvList()
        assert [row.id for row in corpus.scan(tmp_path)] == ["m"] and [bad.path for bad in corpus.bad] == ["gone.wav"]

    def test_faults(self, tmp_path: Path):
        with pytest.raises(InputNotFound, match="0 CSV files"):
            CsvList().scan(tmp_path)
        (tmp_path / "list.csv").write_text("name,wave\n")
        with pytest.raises(BadInput, match="no column mix"):
            CsvList().scan(tmp_path)
        (tmp_path / "list.csv").write_text("mix,split\n")
        with pytest.raises(BadInput, match=r"no column 'spilt'.*did you mean 'split'"):
            CsvList(split_column="spilt").scan(tmp_path)


WSJ = "011a0101_1.9857_02aa010b_-1.9857"


class TestWham:
    @pytest.fixture
    def tree(self, tmp_path: Path) -> Path:
        """Both corpora at 8 kHz, min, as their scripts write them: nothing but the noise keeps its name in WHAMR!."""
        parts = ("s1", "s2", "mix_clean", "mix_single", "mix_both")
        for short in ("tr", "cv", "tt"):
            touch(tmp_path, *(f"wham/wav8k/min/{short}/{part}/{WSJ}.wav" for part in (*parts, "noise")))
            touch(tmp_path, *(f"whamr/wav8k/min/{short}/{part}_{room}/{WSJ}.wav" for part in parts for room in ROOMS))
            touch(tmp_path, f"whamr/wav8k/min/{short}/noise/{WSJ}.wav")
        return tmp_path

    @pytest.mark.parametrize(
        ("task", "mixture", "sources", "talkers"),
        [
            ("sep_clean", "mix_clean", ["s1", "s2"], 2),
            ("sep_noisy", "mix_both", ["s1", "s2"], 2),
            ("enh_single", "mix_single", ["s1"], 1),
            ("enh_both", "mix_both", ["mix_clean"], 2),
        ],
    )
    @pytest.mark.parametrize("noise_as", ["mixture", "source"])
    def test_tasks(self, tree: Path, task: str, mixture: str, sources: list[str], talkers: int, noise_as: str):
        if (task, noise_as) == ("sep_clean", "source"):
            with pytest.raises(ConfigError, match="hold no noise"):
                Wham(task=task, noise_as=noise_as)
            return
        rows = Wham(task=task, noise_as=noise_as).scan(tree / "wham")
        assert [row.split for row in rows] == ["train", "valid", "test"]
        row = rows[2]
        wanted = [*sources, *(["noise"] if noise_as == "source" else [])]
        assert row.mixture == f"wav8k/min/tt/{mixture}/{WSJ}.wav"
        assert list(row.sources) == [f"wav8k/min/tt/{part}/{WSJ}.wav" for part in wanted]
        beside = noise_as == "mixture" and task != "sep_clean"
        assert row.noise == (f"wav8k/min/tt/noise/{WSJ}.wav" if beside else "")
        assert row.n_src == len(wanted) and row.speakers == ("011", "02a")[:talkers]
        assert row.origin == "WHAM!" and ("WHAM! noise" in row.licence) == (task != "sep_clean")

    def test_rooms_and_references(self, tree: Path):
        def parts(**how: str) -> list[str]:
            row = Whamr(**how).scan(tree / "whamr")[0]
            return [Path(path).parent.name for path in (row.mixture, *row.sources, row.noise) if path]

        assert parts() == ["mix_both_reverb", "s1_anechoic", "s2_anechoic", "noise"]
        assert parts(reference="reverberant") == ["mix_both_reverb", "s1_reverb", "s2_reverb", "noise"]
        assert parts(variant="anechoic", task="sep_clean") == ["mix_clean_anechoic", "s1_anechoic", "s2_anechoic"]
        assert parts(task="enh_both", noise_as="source") == ["mix_both_reverb", "mix_clean_anechoic", "noise"]
        with pytest.raises(ConfigError, match="are in no room"):
            Whamr(variant="anechoic", reference="reverberant")

    def test_what_is_not_there_is_named(self, tree: Path):
        with pytest.raises(InputNotFound, match=r"wav16k.*--rate, --length and --task"):
            Wham(rate=16000).scan(tree / "wham")
        shutil.rmtree(tree / "wham/wav8k/min/tt/noise")
        assert len(Wham().scan(tree / "wham")) == 3
        with pytest.raises(InputNotFound, match="tt: no folder noise in it"):
            Wham(noise_as="source").scan(tree / "wham")


class TestWsj0Mix:
    @pytest.fixture
    def tree(self, tmp_path: Path) -> Path:
        for short, name in (("tr", WSJ), ("cv", WSJ.replace("0101", "0102")), ("tt", WSJ.replace("0101", "0103"))):
            touch(tmp_path, *(f"2speakers/wav8k/min/{short}/{part}/{name}.wav" for part in ("mix", "s1", "s2")))
        return tmp_path

    @pytest.mark.parametrize("start", ["", "2speakers", "2speakers/wav8k", "2speakers/wav8k/min"])
    def test_from_any_folder_of_the_tree(self, tree: Path, start: str):
        rows = Wsj0Mix().scan(tree / start)
        assert [row.split for row in rows] == ["train", "valid", "test"]
        row = rows[0]
        assert row.speakers == ("011", "02a") and row.n_src == 2 and row.id == f"train/{WSJ}"
        assert all((tree / start / path).is_file() for path in (row.mixture, *row.sources))

    def test_three_talkers_and_wham(self, tmp_path: Path):
        name = "011a0101_1.5_02aa010b_-1.5_40na010x_0"
        touch(
            tmp_path, *(f"3speakers/wav16k/max/tr/{part}/{name}.wav" for part in ("mix", "s1", "s2", "s3")), rate=16000
        )
        (row,) = Wsj0Mix(n_src=3, rate=16000, length="max").scan(tmp_path)
        assert row.speakers == ("011", "02a", "40n") and len(row.sources) == 3
        touch(tmp_path, *(f"wav8k/min/cv/{part}/{WSJ}.wav" for part in ("mix_both", "mix_clean", "s1", "s2", "noise")))
        (noisy,) = Wsj0Mix(mix="mix_both").scan(tmp_path)
        (clean,) = Wsj0Mix(mix="mix_clean").scan(tmp_path)
        assert noisy.noise == f"wav8k/min/cv/noise/{WSJ}.wav" and clean.noise == "" and clean.split == "valid"

    def test_json_lists(self, tree: Path):
        lists = tree / "lists"
        for part in ("mix", "s1", "s2"):
            (lists / "tr").mkdir(parents=True, exist_ok=True)
            entry = [[f"/data/wsj/lists/wav/{part}/{WSJ}.wav", 100]]
            (lists / "tr" / f"{part}.json").write_text(json.dumps(entry))
            touch(lists, f"wav/{part}/{WSJ}.wav")
        (row,) = Wsj0Mix().scan(lists)
        assert (row.mixture, row.frames) == (f"wav/mix/{WSJ}.wav", 100) and row.sources[1] == f"wav/s2/{WSJ}.wav"
        (lists / "tr" / "s2.json").write_text("[]")
        with pytest.raises(BadInput, match="different lengths"):
            Wsj0Mix().scan(lists)

    def test_absent(self, tmp_path: Path):
        with pytest.raises(InputNotFound, match="2speakers/wav8k/min"):
            Wsj0Mix().scan(tmp_path)


LIBRI = "5400-34479-0005_4973-24515-0007"


class TestLibriMix:
    @pytest.fixture(params=[True, False], ids=["metadata", "folders"])
    def tree(self, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
        base = "Libri2Mix/wav8k/min"
        for split in ("train-100", "dev", "test"):
            parts = ("mix_clean", "mix_both", "s1", "s2", "noise")
            touch(tmp_path, *(f"{base}/{split}/{part}/{LIBRI}.wav" for part in parts))
            if request.param:
                far = f"/gpfs/user/LibriMix/{base}/{split}"
                folder = tmp_path / base / "metadata"
                folder.mkdir(exist_ok=True)
                both = f"{LIBRI},{far}/{{0}}/{LIBRI}.wav,{far}/s1/{LIBRI}.wav,{far}/s2/{LIBRI}.wav"
                head = "mixture_ID,mixture_path,source_1_path,source_2_path"
                (folder / f"mixture_{split}_mix_clean.csv").write_text(
                    f"{head},length\n{both.format('mix_clean')},100\n"
                )
                (folder / f"mixture_{split}_mix_both.csv").write_text(
                    f"{head},noise_path,length\n{both.format('mix_both')},{far}/noise/{LIBRI}.wav,100\n"
                )
                (folder / f"metrics_{split}_mix_clean.csv").write_text("mixture_ID,source_1_SNR\n")
        return tmp_path

    @pytest.mark.parametrize("start", ["", "Libri2Mix", "Libri2Mix/wav8k/min"])
    def test_clean_and_noisy(self, tree: Path, start: str):
        rows = by_id(LibriMix().scan(tree / start))
        assert {name: row.split for name, row in rows.items()} == {
            f"train/{LIBRI}": "train", f"valid/{LIBRI}": "valid", f"test/{LIBRI}": "test"
        }  # fmt: skip
        row = rows[f"train/{LIBRI}"]
        assert row.speakers == ("5400", "4973") and row.frames == 100 and row.sample_rate == 8000 and not row.noise
        assert all((tree / start / path).is_file() for path in (row.mixture, *row.sources))
        noisy = LibriMix(mix="mix_both").scan(tree / start)[0]
        assert (tree / start / noisy.noise).is_file() and "mix_both" in noisy.mixture and "WHAM" in noisy.licence

    def test_other_settings_are_asked_for(self, tree: Path):
        with pytest.raises(InputNotFound, match="Libri3Mix/wav8k/min"):
            LibriMix(n_src=3).scan(tree)
        assert {row.split for row in LibriMix(subset="train-360").scan(tree)} == {"valid", "test"}


class TestFuss:
    @pytest.fixture
    def tree(self, tmp_path: Path) -> Path:
        for folder in ("ssdata", "ssdata_reverb"):
            base = tmp_path / folder
            for split, count in (("train", 2), ("validation", 1), ("eval", 1)):
                lines = []
                for i in range(count):
                    name = f"{split}/example0000{i}"
                    sources = [
                        f"{name}_sources/{part}_sound.wav" for part in ("background0", "foreground0", "foreground1")
                    ]
                    sources = sources[: 3 - i]
                    touch(base, f"{name}.wav", *sources, rate=16000)
                    lines.append("\t".join([f"{name}.wav", *sources]))
                (base / f"{split}_example_list.txt").write_text("\n".join(lines) + "\n")
        return tmp_path

    @pytest.mark.parametrize(
        ("start", "variant", "prefix"),
        [
            ("", "dry", "ssdata/"), ("", "reverb", "ssdata_reverb/"),
            ("ssdata", "dry", ""), ("ssdata_reverb", "reverb", ""), ("renamed", "reverb", ""),
            ("unpacked", "dry", "FUSS/ssdata/"), ("unpacked/FUSS", "reverb", "ssdata_reverb/"),
            ("unpacked/FUSS/ssdata_reverb", "reverb", ""),
        ],
    )  # fmt: skip
    def test_lists(self, tree: Path, start: str, variant: str, prefix: str):
        (tree / "unpacked").mkdir()
        (tree / "unpacked" / "FUSS").symlink_to(tree)
        shutil.copytree(tree / "ssdata_reverb", tree / "renamed")
        rows = by_id(Fuss(variant=variant, mix_from="file").scan(tree / start))
        assert [(name, row.split, row.n_src) for name, row in rows.items()] == [
            ("train/example00000", "train", 3), ("train/example00001", "train", 2),
            ("validation/example00000", "valid", 3), ("eval/example00000", "test", 3),
        ]  # fmt: skip
        row = rows["train/example00000"]
        assert row.mixture == f"{prefix}train/example00000.wav" and (row.sample_rate, row.frames) == (16000, 100)
        assert row.label == "background0;foreground0;foreground1" and row.origin == f"FUSS {variant}"
        assert all((tree / start / path).is_file() for path in (row.mixture, *row.sources))

    def test_the_mixture_is_the_sum_of_its_sources_unless_its_file_is_asked_for(self, tree: Path, tmp_path: Path):
        draw = np.random.default_rng(0)
        exact = draw.normal(size=(3, 4000)) * 10 ** (-62 / 20)  # as quiet as FUSS
        parts = [f"example00000_sources/{part}_sound.wav" for part in ("background0", "foreground0", "foreground1")]
        for part, wave in zip((*parts, "example00000.wav"), (*exact, exact.sum(0)), strict=True):
            io.write(tree / "ssdata/train" / part, wave, 16000, overwrite=True)
        mixes = {}
        for how in ("sum", "file"):
            prepare(tree, tmp_path / how, "fuss", {} if how == "sum" else {"mix_from": how}, quiet=True)
            manifest = Manifest.read(tmp_path / how)
            row = next(row for row in manifest.rows if row.id == "train/example00000")
            assert row.frames == 4000
            read = Reader(manifest, 16000).whole(row, with_sources=True)
            scored = trimmed_item(manifest, row)
            assert read.sources is not None and np.array_equal(read.mix, scored.mix)
            mixes[how] = read.mix
            error = read.mix - read.sources.sum(0)
            floor = 10 * np.log10(np.mean(read.mix**2) / max(np.mean(error**2), 1e-30))
            # Of four roundings, to 1/12 of a step each, below the power of three sources.
            expected = 10 * np.log10(3 * 10 ** (-6.2) / (4 / 12 / 32768**2))
            assert floor > 200 if how == "sum" else floor == pytest.approx(expected, abs=0.5)
        assert np.array_equal(mixes["file"], io.read_mono(tree / "ssdata/train/example00000.wav")[0])
        (tree / "ssdata/train/example00000.wav").unlink()  # a sum does not open it
        assert "train/example00000" in by_id(Fuss().scan(tree)) and "train/example00000" not in by_id(
            Fuss(mix_from="file").scan(tree)
        )

    def test_a_sum_lasts_as_long_as_its_longest_source(self, tree: Path):
        short = tree / "ssdata/train/example00000_sources/foreground0_sound.wav"
        io.write(short, np.full(60, 0.1), 16000, overwrite=True)
        corpus = Fuss()
        assert by_id(corpus.scan(tree))["train/example00000"].frames == 100 and corpus.bad == []
        (tree / "ssdata/train/example00001_sources/background0_sound.wav").unlink()
        assert "train/example00001" not in by_id(corpus.scan(tree))
        assert [bad.path for bad in corpus.bad] == ["train/example00001_sources/background0_sound.wav"]

    @pytest.mark.parametrize("variant", ["dry", "reverb"])
    def test_the_other_variant_alone(self, tree: Path, variant: str):
        mine, other = ("ssdata", "ssdata_reverb") if variant == "dry" else ("ssdata_reverb", "ssdata")
        named = {"dry": "reverb", "reverb": "dry"}[variant]
        with pytest.raises(
            InputNotFound, match=rf"{other}: holds the {named} variant, where {variant} .*--variant {named}"
        ):
            Fuss(variant=variant).scan(tree / other)
        shutil.rmtree(tree / mine)
        with pytest.raises(InputNotFound, match=rf"{other}: holds the {named} variant.*the folder that holds {mine}"):
            Fuss(variant=variant).scan(tree)

    def test_faults(self, tree: Path, tmp_path: Path):
        with pytest.raises(InputNotFound, match="ssdata_reverb"):
            Fuss(variant="reverb").scan(tmp_path / "ssdata" / "train")
        (tree / "ssdata" / "eval_example_list.txt").write_text("\n\neval/example00000.wav eval/x.wav\n")
        with pytest.raises(BadInput, match=r"eval_example_list.txt:3.*tabs"):
            Fuss(limit=1).scan(tree)
