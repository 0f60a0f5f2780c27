"""A base is looked at before it is downloaded: whether it is one, whether it may be read, and whether it fits."""

import hashlib
import json
import shutil

import huggingface_hub
import pytest
from huggingface_hub import HfApi
from starlette.responses import Response

from support.faults import faulty_hub
from toolkit.core.errors import EnvironmentLacks, HubError, InputError
from toolkit.core.recipe import load_recipe
from toolkit.hub.local.serve import running_hub
from toolkit.model import base as bases
from toolkit.model import memory as memories

GB = 10**9


class Hub:
    """A local Hub that remembers what it was asked, and answers in its own place where a test says how."""

    def __init__(self):
        self.asked = []
        self.answer = lambda request: None

    def hear(self, request):
        self.asked.append(request.url.path)
        return self.answer(request)

    def weights_asked(self):
        return [path for path in self.asked if path.endswith(".safetensors")]


@pytest.fixture
def heard():
    return Hub()


@pytest.fixture
def endpoint(tmp_path, heard, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with faulty_hub(tmp_path / "hub", heard.hear) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        yield url


@pytest.fixture
def base(endpoint, small_base, heard):
    """The small base on the Hub; gives its id."""
    push(endpoint, "owner/small", small_base)
    heard.asked.clear()
    return "owner/small"


def push(endpoint, repo_id, folder):
    HfApi(endpoint=endpoint).create_repo(repo_id, exist_ok=True)
    HfApi(endpoint=endpoint).upload_folder(repo_id=repo_id, folder_path=folder)


def put(endpoint, repo_id, files):
    HfApi(endpoint=endpoint).create_repo(repo_id)
    for name, content in files.items():
        HfApi(endpoint=endpoint).upload_file(
            repo_id=repo_id,
            path_in_repo=name,
            path_or_fileobj=content if isinstance(content, bytes) else content.encode(),
        )


def have(monkeypatch, memory=24 * GB, disk=500 * GB, gpu=None):
    """A machine with so much, whatever this one has."""
    compute, kind = ("bfloat16", "cuda") if gpu else ("float32", "cpu")
    monkeypatch.setattr(bases, "this_machine", lambda *_: memories.Machine(gpu, memory, compute, kind))
    monkeypatch.setattr(memories, "free_disk", lambda _: disk)


def test_a_base_is_downloaded_with_its_commit(base, endpoint):
    located = bases.locate_base(base)
    assert located.revision == HfApi(endpoint=endpoint).model_info(base).sha
    assert list(located.path.glob("*.safetensors"))


# What is no base.

CONFIG = '{"model_type": "gemma3_text"}'


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"adapter_config.json": "{}", "adapter_model.safetensors": b"0"}, "is an adapter, not a model"),
        (
            {"adapter_config.json": "{}", "README.md": "---\nbase_model: google/gemma-2b-it\n---\n"},
            r"is an adapter, not a model \(its base is google/gemma-2b-it\)",
        ),
        (
            {"config.json": CONFIG, "pytorch_model.bin": b"0"},
            r"as pickles only \(pytorch_model.bin\), which can run code",
        ),
        ({"model-q4.gguf": b"0", "notes.txt": "x"}, "as GGUF only"),
        ({"notes.txt": "x"}, "holds no weights"),
        ({"model.safetensors": b"0"}, r"has no config\.json"),
        ({"model.safetensors": b"0", "config.json": "3"}, r"config\.json of the base .* cannot be read"),
        (
            {"model.safetensors": b"0", "config.json": '{"model_type": "own", "auto_map": {}}'},
            "is of the kind 'own', which transformers .* has no language model for",
        ),
        (
            {
                "model.safetensors": b"0",
                "config.json": '{"model_type": "llama", "hidden_size": 1792, "num_attention_heads": 24}',
            },
            r"not accepted by transformers .*: The hidden size \(1792\) is not a multiple",
        ),
    ],
)
def test_what_is_no_base_is_refused_before_its_weights_are_downloaded(files, said, endpoint, heard):
    put(endpoint, "owner/thing", files)
    heard.asked.clear()
    with pytest.raises(InputError, match=said):
        bases.locate_base("owner/thing")
    assert not heard.weights_asked()


