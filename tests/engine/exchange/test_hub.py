"""Pull and push: a folder of the Hub's layout, and a small server that answers as the Hub does."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import importlib.util
import json
import os
import runpy
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from usepcli.engine.exchange import hub, hub_pull, hub_push
from usepcli.errors import BadInput, InputNotFound, IOFault, MissingDependency, OutputError, UsageError
from usepcli.weights import build, cards, reach, store

COMMIT = "4f2a9c1d" * 5
SCORE = {"metric": "si-snri", "value": 7.5, "ci95": [7.0, 8.0], "n": 3, "data": "toys", "protocol": "mean"}


def write(path: Path, licence: str = "CC0-1.0", seed: int = 0) -> Path:
    torch.manual_seed(seed)
    model = build.model({"name": "convtasnet", "preset": "tiny"})
    card = cards.Card(
        name="toy", about="a toy", model=build.config_of(model), sample_rate=8000, n_src=2, licence=licence,
        scores=[SCORE],
    )  # fmt: skip
    store.save_model(path, model.state_dict(), card)
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.chdir(tmp_path)


def test_a_pushed_folder_is_pulled_and_found_by_its_name(tmp_path: Path) -> None:
    model = write(tmp_path / "toy.safetensors")
    assert hub_push.push(str(model), "./two")["state"] == "new"
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == ["README.md", "config.json", hub.WEIGHTS]
    published = tmp_path / "two" / hub.WEIGHTS
    # The card of an older usep gets what the model takes; the numbers are those that were.
    assert cards.read_header(published).card.cost and not cards.read_header(model).card.cost
    assert cards.read_card(published)[1] == cards.read_card(model)[1] == cards.digest(published.read_bytes())
    got = hub_pull.pull("./two", sha256=sha256(published).upper())
    assert got["state"] == "new" and got["sha256"] == sha256(published) == sha256(Path(got["path"]))
    assert reach.find_model("two") == reach.cache() / "two.safetensors"
    assert hub.record(Path(got["path"]))["repo"] == str(tmp_path / "two")
    assert hub_pull.pull("./two")["state"] == "the same"
    assert not list(reach.cache().glob(".*"))


def test_head_and_config_carry_what_the_card_says(tmp_path: Path) -> None:
    hub_push.push(str(write(tmp_path / "toy.safetensors")), "./two", datasets=["me/toys"])
    top = yaml.safe_load((tmp_path / "two" / "README.md").read_text().split("---\n")[1])
    assert (top["license"], top["library_name"], top["pipeline_tag"]) == ("cc0-1.0", "usep", "audio-to-audio")
    assert top["datasets"] == ["me/toys"] and "audio-to-audio" in top["tags"]
    (result,) = top["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == 7.5 and result["metrics"][0]["args"]["protocol"] == "mean"
    config = json.loads((tmp_path / "two" / "config.json").read_text())
    assert (config["sample_rate"], config["outputs"], config["card"]["licence"]) == (8000, 2, "CC0-1.0")


@pytest.mark.parametrize("licence", ["", "unstated"])
def test_a_model_without_a_licence_is_not_published(licence: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no licence"):
        hub_push.push(str(write(tmp_path / "toy.safetensors", licence)), "./two")
    assert not (tmp_path / "two").exists()


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one.safetensors"), write(tmp_path / "two.safetensors", seed=1)
    hub_push.push(str(one), "./repo")
    assert hub_push.push(str(one), "./repo")["state"] == "the same"
    with pytest.raises(OutputError, match="--overwrite"):
        hub_push.push(str(two), "./repo")
    hub_pull.pull("./repo", name="x")
    assert hub_push.push(str(two), "./repo", overwrite=True)["state"] == "replaced"
    with pytest.raises(OutputError, match="another model"):
        hub_pull.pull("./repo", name="x")
    assert cards.read_card(reach.cache() / "x.safetensors")[1] == cards.read_card(one)[1]
    assert hub_pull.pull("./repo", name="x", overwrite=True)["state"] == "replaced"


def test_what_does_not_fit_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    write(tmp_path / "repo" / hub.WEIGHTS)
    with pytest.raises(BadInput, match="--sha256 says 0000"):
        hub_pull.pull("./repo", sha256="0" * 64)
    (tmp_path / "repo" / "other.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(BadInput, match="not a readable model file"):
        hub_pull.pull("./repo", file="other.safetensors")
    with pytest.raises(InputNotFound, match="no such file"):
        hub_pull.pull("./repo", file="none.safetensors")
    assert list(reach.cache().glob("*")) == []


def test_a_model_that_does_not_fit_its_card_is_not_kept(tmp_path: Path) -> None:
    weights = store.read_weights(write(tmp_path / "toy.safetensors"))
    card, _ = cards.read_card(tmp_path / "toy.safetensors")
    for changed, words in (({"n_src": 3}, "says 3 outputs"), ({"model": card.model | {"n_src": 3}}, "")):
        store.save_model(tmp_path / "repo" / hub.WEIGHTS, weights, dataclasses.replace(card, **changed))
        with pytest.raises(BadInput, match=rf"^\./repo: {hub.WEIGHTS}: .*{words}.*; nothing is kept$"):
            hub_pull.pull("./repo")
    assert list(reach.cache().glob("*")) == []


@pytest.mark.parametrize("text", ["{}", "[1", '{"mine": 1}'])
def test_a_file_of_the_users_is_not_taken_for_a_record(text: str, tmp_path: Path) -> None:
    write(tmp_path / "repo" / hub.WEIGHTS)
    mine = tmp_path / "models" / "x.json"
    mine.parent.mkdir()
    mine.write_text(text)
    with pytest.raises(OutputError, match=r"x\.json: is no record"):
        hub_pull.pull("./repo", name="x", out=mine.parent)
    assert mine.read_text() == text and list(mine.parent.iterdir()) == [mine]
    assert hub_pull.pull("./repo", name="x", out=mine.parent, overwrite=True)["state"] == "new"
    assert hub.record(mine)["sha256"] == sha256(tmp_path / "repo" / hub.WEIGHTS)


def test_the_record_stands_before_the_model(tmp_path: Path) -> None:
    write(tmp_path / "repo" / hub.WEIGHTS)
    (tmp_path / "models" / "x.json").mkdir(parents=True)
    with pytest.raises(IOFault, match=r"x\.json"):
        hub_pull.pull("./repo", name="x", out=tmp_path / "models", overwrite=True)
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["x.json"]


@pytest.mark.parametrize("ref", ["two", "a/b/c", "a/b@", "https://x/y", "a b/c"])
def test_strange_places(ref: str) -> None:
    with pytest.raises(UsageError, match="expected OWNER/NAME"):
        hub_pull.pull(ref)


def test_a_public_name_means_its_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[hub.Place] = []

    def opened(place: hub.Place, *_: object) -> None:
        seen.append(place)
        raise InputNotFound("no network in this test")

    monkeypatch.setattr(hub_pull, "_opened", opened)
    with pytest.raises(InputNotFound, match="no network"):
        hub_pull.pull("sepformer-wham")
    assert seen == [hub.Place("speechbrain/sepformer-wham")]


def test_a_path_without_a_dot_does_not_reach_the_network(tmp_path: Path) -> None:
    (tmp_path / "models" / "two").mkdir(parents=True)
    for ref in ("models/two", "models/three"):
        with pytest.raises(UsageError, match=rf"write \./{ref} for the folder"):
            hub_pull.pull(ref)
    assert hub.place("models/two@main") == hub.Place("models/two")
    assert hub.place("./models/two").folder == Path("models/two")


@pytest.mark.parametrize(
    "settings", [{"file": "../x.safetensors"}, {"file": "/model.bin"}, {"sha256": "abc"}, {"name": "../x"}]
)
def test_strange_settings(settings: dict[str, str], tmp_path: Path) -> None:
    write(tmp_path / "repo" / hub.WEIGHTS)
    with pytest.raises(UsageError, match=f"--{next(iter(settings))}"):
        hub_pull.pull("./repo", **settings)


def test_missing_client_and_missing_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write(tmp_path / "toy.safetensors")
    with monkeypatch.context() as without:
        without.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(MissingDependency, match=r"usepcli\[hub\]"):
            hub_pull.pull("me/two")
    pytest.importorskip("huggingface_hub")
    with pytest.raises(UsageError, match="MY_TOKEN holds no token"):
        hub_push.push(str(model), "me/two", token_env="MY_TOKEN")


class Api:
    """What a push calls, written down."""

    calls: list[tuple[str, object]]
    there: list[SimpleNamespace]

    def __init__(self, token: str, library_name: str) -> None:
        Api.calls = [("token", token)]

    def create_repo(self, repo: str, private: bool, exist_ok: bool) -> None:
        Api.calls.append(("create", (repo, private, exist_ok)))

    def model_info(self, repo: str, files_metadata: bool) -> SimpleNamespace:
        return SimpleNamespace(siblings=Api.there)

    def upload_folder(self, repo_id: str, folder_path: str, commit_message: str) -> SimpleNamespace:
        Api.calls.append(("upload", sorted(os.listdir(folder_path))))
        return SimpleNamespace(oid=COMMIT)


def test_push_to_the_hub_is_one_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(library, "HfApi", Api)
    monkeypatch.setenv("MY_TOKEN", "secret")
    model = write(tmp_path / "toy.safetensors")
    Api.there = []
    done = hub_push.push(str(model), "me/two", private=True, token_env="MY_TOKEN")
    assert done["revision"] == COMMIT and "secret" not in json.dumps(done)
    assert Api.calls == [
        ("token", "secret"), ("create", ("me/two", True, True)), ("upload", ["README.md", "config.json", hub.WEIGHTS]),
    ]  # fmt: skip
    Api.there = [SimpleNamespace(rfilename=hub.WEIGHTS, lfs=SimpleNamespace(sha256="0" * 64))]
    with pytest.raises(OutputError, match="holds another"):
        hub_push.push(str(model), "me/two", token_env="MY_TOKEN")
    assert not [name for name, _ in Api.calls if name == "upload"]


class Hub(http.server.BaseHTTPRequestHandler):
    """One repository, me/two, with one file at one commit."""

    data = b""
    stated = ""
    file = hub.WEIGHTS
    more: dict[str, bytes]
    asked: list[str]

    def do_GET(self) -> None:
        self.answer(body=True)

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def answer(self, body: bool) -> None:
        Hub.asked.append(f"{self.command} {self.path}")
        path, headers, data = self.path.split("?")[0], {"X-Repo-Commit": COMMIT}, b"{}"
        lfs = {"sha256": Hub.stated, "size": len(Hub.data), "pointerSize": 130}
        status = 200
        if path in ("/api/models/me/two", "/api/models/me/two/revision/v1", f"/api/models/me/two/revision/{COMMIT}"):
            file = {"rfilename": Hub.file, "size": len(Hub.data), "blobId": "0" * 40, "lfs": lfs}
            others = [{"rfilename": n, "size": len(d), "blobId": "0" * 40} for n, d in Hub.more.items()]
            data = json.dumps(
                {"id": "me/two", "modelId": "me/two", "sha": COMMIT, "siblings": [file, *others]}
            ).encode()
        elif path == f"/me/two/resolve/{COMMIT}/{Hub.file}":
            headers["ETag"], data = f'"{Hub.stated}"', Hub.data
        elif (name := path.removeprefix(f"/me/two/resolve/{COMMIT}/")) in Hub.more:
            headers["ETag"], data = f'"{hashlib.sha1(Hub.more[name]).hexdigest()}"', Hub.more[name]
        else:
            status, headers["X-Error-Code"] = 404, "RepoNotFound"
        self.send_response(status)
        for key, value in (headers | {"Content-Length": str(len(data))}).items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a process whose Hub is here."""
    pytest.importorskip("huggingface_hub")
    Hub.data, Hub.asked = write(tmp_path / "source.safetensors").read_bytes(), []
    Hub.stated, Hub.file, Hub.more = hashlib.sha256(Hub.data).hexdigest(), hub.WEIGHTS, {}
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield {
        **os.environ, "HF_ENDPOINT": f"http://127.0.0.1:{made.server_address[1]}", "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "NO_PROXY": "127.0.0.1",
    }  # fmt: skip
    made.shutdown()
    made.server_close()


