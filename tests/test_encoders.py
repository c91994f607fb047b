"""Item text and its vectors: what the text says, what the cache may be trusted with, which models load."""

import shutil

import numpy as np
import pytest
import torch
from tiny import tiny_bert
from torch_geometric.data import HeteroData

from catalograph.config import EncoderSection, load_config
from catalograph.encoders import quantised, transformer, weights
from catalograph.encoders.cache import VectorCache, text_digests
from catalograph.encoders.node_text import LONGEST, clean, compose
from catalograph.encoders.transformer import encode
from catalograph.errors import ArtifactError, ConfigError, MissingExtraError
from catalograph.kg.snapshot import IdMap, Snapshot

TEXTS = [
    "red wool scarf",
    "crimson woollen shawl",
    "cast iron frying pan",
    "a much longer text about garden gnomes",
    "",
]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A BERT of random weights, as a folder."""
    return tiny_bert(tmp_path_factory.mktemp("tiny-bert"), {w for t in TEXTS for w in t.split()}, layers=1, dim=16)


@pytest.fixture
def section(tiny):
    return EncoderSection(model=str(tiny))


@pytest.fixture
def no_model(monkeypatch):
    """Forbid loading: what is asked must come from the cache."""

    def refuse(*_):
        raise AssertionError("a model was loaded")

    return lambda: monkeypatch.setattr(transformer, "load_model", refuse)


def test_packaged_model_knows_what_is_alike(tmp_path):
    vectors = encode(TEXTS, EncoderSection(), cache=tmp_path)
    assert vectors.shape == (5, 384)
    assert vectors.dtype == np.float32
    scarf = vectors @ vectors[0]
    assert scarf[0] == pytest.approx(1, abs=1e-5)
    assert scarf[1] > 0.5 > scarf[2]
    assert not vectors[4].any()


def test_any_bert_loads_by_path_with_mean_pooling(section):
    from transformers import AutoModel, AutoTokenizer  # noqa: PLC0415

    tokens = AutoTokenizer.from_pretrained(section.model)(TEXTS[0], return_tensors="pt")
    with torch.no_grad():
        expected = AutoModel.from_pretrained(section.model)(**tokens).last_hidden_state.mean(1)[0].numpy()
    vectors = encode(TEXTS[:1], section, cache=None)
    np.testing.assert_allclose(vectors[0], expected / np.linalg.norm(expected), atol=1e-5)


def test_texts_longer_than_the_model_reads_are_cut(section):
    long = section.model_copy(update={"max_tokens": 512})
    assert encode(["red " * 200], long, cache=None).shape == (1, 16)


def test_order_of_texts_and_batches_do_not_matter(section):
    one_by_one = np.concatenate([encode([text], section, cache=None) for text in TEXTS[:4]])
    small = section.model_copy(update={"batch_size": 2})
    np.testing.assert_allclose(encode(TEXTS[3::-1], small, cache=None), one_by_one[::-1], atol=1e-5)


def test_batches_are_of_texts_equally_long_to_the_model(section):
    model = transformer.load_model(weights.resolve(section.model), section, "cpu")
    long, short = ["red mug " * 9] * 4, ["xylophonically" * 9] * 4  # one is many words, the other one unknown word
    read = []
    model.register_forward_pre_hook(lambda _, given: read.append(given[0]["input_ids"].shape))
    transformer.vectors_of(model, [text for pair in zip(long, short, strict=True) for text in pair], 4)
    assert [rows for rows, _ in read] == [4, 4]
    assert read[0][1] < read[1][1]


def test_a_folder_beside_the_data_is_an_encoder(section, tmp_path):
    (tmp_path / "shop.toml").write_text('[shop]\nname = "s"\n[items]\nfile = "i.csv"\n[encoder]\nmodel = "mine"\n')
    assert load_config(tmp_path / "shop.toml").encoder.model == "mine"  # may be a name of the hub
    shutil.copytree(section.model, tmp_path / "mine")
    assert load_config(tmp_path / "shop.toml").encoder.model == str(tmp_path / "mine")
    shutil.copytree(section.model, tmp_path / "packaged")
    (tmp_path / "shop.toml").write_text('[shop]\nname = "s"\n[items]\nfile = "i.csv"\n')
    assert load_config(tmp_path / "shop.toml").encoder.model == "packaged"  # a name of ours


def test_equal_runs_give_equal_vectors(section):
    assert np.array_equal(encode(TEXTS, section, cache=None), encode(TEXTS, section, cache=None))


def test_repeated_texts_are_encoded_once(section, monkeypatch):
    seen = []
    real = transformer.vectors_of
    monkeypatch.setattr(transformer, "vectors_of", lambda m, texts, *rest: seen.extend(texts) or real(m, texts, *rest))
    vectors = encode([TEXTS[0], TEXTS[2], TEXTS[0], " "], section, cache=None)
    assert sorted(seen) == sorted([TEXTS[0], TEXTS[2]])
    assert np.array_equal(vectors[0], vectors[2])


def test_known_texts_need_no_model(section, tmp_path, no_model):
    first = encode(TEXTS, section, cache=tmp_path)
    no_model()
    assert np.array_equal(encode(TEXTS[::-1], section, cache=tmp_path), first[::-1])


@pytest.mark.parametrize(
    "change",
    [{"max_tokens": 8}, {"model": "packaged"}, {"precision": "reduced"}, {"precision": "int8"}, {"keep_layers": 1}],
)
def test_another_encoder_has_another_cache(section, tmp_path, no_model, change):
    encode(TEXTS, section, cache=tmp_path)
    no_model()
    with pytest.raises(AssertionError, match="loaded"):
        encode(TEXTS, section.model_copy(update=change), cache=tmp_path)


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_damaged_shard_is_computed_again(section, tmp_path, damage):
    first = encode(TEXTS, section, cache=tmp_path)
    (shard,) = tmp_path.rglob("*.safetensors")
    content = bytearray(shard.read_bytes())
    if damage == "cut":
        del content[-10:]
    else:
        content[-1] ^= 0x55
    shard.write_bytes(content)
    assert VectorCache(shard.parent).get(text_digests(TEXTS[:1])[0]) is None
    assert np.array_equal(encode(TEXTS, section, cache=tmp_path), first)


def test_reduced_precision_is_close_and_fewer_layers_are_another_model():
    whole, reduced, fewer = (
        encode(TEXTS[:4], EncoderSection(**change), cache=None)
        for change in ({}, {"precision": "reduced"}, {"keep_layers": 3})
    )
    assert reduced.dtype == np.float32
    assert (whole * reduced).sum(1) == pytest.approx(1, abs=1e-3)
    assert np.linalg.norm(reduced, axis=1) == pytest.approx(1, abs=1e-5)
    assert (whole * fewer).sum(1).max() < 0.95


def test_integers_say_nearly_the_same_in_a_quarter_of_the_room(tmp_path):
    whole, small = (encode(TEXTS, EncoderSection(precision=p), cache=tmp_path, device="cpu") for p in ("full", "int8"))
    assert (whole * small).sum(1)[:4] == pytest.approx(1, abs=0.02)
    assert not np.array_equal(whole, small)
    assert np.linalg.norm(small, axis=1)[:4] == pytest.approx(1, abs=1e-5)
    (kept,) = tmp_path.rglob("int8.onnx")
    assert kept.stat().st_size < 23 * 2**20  # 22.7 million weights


def test_integers_are_made_once_for_encoding_and_for_scoring(section, tmp_path, monkeypatch):
    small = section.model_copy(update={"precision": "int8"})
    first = encode(TEXTS[:4], small, cache=tmp_path)
    monkeypatch.setattr(quantised, "_made", lambda *_: pytest.fail("made again"))
    model = transformer.open_encoder(small, tmp_path)
    np.testing.assert_allclose(transformer.encode_with(model, small, TEXTS[:4]), first, atol=1e-6)
    one_by_one = np.concatenate([transformer.encode_with(model, small, [text]) for text in TEXTS[:4]])
    assert (one_by_one * first).sum(1) == pytest.approx(1, abs=0.01)


def test_damaged_integers_are_one_line(section, tmp_path):
    small = section.model_copy(update={"precision": "int8"})
    encode(TEXTS[:1], small, cache=tmp_path)
    (kept,) = tmp_path.rglob("int8.onnx")
    kept.write_bytes(kept.read_bytes()[:-1_000])
    with pytest.raises(ArtifactError, match=r"int8.onnx: damaged .*delete it"):
        encode(TEXTS[1:2], small, cache=tmp_path)


def test_a_model_that_is_no_bert_is_one_line(section, monkeypatch):
    monkeypatch.setattr(quantised, "_made", lambda *_: (_ for _ in ()).throw(RuntimeError("no operator\nof the kind")))
    with pytest.raises(ConfigError, match=r"does not fit this model \(no operator\); say 'full'"):
        encode(TEXTS[:1], section.model_copy(update={"precision": "int8"}), cache=None)


def test_integers_are_for_one_process(section, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="is for one process"):
        encode(TEXTS[:1], section.model_copy(update={"precision": "int8"}), cache=None)


def test_integers_without_their_library_name_the_extra(section, monkeypatch):
    monkeypatch.setattr(quantised, "find_spec", lambda name: None if name == "onnxscript" else object())
    with pytest.raises(MissingExtraError, match=r"needs onnxscript: pip install 'catalograph\[int8\]'"):
        encode(TEXTS[:1], section.model_copy(update={"precision": "int8"}), cache=None)


def test_more_layers_than_there_are_is_one_line(section):
    with pytest.raises(ConfigError, match="keep_layers = 2, and the model has 1 layers"):
        encode(TEXTS[:1], section.model_copy(update={"keep_layers": 2}), cache=None)


def test_nothing_but_empty_texts(section, tmp_path, no_model):
    no_model()
    assert not encode(["", "  "], section, cache=tmp_path).any()
    assert encode([], section, cache=tmp_path).shape[0] == 0


def test_stdout_stays_clean(section, capfd):
    encode(TEXTS, section, cache=None, progress=True)
    assert capfd.readouterr().out == ""


def test_wrong_packaged_weights_are_refused(monkeypatch):
    assert weights.resolve("packaged").digest == weights.PACKAGED_SHA256
    monkeypatch.setattr(weights, "PACKAGED_SHA256", "0" * 64)
    with pytest.raises(ArtifactError, match="reinstall"):
        weights.resolve("packaged")


def test_digest_of_a_folder_follows_its_weights(tmp_path):
    folders = [tmp_path / name for name in ("a", "b", "c")]
    for folder, content in zip(folders, (b"1", b"1", b"2"), strict=True):
        folder.mkdir()
        (folder / "config.json").write_bytes(b"{}")
        (folder / "model.safetensors").write_bytes(content)
    one, same, other = (weights.resolve(str(folder)).digest for folder in folders)
    assert one == same != other


@pytest.mark.parametrize("name", ["./no/such/folder", "/nowhere", "two words"])
def test_what_can_be_no_model_is_refused_at_once(name):
    with pytest.raises(ConfigError, match="no such folder") as caught:
        weights.resolve(name)
    assert "\n" not in str(caught.value)


def test_unreachable_hub_name_is_one_line(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ConfigError, match="cannot be loaded") as caught:
        encode(["x"], EncoderSection(model="no-such-owner/no-such-model"), cache=None)
    assert "\n" not in str(caught.value)


def test_folder_without_a_model_is_one_line(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="cannot be loaded") as caught:
        encode(["x"], EncoderSection(model=str(tmp_path)), cache=None)
    assert "\n" not in str(caught.value)


@pytest.fixture
def snapshot():
    data = HeteroData()
    data["Item"].num_nodes = 3
    data["Item"].title = ["Mug", "", "Lamp"]
    data["Item"].price = torch.tensor([1.0, 2.0, 3.0])
    data["Brand"].num_nodes = 5
    data["Brand"].name = ["Acme", "Best", "", "Dune", "Echo"]
    data["Tag"].num_nodes = 2
    data["Item", "MADE_BY", "Brand"].edge_index = torch.tensor([[0, 0, 0, 0, 2], [0, 1, 2, 3, 4]])
    data["Item", "HAS", "Tag"].edge_index = torch.tensor([[0, 1], [1, 0]])
    ids = {"Item": IdMap("Item", "abc"), "Brand": IdMap("Brand", "ABCDE"), "Tag": IdMap("Tag", ["cheap", "dear"])}
    return Snapshot(data, ids, "")


def test_text_of_nodes(snapshot):
    assert compose(snapshot, "Item", ("title", "MADE_BY", "HAS")) == [
        "Mug | Acme, Best, C | dear",
        "cheap",
        "Lamp | Echo",
    ]
    assert compose(snapshot, "Item", ()) == ["", "", ""]


@pytest.mark.parametrize(("field", "message"), [("titel", "did you mean 'title'"), ("price", "no text of Item")])
def test_text_of_something_else_is_refused(snapshot, field, message):
    with pytest.raises(ConfigError, match=message):
        compose(snapshot, "Item", (field,))


@pytest.mark.parametrize(
    ("raw", "read"),
    [
        ("<STYLE type='a'>p { color: red }</style >Red<!-- new > old --> mug<script>f(1 < 2)", "Red mug"),
        ("<p>Tea &amp; <b>cake</b><br/>£3.50</p>", "Tea & cake £3.50"),
        ("size < 5 cm and > 2", "size < 5 cm and > 2"),
        ("a\x00b\tc\n\x1b[31md", "a b c [31md"),
        ("Ｔea", "Ｔea"),
        ("Cafe\u0301", "Café"),
        ("赤いマグ 🫖 чашка", "赤いマグ 🫖 чашка"),
        ("\ud800 lone", "lone"),
        (" \n ", ""),
        ("", ""),
    ],
)
def test_text_is_read_as_a_person_reads_it(raw, read):
    assert clean(raw) == read


def test_long_and_strange_texts_are_encoded(section):
    texts = ["word " * 10_000, "赤いマグ 🫖", "\x00\x1b", "<div>" * 5_000, "3,50 € / 12 oz"]
    assert all(len(clean(text)) <= LONGEST for text in texts)
    vectors = encode([clean(text) for text in texts], section, cache=None)
    lengths = np.linalg.norm(vectors, axis=1)
    assert np.isfinite(vectors).all()
    assert lengths[[0, 1, 4]] == pytest.approx(1, abs=1e-5)