# Who may read it.


def gate(status, words):
    """What the public Hub answers for every file of a gated repository, which it describes to everybody."""

    def answer(request):
        if "/resolve/" not in request.url.path:
            return None
        return Response(status_code=status, headers={"X-Error-Code": "GatedRepo", "X-Error-Message": words})

    return answer


@pytest.mark.parametrize(
    ("status", "how"), [(401, "while logged in, then run `hf auth login`"), (403, "with the account of your token")]
)
def test_a_gated_base_asks_for_the_licence(base, heard, endpoint, status, how):
    heard.answer = gate(status, "Access to model owner/small is restricted.")
    with pytest.raises(EnvironmentLacks, match=f"is gated.*Accept its licence on {endpoint}/{base} {how}"):
        bases.locate_base(base)


def test_an_id_that_is_not_on_the_hub_is_said_to_be_unknown_there(endpoint):
    with pytest.raises(HubError, match=f"no/such does not exist on {endpoint}"):
        bases.locate_base("no/such")


def test_a_request_that_nobody_has_answered_yet_is_told_apart(base, heard, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_abcdefgh")
    heard.answer = gate(403, "Your request to access model owner/small is awaiting a review from the repo authors.")
    with pytest.raises(EnvironmentLacks, match="have not answered your request"):
        bases.locate_base(base)


def test_a_gate_says_nothing_to_who_has_the_base_already(base, heard):
    cached = bases.locate_base(base)
    heard.answer = gate(401, "Access to model owner/small is restricted.")
    assert bases.locate_base(base) == cached


def test_a_private_base_is_not_shown_to_others_but_to_its_owner(tmp_path, small_base, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with running_hub(tmp_path / "hub", tokens={"token-ash": "ash", "token-misty": "misty"}) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        ash = HfApi(endpoint=url, token="token-ash")
        ash.create_repo("ash/secret", private=True)
        ash.upload_folder(repo_id="ash/secret", folder_path=small_base)
        monkeypatch.setenv("HF_TOKEN", "token-misty")
        with pytest.raises(HubError, match="ash/secret does not exist"):
            bases.locate_base("ash/secret")
        monkeypatch.setenv("HF_TOKEN", "token-ash")
        assert bases.locate_base("ash/secret").id == "ash/secret"


# Without a network.


def test_a_cached_base_needs_no_network(base, monkeypatch):
    cached = bases.locate_base(base)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert bases.locate_base(base) == cached
    assert bases.locate_base(base, cached.revision) == cached


def test_a_cached_commit_is_not_even_asked_for(base, heard):
    cached = bases.locate_base(base)
    heard.asked.clear()
    assert bases.locate_base(base, cached.revision) == cached
    assert not heard.asked


def test_a_hub_that_is_down_leaves_the_cache(base, heard):
    cached = bases.locate_base(base)
    heard.answer = lambda _: Response(status_code=503)
    assert bases.locate_base(base) == cached


def test_without_network_and_cache_it_is_one_line(endpoint, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match="cannot be reached") as caught:
        bases.locate_base("owner/never-seen")
    assert "\n" not in str(caught.value)


def test_a_base_that_was_refused_does_not_pass_for_a_cached_one(base, endpoint, monkeypatch):
    have(monkeypatch, disk=1000)
    commit = HfApi(endpoint=endpoint).model_info(base).sha
    with pytest.raises(EnvironmentLacks):
        bases.locate_base(base, commit)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match="is not in the cache"):
        bases.locate_base(base, commit)


def test_half_a_base_in_the_cache_is_said_to_be_half(base, endpoint, heard, monkeypatch):
    huggingface_hub.hf_hub_download(base, "config.json", endpoint=endpoint)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match="only a part of the base owner/small is in the cache"):
        bases.locate_base(base)


# Whether it fits.