def usep(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "usepcli", *arguments], env=environ, capture_output=True, text=True)


def test_pull_from_a_server_pins_the_commit(server: dict[str, str], tmp_path: Path) -> None:
    done = usep(server, "pull", "me/two@v1", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["revision"], found["sha256"], found["name"]) == (COMMIT, Hub.stated, "two")
    assert hub.record(tmp_path / "cache/usep/models/two.safetensors")["revision"] == COMMIT
    assert [line for line in Hub.asked if "resolve" in line and COMMIT not in line] == []
    # What came is not what the Hub states: nothing is kept, in one line.
    Hub.stated = "1" * 64
    done = usep(server, "pull", "me/two", "--name", "other")
    assert (done.returncode, done.stderr.count("\n")) == (65, 1), done.stderr
    assert not (tmp_path / "cache/usep/models/other.safetensors").exists()


def test_repository_not_there_offline_and_no_server(server: dict[str, str]) -> None:
    done = usep(server, "pull", "me/none")
    assert (done.returncode, done.stderr.count("\n")) == (66, 1) and "me/none@main" in done.stderr, done.stderr
    Hub.asked.clear()
    done = usep(server | {"HF_HUB_OFFLINE": "1"}, "pull", "me/two")
    assert (done.returncode, done.stderr.count("\n"), Hub.asked) == (66, 1, []), done.stderr
    done = usep(server | {"HF_ENDPOINT": "http://127.0.0.1:9"}, "pull", "me/two")
    assert (done.returncode, done.stderr.count("\n")) == (74, 1), done.stderr


