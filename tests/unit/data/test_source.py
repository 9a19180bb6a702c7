from __future__ import annotations

import json
import pickle
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

import vjepa_exp.data.source as source_module
from vjepa_exp.data.index import index
from vjepa_exp.data.manifest import Manifest, read_entries, write_manifest
from vjepa_exp.data.readers import Frames, FramesTHWC, Reader, decode
from vjepa_exp.data.source import EvalSource, PretrainSource
from vjepa_exp.spec.augment import Augment, AutoAugment, ColorJitter, CropFlip, NoAugment, RandAugment, RandomErasing
from vjepa_exp.spec.data import ClipSpec, DataSpec, MixtureEntry
from vjepa_exp.spec.errors import UserError

CLIP = ClipSpec(num_frames=4, frame_step=2, resolution=16)
EVERYTHING = CropFlip(policy=RandAugment(), jitter=ColorJitter(), erasing=RandomErasing(probability=0.6))


@pytest.fixture(scope="module")
def manifest(video_folder: Path) -> Manifest:
    return index(video_folder)


def pretrain(manifest: Manifest, seed: int = 1, augment: Augment | None = None) -> PretrainSource:
    data = DataSpec(mixture=(MixtureEntry(dataset="a"),), clip=CLIP, augment=augment or CropFlip())
    return PretrainSource([(manifest, None)], data, seed)


def evaluation(manifest: Manifest, **changes: object) -> EvalSource:
    settings = {"clip": CLIP, "clips": 1, "views": 1, "augment": NoAugment(), "seed": 1, "shuffle": False, **changes}
    return EvalSource(manifest, "val", **settings)  # type: ignore[arg-type]


def test_a_pretraining_batch_has_its_columns(manifest: Manifest) -> None:
    batch = pretrain(manifest).load(np.arange(5, 9))
    assert batch["position"].tolist() == [5, 6, 7, 8]
    assert batch["clips"].shape == (4, 1, 4, 16, 16, 3)
    assert batch["clips"].dtype == np.uint8
    assert batch["label"].dtype == batch["position"].dtype == np.int64
    assert batch["erased"].shape == (4, 1, 4)
    assert not batch["erased"].any()
    assert {batch[name].dtype.kind for name in ("path", "error", "skipped")} == {"U"}
    assert batch["error"].tolist() == batch["skipped"].tolist() == [""] * 4
    assert (batch["clips"].reshape(4, -1).max(axis=1) > 0).all()


def test_a_position_holds_the_same_clip_in_any_company_and_process(manifest: Manifest) -> None:
    for augment in (CropFlip(), EVERYTHING):
        together = pretrain(manifest, augment=augment).load(np.arange(24))
        copy = pickle.loads(pickle.dumps(pretrain(manifest, augment=augment)))
        for position in (23, 0, 11):
            alone = copy.load(np.array([position]))
            for name in ("clips", "erased", "path"):
                assert np.array_equal(alone[name][0], together[name][position])


def test_seeds_change_order_and_augmentation(manifest: Manifest) -> None:
    one, other = pretrain(manifest, seed=1), pretrain(manifest, seed=2)
    positions = np.arange(24)
    assert one.load(positions)["path"].tolist() != other.load(positions)["path"].tolist()
    assert one.fingerprint != other.fingerprint
    epochs = one.load(np.arange(18))  # 6 readable files: each comes thrice, cut in another way each time
    for path in set(epochs["path"].tolist()):
        clips = epochs["clips"][epochs["path"] == path]
        assert len(clips) == 3
        assert len({clip.tobytes() for clip in clips}) == 3


def test_pretraining_leaves_out_files_known_to_be_bad_and_names_them(manifest: Manifest, video_folder: Path) -> None:
    source = pretrain(manifest)
    (bad,) = source.unreadable
    assert (bad["dataset"], bad["path"]) == ("a", str(video_folder / "train/up/broken.mp4"))
    assert bad["reason"].partition(":")[0] in ("open", "corrupt", "no_video")
    paths = source.load(np.arange(12))["path"].tolist()
    assert all("/train/" in path and "broken" not in path for path in paths)
    assert len(set(paths)) == 6