def test_too_little_disk_is_said_before_the_download(base, heard, monkeypatch):
    have(monkeypatch, disk=1000)
    with pytest.raises(
        EnvironmentLacks, match=r"download of the base .* takes .*, and .* has 1\.0 kB free.*HF_HUB_CACHE"
    ):
        bases.locate_base(base)
    assert not heard.weights_asked()


def test_what_is_cached_takes_no_more_disk(base, monkeypatch):
    cached = bases.locate_base(base)
    have(monkeypatch, disk=1000)
    assert bases.locate_base(base) == cached


@pytest.fixture
def large(endpoint, small_base, tmp_path, heard):
    """A base with the configuration of gemma-2b-it and weights that nobody needs to download."""
    folder = shutil.copytree(small_base, tmp_path / "large")
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_size": 2048, "intermediate_size": 16384, "num_hidden_layers": 18, "num_attention_heads": 8}
    config |= {"num_key_value_heads": 1, "head_dim": 256, "vocab_size": 256000, "layer_types": None}
    (folder / "config.json").write_text(json.dumps(config))
    push(endpoint, "owner/large", folder)
    heard.asked.clear()
    return "owner/large"


def test_too_little_memory_is_said_before_the_download_with_what_is_there_and_how_to_go_on(large, heard, monkeypatch):
    have(monkeypatch, memory=2 * GB)
    with pytest.raises(
        EnvironmentLacks, match=r"needs about 3\.7 GB of memory in NF4, and this machine has 2\.0 GB"
    ) as caught:
        bases.locate_base(large)
    assert "`base`" in str(caught.value)
    assert "pkt run demo" in str(caught.value)
    assert not heard.weights_asked()


def test_unquantised_a_base_needs_more(large, monkeypatch):
    have(monkeypatch, memory=8 * GB, gpu="Tesla T4")
    assert bases.locate_base(large)
    have(monkeypatch, memory=8 * GB)
    with pytest.raises(EnvironmentLacks, match="in float32, and this machine has 8"):
        bases.locate_base(large, quantization="none")


def test_a_base_that_can_be_loaded_but_not_trained_is_refused_for_training_only(large, monkeypatch):
    have(monkeypatch, memory=4 * GB)
    assert bases.locate_base(large)
    with pytest.raises(EnvironmentLacks, match=r"to be trained, and this machine has 4\.0 GB"):
        bases.locate_base(large, recipe=load_recipe("gemma-2b-t4"))


def test_only_without_a_gpu_it_is_said_how_long_training_takes_and_nothing_is_refused(large, monkeypatch):
    notes = []
    have(monkeypatch, memory=16 * GB, gpu="Tesla T4")
    bases.locate_base(large, recipe=load_recipe("seed-gemma-2b"), note=notes.append)
    assert not notes
    have(monkeypatch)
    # 2.5e9 parameters x 130,000 tokens x 4 operations are 1,300 s of 1e12 a second, and half of that is reached.
    monkeypatch.setattr("toolkit.model.kernels.matrix_speed", lambda *_: 1000)
    bases.locate_base(large, recipe=load_recipe("seed-gemma-2b"), note=notes.append)
    assert notes == ["There is no GPU: training on 1,000 examples takes this CPU about 43 min 27 s."]
    both_ways = load_recipe("seed-gemma-2b", {"training.way_back": 0.3})
    bases.locate_base(large, recipe=both_ways, note=notes.append)
    assert "1 h 26 min" in notes[1]


def test_a_file_in_the_cache_that_is_not_the_one_that_was_downloaded_is_named(tmp_path):
    content = b"weights"
    blob = tmp_path / "models--owner--base" / "blobs" / hashlib.sha256(content).hexdigest()
    snapshot = tmp_path / "models--owner--base" / "snapshots" / ("a" * 40)
    for folder in (blob.parent, snapshot):
        folder.mkdir(parents=True)
    blob.write_bytes(content)
    (snapshot / "model.safetensors").symlink_to(blob)
    located = bases.LocatedBase("owner/base", None, snapshot)
    assert bases.base_hash(located)
    blob.write_bytes(b"weighty")
    with pytest.raises(InputError, match=r"model\.safetensors of the base owner/base is damaged.*models--owner--base"):
        bases.base_hash(located)