THEIRS = Path(__file__).parent / "foreign" / "convtasnet.pth"


def theirs(folder: Path) -> Path:
    """A repository as asteroid lays it out."""
    folder.mkdir()
    (folder / "pytorch_model.bin").write_bytes(THEIRS.read_bytes())
    (folder / "README.md").write_text("---\nlicense: cc-by-sa-4.0\n---\n# Toy\n")
    return folder


def test_a_repository_of_another_maker_becomes_a_model_of_usep(tmp_path: Path) -> None:
    theirs(tmp_path / "toy_net")
    said: list[str] = []
    got = hub_pull.pull("./toy_net", sha256=sha256(THEIRS), say=said.append)
    path = reach.find_model("toy_net")
    assert str(path) == got["path"] and got["sha256"] == sha256(path) and got["state"] == "new"
    card, _ = cards.read_card(path)
    assert card.licences == {"code": "MIT", "weights": "cc-by-sa-4.0"} and "CC BY-NC" in card.licence
    assert f"pytorch_model.bin sha256 {sha256(THEIRS)}" in card.origin and card.name == "toy_net"
    assert hub.record(path)["files"] == {"pytorch_model.bin": sha256(THEIRS)}
    assert len([line for line in said if "Not for commercial use" in line]) == 1
    assert hub_pull.pull("./toy_net", say=said.append)["state"] == "the same"
    assert sorted(p.name for p in reach.cache().iterdir()) == ["toy_net.json", "toy_net.safetensors"]
    (tmp_path / "only.pth").mkdir()
    (tmp_path / "only.pth" / "any_name.pth").write_bytes(THEIRS.read_bytes())
    assert hub_pull.pull("./only.pth", file="any_name.pth", name="b", say=said.append)["outputs"] == 2