def broken_later(video_folder: Path, tmp_path: Path, bad: Callable[[Path], bool]) -> Manifest:
    """The manifest of files of which some were damaged after they were indexed."""
    files = sorted(video_folder.rglob("[0-9].mp4"))
    for file in files:
        copy = tmp_path / file.relative_to(video_folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    manifest = index(tmp_path)
    for file in files:
        if bad(file):
            (tmp_path / file.relative_to(video_folder)).write_bytes(b"damaged")
    return manifest


def test_pretraining_replaces_a_bad_file_always_by_the_same_and_says_so(video_folder: Path, tmp_path: Path) -> None:
    manifest = broken_later(video_folder, tmp_path, lambda file: file.name == "0.mp4")
    batch = pretrain(manifest).load(np.arange(12))
    assert batch["error"].tolist() == [""] * 12
    assert not any(path.endswith("0.mp4") for path in batch["path"].tolist())
    skipped = [json.loads(text) for text in batch["skipped"].tolist() if text]
    assert {(one["dataset"], Path(one["path"]).name) for bad in skipped for one in bad} == {("a", "0.mp4")}
    assert all(one["reason"].startswith("open") for bad in skipped for one in bad)
    read = [manifest.subset("train").entry(row).path for row in batch["sample"].tolist()]
    assert read == batch["path"].tolist()
    again = pretrain(manifest).load(np.array([7]))
    assert (again["clips"][0] == batch["clips"][7]).all()
    assert again["skipped"][0] == batch["skipped"][7]


def test_pretraining_gives_up_on_a_position_where_nothing_can_be_read(video_folder: Path, tmp_path: Path) -> None:
    batch = pretrain(broken_later(video_folder, tmp_path, lambda _: True)).load(np.arange(2))
    assert all(error.startswith("open") for error in batch["error"].tolist())
    assert not batch["clips"].any()


def test_evaluation_covers_every_file_once_and_replaces_none(manifest: Manifest) -> None:
    source = evaluation(manifest)
    assert len(source) == 5
    batch = source.load(np.arange(5))
    names = [Path(path).name for path in batch["path"].tolist()]
    assert sorted(names) == ["0.mp4", "0.mp4", "1.mp4", "1.mp4", "broken.mp4"]
    bad = names.index("broken.mp4")
    assert "Invalid data" in batch["error"][bad]
    assert not batch["clips"][bad].any()
    assert [i for i, error in enumerate(batch["error"].tolist()) if not error] == [i for i in range(5) if i != bad]
    assert batch["label"].tolist() == manifest.subset("val").column("label").tolist()
    assert (source.load(np.arange(5, 10))["clips"] == batch["clips"]).all()  # nothing random in the test


def test_shuffled_epochs_hold_every_file_in_another_order(manifest: Manifest) -> None:
    source = evaluation(manifest, shuffle=True)
    epochs = [source.load(np.arange(5 * epoch, 5 * epoch + 5))["path"].tolist() for epoch in range(4)]
    assert len({tuple(sorted(epoch)) for epoch in epochs}) == 1
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_segments_and_views_stand_segment_by_segment(make_video, tmp_path: Path) -> None:
    make_video(tmp_path / "val" / "a" / "v.mp4", frames=40, width=64, height=32)
    source = evaluation(index(tmp_path), clips=3, views=2)
    clips = source.load(np.arange(1))["clips"]
    assert clips.shape == (1, 6, 4, 16, 16, 3)
    segments = clips[0].reshape(3, 2, 4, 16, 16, 3)
    right = segments[:, 1, :, :, 8:].mean(axis=(1, 2, 3, 4))
    assert (np.diff(right) > 20).all()  # frames brighten with time
    assert (segments[:, 0, :, :, :4] > 200).all()  # the bright edge is in the left view
    assert (segments[:, 1, :, :, :4] < 200).all()


def image(path: Path, seed: int = 0) -> Path:
    """A picture of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("augment", [NoAugment(), CropFlip(interpolation="bicubic", policy=AutoAugment())])
def test_of_an_image_one_frame_travels_and_beside_videos_all_of_them(
    make_video, tmp_path: Path, augment: Augment
) -> None:
    image(tmp_path / "val" / "a" / "x.png")
    alone = evaluation(index(tmp_path), augment=augment, clips=2)
    make_video(tmp_path / "val" / "b" / "v.mp4")
    mixed = evaluation(index(tmp_path), augment=augment, clips=2)
    frame, clips = alone.load(np.arange(1))["clips"], mixed.load(np.arange(2))["clips"]
    assert (frame.shape, clips.shape) == ((1, 2, 1, 16, 16, 3), (2, 2, 4, 16, 16, 3))
    assert (alone.row_bytes, mixed.row_bytes) == (2 * 16 * 16 * 3, 2 * 4 * 16 * 16 * 3)
    assert frame.std() > 5
    assert (clips[0] == frame[0]).all()  # the same picture, four times
    assert (clips[1, 0, 0] != clips[1, 0, -1]).any()


def test_a_pretraining_mixture_is_still_only_if_every_set_is(make_video, tmp_path: Path) -> None:
    image(tmp_path / "images" / "train" / "a" / "x.png")
    make_video(tmp_path / "videos" / "train" / "a" / "v.mp4")
    images, videos = index(tmp_path / "images"), index(tmp_path / "videos")
    data = DataSpec(mixture=(MixtureEntry(dataset="a"), MixtureEntry(dataset="b")), clip=CLIP)
    assert PretrainSource([(images, None), (videos, None)], data, 0).load(np.arange(2))["clips"].shape[2] == 4
    assert PretrainSource([(images, None), (images, None)], data, 0).load(np.arange(2))["clips"].shape[2] == 1


def test_erased_boxes_travel_beside_untouched_frames(manifest: Manifest) -> None:
    always = CropFlip(erasing=RandomErasing(probability=1.0))
    batch = evaluation(manifest, augment=always, clips=2).load(np.arange(5))
    good = batch["error"] == ""
    assert batch["erased"].shape == (5, 2, 4)
    assert (batch["erased"][good][..., 2:] > 0).all()
    assert not batch["erased"][~good].any()
    assert (batch["erased"][good][:, 0] != batch["erased"][good][:, 1]).any()  # each segment has a box of its own
    plain = evaluation(manifest, augment=CropFlip()).load(np.arange(5))["clips"]
    assert (evaluation(manifest, augment=always).load(np.arange(5))["clips"] == plain).all()


def test_frames_by_time_skip_more_of_a_faster_video(make_video, tmp_path: Path) -> None:
    for rate in (10, 30):
        make_video(tmp_path / "val" / "a" / f"{rate}.mp4", frames=40, rate=rate)
    fast, slow = (
        evaluation(index(tmp_path), clip=ClipSpec(num_frames=3, fps=fps, resolution=16)).load(np.arange(2))["clips"]
        for fps in (10.0, 5.0)
    )
    steps = [np.diff(clips[:, 0, :, :, 8:].mean(axis=(2, 3, 4)), axis=1) for clips in (fast, slow)]
    # Brightness grows by 4 a frame: at 10 a second a clip takes every frame of one file, every third of the other.
    assert np.abs(steps[0] - 4 * np.array([[1], [3]])).max() < 2
    assert np.abs(steps[1] - 4 * np.array([[2], [6]])).max() < 2


def test_frames_by_time_need_the_rate_of_every_video(manifest: Manifest) -> None:
    rows = [{**row, "fps": 0.0 if row["path"].endswith("1.mp4") else row["fps"]} for row in manifest.table.to_pylist()]
    unrated = Manifest.from_rows(rows, manifest.root, manifest.classes)
    clip = ClipSpec(num_frames=4, fps=5.0, resolution=16)
    with pytest.raises(UserError, match=r"has 2 videos of unknown frame rate, such as .*1\.mp4: give the clip a frame"):
        evaluation(unrated, clip=clip)
    with pytest.raises(UserError, match="data set 'a' has 2 videos of unknown frame rate"):
        PretrainSource([(unrated, None)], DataSpec(mixture=(MixtureEntry(dataset="a"),), clip=clip), 0)
    assert evaluation(unrated).fingerprint == evaluation(manifest).fingerprint  # frame_step does not look at it
    other = Manifest.from_rows([{**row, "fps": 12.0} for row in rows], manifest.root, manifest.classes)
    assert evaluation(other, clip=clip).fingerprint != evaluation(manifest, clip=clip).fingerprint


def test_a_decoder_that_hangs_costs_one_deadline(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    release, waits = threading.Event(), []

    def hang(path: str, *_: object) -> None:
        waits.append(path)
        release.wait(60)

    monkeypatch.setattr(source_module, "decode", hang)
    monkeypatch.setattr(source_module, "_DEADLINE_S", 0.1)
    monkeypatch.setattr(source_module, "_hung", {})
    source = evaluation(manifest)
    for _ in range(2):
        errors = source.load(np.arange(5))["error"].tolist()
        assert sum(error.startswith("timeout") for error in errors) == 4
    assert len(waits) == 4
    release.set()


def test_a_file_that_hung_is_still_read_where_less_of_it_is_wanted(
    make_video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_video(tmp_path / "val" / "a" / "v.mp4", frames=40)
    release, asked = threading.Event(), list[int]()

    def slow(path: str, frames: Frames, reader: Reader) -> FramesTHWC:
        asked.append(int(frames[-1]))
        if frames[-1] > 20:
            release.wait(60)
        return decode(path, frames, reader)

    manifest = index(tmp_path)
    short, middle, long = (
        evaluation(manifest, clip=ClipSpec(num_frames=frames, frame_step=1, resolution=16)) for frames in (2, 24, 36)
    )
    fresh = short.load(np.arange(1))["clips"]
    monkeypatch.setattr(source_module, "decode", slow)
    monkeypatch.setattr(source_module, "_DEADLINE_S", 0.3)
    monkeypatch.setattr(source_module, "_hung", {})
    assert [long.load(np.arange(1))["error"][0].partition(":")[0] for _ in range(2)] == ["timeout"] * 2
    assert len(asked) == 1, "as much is not waited for again"
    with monkeypatch.context() as patient:
        patient.setattr(source_module, "_DEADLINE_S", 60.0)
        assert (short.load(np.arange(1))["clips"] == fresh).all()
    assert [middle.load(np.arange(1))["error"][0].partition(":")[0] for _ in range(2)] == ["timeout"] * 2
    assert len(asked) == 3, "less than what hung is tried, once"
    assert not long.load(np.arange(1))["clips"].any()
    assert len(asked) == 3
    release.set()


def test_what_decides_the_clips_is_in_the_fingerprint(manifest: Manifest, video_folder: Path) -> None:
    base = evaluation(manifest).fingerprint
    assert base == evaluation(index(video_folder)).fingerprint
    changes = [{"clips": 2}, {"views": 3}, {"seed": 2}, {"shuffle": True}, {"clip": ClipSpec(resolution=32)}]
    assert len({base, *(evaluation(manifest, **change).fingerprint for change in changes)}) == 6
    crop = CropFlip()
    augments = [
        crop,
        crop.model_copy(update={"interpolation": "bicubic"}),
        crop.model_copy(update={"policy": RandAugment()}),
        crop.model_copy(update={"policy": RandAugment(magnitude=5.0)}),
        crop.model_copy(update={"policy": AutoAugment()}),
        crop.model_copy(update={"jitter": ColorJitter()}),
        crop.model_copy(update={"erasing": RandomErasing()}),
    ]
    assert len({evaluation(manifest, augment=augment).fingerprint for augment in augments}) == 7
    fewer = manifest.take(np.arange(1, len(manifest)))
    assert pretrain(manifest).fingerprint != pretrain(fewer).fingerprint
    assert pretrain(manifest).fingerprint != pretrain(manifest, augment=NoAugment()).fingerprint


def test_who_reads_changes_neither_clips_nor_fingerprint(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[str] = []

    def watched(path: str, frames: Frames, reader: Reader) -> FramesTHWC:
        used.append(reader)
        return decode(path, frames, reader)

    monkeypatch.setattr(source_module, "decode", watched)
    data = DataSpec(mixture=(MixtureEntry(dataset="a"),), clip=CLIP)
    sources = [PretrainSource([(manifest, None)], data, 1, reader) for reader in ("pyav", "decord")]
    clips = [source.load(np.arange(8))["clips"] for source in sources]
    assert used == ["pyav"] * 8 + ["decord"] * 8
    assert (clips[0] == clips[1]).all()
    fewer = manifest.table.set_column(
        manifest.table.schema.get_field_index("readers"),
        "readers",
        pa.array(["pyav"] * len(manifest)).dictionary_encode(),
    )
    elsewhere = Manifest(fewer, manifest.root, manifest.classes)
    assert len({*(source.fingerprint for source in sources), pretrain(elsewhere).fingerprint}) == 1
    tests = [evaluation(part, reader=reader) for part in (manifest, elsewhere) for reader in ("auto", "decord")]
    assert len({source.fingerprint for source in tests}) == 1


def test_an_image_is_another_content_than_a_video(manifest: Manifest) -> None:
    images = manifest.table.set_column(
        manifest.table.schema.get_field_index("readers"),
        "readers",
        pa.array(["image"] * len(manifest)).dictionary_encode(),
    )
    other = Manifest(images, manifest.root, manifest.classes)
    assert pretrain(other).fingerprint != pretrain(manifest).fingerprint


def test_a_manifest_that_was_written_and_read_serves_the_same_clips(manifest: Manifest, tmp_path: Path) -> None:
    write_manifest(manifest, tmp_path / "m.parquet")
    again = pretrain(read_entries(tmp_path / "m.parquet", "train"))
    whole = pretrain(manifest)
    assert again.fingerprint == whole.fingerprint
    assert again.unreadable == whole.unreadable
    assert again.num_videos == whole.num_videos == 7
    assert again.load(np.arange(6))["path"].tolist() == whole.load(np.arange(6))["path"].tolist()
    positions = np.arange(3, 9)
    assert [entry.path for entry in again.entries(positions)] == whole.load(positions)["path"].tolist()


def test_sets_that_cannot_serve_are_refused(manifest: Manifest, video_folder: Path) -> None:
    only_train = index(video_folder / "train")
    with pytest.raises(UserError, match="no file in its val split"):
        evaluation(only_train)
    with pytest.raises(UserError, match="data set 'a' has no readable file"):
        pretrain(manifest.subset("val"))
    unlabelled = index(video_folder / "train" / "down")
    with pytest.raises(UserError, match="without a label"):
        EvalSource(unlabelled, "train", clip=CLIP, clips=1, views=1, augment=NoAugment(), seed=0, shuffle=False)
    assert len(pretrain(unlabelled).load(np.arange(2))["clips"]) == 2


def test_a_weighted_mixture_takes_from_both_sets(manifest: Manifest) -> None:
    data = DataSpec(mixture=(MixtureEntry(dataset="a", weight=3.0), MixtureEntry(dataset="b", weight=1.0)), clip=CLIP)
    up = manifest.take(np.flatnonzero(manifest.column("label") == 1))
    down = manifest.take(np.flatnonzero(manifest.column("label") == 0))
    labels = PretrainSource([(up, 3.0), (down, 1.0)], data, seed=0).load(np.arange(80))["label"]
    assert 0.6 < labels.mean() < 0.9


def test_the_real_clips(shared_dir: Path) -> None:
    videos = shared_dir / "videos"
    manifest = index(videos / "lists/weizmann_val.csv", root=videos)
    source = EvalSource(
        manifest, "train", clip=ClipSpec(resolution=32), clips=2, views=3, augment=NoAugment(), seed=0, shuffle=False
    )
    batch = source.load(np.arange(0, 30, 6))
    assert batch["error"].tolist() == [""] * 5
    assert batch["clips"].shape == (5, 6, 16, 32, 32, 3)
    assert (batch["clips"].reshape(5, 6, -1).std(axis=2) > 5).all()
