"""Files of foreign checkpoints: tensors under any wrapping, YAML whose tags stay text, folders, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from usepcli.engine.exchange import foreign, foreign_source
from usepcli.engine.exchange.foreign_parts import renamed, size
from usepcli.engine.exchange.foreign_source import Source, on_disk, unwrapped
from usepcli.engine.exchange.foreign_text import from_yaml, resolved
from usepcli.errors import BadInput, InputNotFound

ONE = torch.ones(2, 3)

HYPER = """
# as HyperPyYAML has it
N: 256
rate: !ref <N>
loop: !ref <loop>
eps: 1e-8
sum: !ref <N> * 2
Encoder: !new:os.system
    kernel_size: 16
    out_channels: !ref <N>
loss: !name:speechbrain.nnet.losses.get
modules:
    encoder: !ref <Encoder>
pair: !tuple (1, 2)
"""


def test_tags_are_text_and_nothing_is_made():
    found = from_yaml(HYPER, "hyper")
    assert found["Encoder"] == {"!": "!new:os.system", "kernel_size": 16, "out_channels": "!ref <N>"}
    assert resolved(found, found["Encoder"]["out_channels"], "hyper") == 256 == resolved(found, found["rate"], "hyper")
    assert found["eps"] == 1e-8 and found["loss"] == "!name:speechbrain.nnet.losses.get"
    assert found["pair"] == "!tuple (1, 2)"
    for key, said in (("sum", "refers to no plain setting"), ("loop", "refers to itself")):
        with pytest.raises(BadInput, match=rf"^hyper: .*{said}"):
            resolved(found, found[key], "hyper")


def test_yaml_that_grows_or_is_none_is_refused():
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{to}: &{to} [{', '.join([f'*{of}'] * 10)}]\n" for of, to in zip("abcdef", "bcdefg", strict=True)
    )
    for text in (bomb, "a: [" * 60 + "]" * 60, "a: b: c", "- 1", "\x00"):
        with pytest.raises(BadInput, match=r"^here: "):
            from_yaml(text, "here")
    # What PyYAML writes of Python's own: aliases, tuples, exponents without a point.
    text = "a: &id [1, 2]\nb: *id\nc: !!python/tuple [1, yes]\nd: 1e-4\ne: .inf\nf:\n"
    want = {"a": [1, 2], "b": [1, 2], "c": [1, True], "d": 1e-4, "e": ".inf", "f": None}
    found = from_yaml(text, "here")
    assert {key: found[key] for key in want if key != "e"} == {k: v for k, v in want.items() if k != "e"}


@pytest.mark.parametrize(
    "raw",
    [
        {"a.weight": ONE},
        {"state_dict": {"module.a.weight": ONE}, "epoch": 3},
        {"model_state_dict": {"model.module.a.weight": ONE}, "optimizer_state_dict": {"x": 1}},
        {"model": {"model.separator.a.weight": ONE}},
        {"state_dict": {"ss_model.a.weight": ONE}},
        {"model": {"state_dict": {"a.weight": ONE}, "args": [1]}},
    ],
)
def test_state_dicts_are_found_under_any_wrapping(raw: dict[str, object], tmp_path: Path):
    torch.save(raw, tmp_path / "a.pt")
    found = on_disk(tmp_path / "a.pt").state("a.pt")
    assert list(found) == ["a.weight"] and torch.equal(found["a.weight"], ONE)


def test_prefixes_stay_where_not_all_have_them():
    state = {"separator.a": ONE, "encoder.b": ONE}
    assert unwrapped(state) == state and unwrapped({"a": 1}) == {} == unwrapped([1])


def test_every_key_gets_its_place_or_is_told():
    rules = ((r"old\.(.+)", r"new.\1"), (r"twin", "new.weight"))
    half = {"old.weight": ONE.half(), "pos.pe": ONE}
    found = renamed(half, rules, "here", dropped=(r"pos\.pe",))
    assert list(found) == ["new.weight"] and found["new.weight"].dtype == torch.float32
    assert list(renamed({**half, "twin": ONE}, rules, "here", (r"pos\..*",))) == ["new.weight"]
    with pytest.raises(BadInput, match="'twin' is stored twice, and the two differ"):
        renamed({**half, "twin": 2 * ONE}, rules, "here", (r"pos\..*",))
    with pytest.raises(BadInput, match=r"^here: 7 tensors belong to no part.*: a0, a1, a2, a3, a4 and 2 more$"):
        renamed({f"a{k}": ONE for k in range(7)}, rules, "here")
    with pytest.raises(BadInput, match="'x' is missing"):
        size({}, "x", "here")
    with pytest.raises(BadInput, match="expected 3 axes"):
        size({"x": ONE}, "x", "here", 3)


def test_a_folder_is_opened_no_further_than_asked(tmp_path: Path):
    (tmp_path / "exp" / "run").mkdir(parents=True)
    for name in ("b.json", "exp/run/config.yaml", ".hidden"):
        (tmp_path / name).write_text('{"a": 1}')
    source = on_disk(tmp_path)
    assert source.names == ("b.json", "exp/run/config.yaml") and source.single == ""
    assert source.first("config.yaml") == "exp/run/config.yaml" and source.first("none") == ""
    assert source.json("b.json") == {"a": 1} == source.yaml("exp/run/config.yaml") and len(source.used) == 2
    for text, said in (("[1]", "holds a list"), ("{", "not readable as JSON")):
        (tmp_path / "b.json").write_text(text)
        with pytest.raises(BadInput, match=rf"b\.json: .*{said}"):
            on_disk(tmp_path).json("b.json")
    (tmp_path / "b.json").write_bytes(b"\xff")
    with pytest.raises(BadInput, match="no text file"):
        on_disk(tmp_path).json("b.json")


def test_what_is_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(InputNotFound, match="no such checkpoint"):
        on_disk(tmp_path / "none")
    monkeypatch.setattr(foreign_source, "_MOST_FILES", 1)
    for name in "ab":
        (tmp_path / name).touch()
    with pytest.raises(BadInput, match="more than 1 files"):
        on_disk(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("---\nlicense: cc-by-sa-4.0\n---\n# Title", "cc-by-sa-4.0"),
        ("---\nlicense: other\nlicense_name: scientific purposes\n---\n", "scientific purposes"),
        ("# Title\nlicense: mit", ""),
        ("---\nlicense: [a\n---\n", ""),
        ("---\nlicense: 3\n---\n", ""),
    ],
)
def test_the_licence_of_the_weights_stands_at_the_head_of_the_page(text: str, said: str, tmp_path: Path):
    (tmp_path / "README.md").write_text(text)
    (tmp_path / "other").touch()
    assert foreign.card_licence(on_disk(tmp_path)) == said


def test_a_pickle_is_refused_with_the_way_out(tmp_path: Path):
    torch.save({"state_dict": {"a": ONE}, "config": Path("x")}, tmp_path / "a.pt")
    with pytest.raises(BadInput, match=r"Python object pathlib.*only if you trust the file.*torch\.save its state"):
        on_disk(tmp_path / "a.pt").raw("a.pt")


def test_safetensors_are_read_as_torch_files_are(tmp_path: Path):
    save_file({"model.a": ONE}, tmp_path / "model.safetensors")
    source = Source("there", ["x/model.safetensors", "y"], lambda name: tmp_path / "model.safetensors")
    assert list(source.state("x/model.safetensors")) == ["a"]
    assert source.at("y") == "there: y" and source.weights(r"model\.\w+") == "x/model.safetensors"