def test_a_repository_of_nobody_known_or_of_another_sum_leaves_nothing(tmp_path: Path) -> None:
    theirs(tmp_path / "toy_net")
    with pytest.raises(BadInput, match=r"sha256 of pytorch_model\.bin is .* --sha256 says 0000"):
        hub_pull.pull("./toy_net", sha256="0" * 64)
    (tmp_path / "toy_net" / "pytorch_model.bin").unlink()
    (tmp_path / "toy_net" / "weights.bin").write_bytes(THEIRS.read_bytes())
    with pytest.raises(BadInput, match=r"2 files of no known maker \(README\.md, weights\.bin\); known are"):
        hub_pull.pull("./toy_net")
    with pytest.raises(InputNotFound, match="no such folder"):
        hub_pull.pull("./none")
    with pytest.raises(UsageError, match="states 8000 Hz"):
        hub_pull.pull("./toy_net", file="weights.bin", sample_rate=16000)
    assert list(reach.cache().glob("*")) == []


def test_a_repository_of_another_maker_on_the_hub(server: dict[str, str], tmp_path: Path) -> None:
    Hub.data, Hub.file = THEIRS.read_bytes(), "pytorch_model.bin"
    Hub.stated = sha256(THEIRS)
    done = usep(server, "pull", "me/two", "--json", "--licence-weights", "CC BY-SA 3.0")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["revision"], found["architecture"], found["files"]) == (
        COMMIT, "convtasnet", {"pytorch_model.bin": Hub.stated},
    )  # fmt: skip
    assert found["licences"]["weights"] == "CC BY-SA 3.0" and "me/two@main" in found["origin"] + done.stderr


def test_a_repository_of_several_files_fetches_those_that_it_needs(server: dict[str, str], tmp_path: Path) -> None:
    tools = runpy.run_path(str(Path(__file__).with_name("test_public.py")))
    facts = tools["told"]("sepformer")
    folder = tools["lay_out"](facts, tools["states"](facts), tmp_path / "theirs")
    held = {path.name: path.read_bytes() for path in folder.iterdir()}
    Hub.file, Hub.data = "masknet.ckpt", held.pop("masknet.ckpt")
    Hub.stated = hashlib.sha256(Hub.data).hexdigest()
    Hub.more = {**held, "README.md": b"---\nlicense: apache-2.0\n---\n", "example.wav": b"RIFF"}
    done = usep(server, "pull", "me/two", "--json", "--licence", "CC0-1.0")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert sorted(found["files"]) == ["decoder.ckpt", "encoder.ckpt", "masknet.ckpt"]
    assert (found["architecture"], found["licences"]["weights"]) == ("sepformer", "apache-2.0")
    assert not [line for line in Hub.asked if "example.wav" in line]
    done = usep(server, "pull", "me/two", "--sha256", Hub.stated, "--name", "other")
    assert done.returncode == 2 and "3 files of weights" in done.stderr
