"""The command line: what it prints, its exit codes, and one clear line for a user's mistake."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from vjepa_exp.cli import main

TABLE4 = "experiments/table4_masking.yaml"


@dataclass(frozen=True)
class Outcome:
    """What one call left."""

    code: int
    out: str
    err: str


@pytest.fixture
def call(
    repo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    shutil.copytree(repo_root / "experiments", tmp_path / "experiments")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")

    def _call(*arguments: str) -> Outcome:
        with pytest.raises(SystemExit) as stopped:
            main(list(arguments))
        code = stopped.value.code
        captured = capsys.readouterr()
        return Outcome(code if isinstance(code, int) else 0, captured.out, captured.err)

    return _call


@pytest.fixture
def video_folder(tmp_path: Path) -> Path:
    """Ten videos in two classes and a file that is none, in each of two splits."""
    import av
    import numpy as np

    for number in range(10):
        path = tmp_path / "videos" / ("train" if number < 6 else "val") / ("up", "down")[number % 2] / f"{number}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for i in range(12):
                pixels = np.full((48, 64, 3), 4 * i + number, dtype=np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode())
    for split in ("train", "val"):
        (tmp_path / "videos" / split / "up" / "broken.mp4").write_bytes(b"not a video" * 300)
    return tmp_path / "videos"


def refused(outcome: Outcome, *words: str) -> None:
    """One line per problem, exit 2, no traceback, nothing of a result."""
    assert outcome.code == 2, outcome
    assert "Traceback" not in outcome.err
    assert outcome.err.startswith("error: ")
    for word in words:
        assert word in outcome.err


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_validate_names_every_profile(call) -> None:
    outcome = call("validate", TABLE4, "experiments/profiles/laptop.yaml")
    assert outcome.code == 0
    assert "paper, laptop, gpu, smoke" in outcome.out
    assert "(profile)" in outcome.out


def test_validate_prints_the_problems_of_all_files_and_the_files_that_are_fine(call, tmp_path: Path) -> None:
    edit(tmp_path / "experiments/fragments/table8_pretraining.yaml", "iterations: 90000", "itertions: 90000")
    edit(tmp_path / "experiments/profiles/gpu.yaml", "workers: 1", "workers: one")
    outcome = call("validate", TABLE4, "experiments/quickstart.yaml")
    refused(outcome, "fragments/table8_pretraining.yaml:", "Did you mean 'iterations'?", "profiles/gpu.yaml:", '"one"')
    assert outcome.out.startswith("OK experiments/quickstart.yaml")
    lines = outcome.err.splitlines()
    assert len(lines) == len(set(lines)), "a problem is printed once, not once per profile"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--set", "recipe.pretrain.optim.itertions=5"], ["--set", "Did you mean 'iterations'?"]),
        (["--set", "recipe.pretrain.optim.iterations=many"], ["many", "integer"]),
        (["--set", "recipe.pretrain.optim"], ["a.b=value"]),
        (
            ["--set", "recipe.pretrain.data.clip.resolution=50"],
            ["resolution=50: 50 is not divisible by model.patch_size 8"],
        ),
        (
            ["--set", "recipe.pretrain.masks=[{kind: multi_block, num_blocks: 1, spatial_scale: [1.0, 1.5]}]"],
            ["spatial_scale", "1.5"],
        ),
        (
            ["--set", "recipe.pretrain.masks.0.spatial_scale=[1.0, 1.0]"],
            ["1.0 lets a block cover the whole clip of 4x6x6 tokens"],
        ),
        (["--profile", "labtop"], ["no profile 'labtop'", "Did you mean 'laptop'?"]),
        (["--set", "recipe.pretrain.data.mixture=[{dataset: mine}]"], ["'mine'", "vjepa-exp data index"]),
        (["--profile", "paper"], ["'k710'", "'ssv2'", "'k400'", "'in1k'", "Register it"]),
    ],
)
def test_bad_input_is_refused_before_anything_is_made(
    call, tmp_path: Path, options: list[str], words: list[str]
) -> None:
    refused(call("run", TABLE4, *options), *words)
    assert not (tmp_path / "runs").exists()


def test_unknown_spec_lists_the_known_ones(call) -> None:
    refused(call("run", "tabel4.yaml"), "no such file", "table4_masking")


def test_unknown_command_and_option_are_bad_input(call) -> None:
    assert call("rnu").code == 2
    assert call("run", TABLE4, "--profil", "x").code == 2


def test_file_that_is_no_yaml_is_refused(call, tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("name: [unclosed\n")
    refused(call("plan", "broken.yaml"), "broken.yaml:", "not valid YAML")


def test_experiments_travel_with_the_package(call, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "experiments")
    assert "Table 4" in call("plan", "table4_masking", "--profile", "smoke").out
    assert "Table 4" in call("plan", TABLE4, "--profile", "smoke").out
    assert "table4_masking" in call("list").out


def test_plan_says_which_profile_why_and_how_to_get_another(call) -> None:
    outcome = call("plan", TABLE4)
    assert outcome.code == 0
    head = outcome.out[: outcome.out.index("data-demo-")]
    for words in (
        "profile laptop",
        "largest that fits",
        "differs from the paper",
        "--profile paper",
        "demo_motion for ssv2",
    ):
        assert words in head


def test_plan_of_the_paper_shows_cost_and_what_is_missing(call) -> None:
    outcome = call("plan", TABLE4, "--profile", "paper")
    assert outcome.code == 0
    assert outcome.out.count("missing: data set") == 4
    assert "A100" in outcome.out
    assert "326 M" in outcome.out


def test_plan_says_what_the_workers_do_to_memory(call) -> None:
    sets = [f"--set=execution.{one}" for one in ("workers=8", "parallel=fsdp", "activation_checkpointing=true")]
    out = " ".join(call("plan", TABLE4, "--profile", "paper", *sets).out.split())
    assert "a slice of weights and moments on each of 8 devices" in out
    assert "computed again, counted as backward" in out


def test_plan_as_json_holds_the_resolved_experiment_and_every_stage(call) -> None:
    plan = json.loads(call("plan", TABLE4, "--json", "--set", "recipe.seed=7").out)
    (study,) = plan["experiments"]
    assert study["profile"] == "laptop"
    assert study["experiment"]["recipe"]["seed"] == 7
    kinds = [stage["kind"] for stage in plan["stages"]]
    assert (kinds.count("data"), kinds.count("pretrain"), kinds.count("probe")) == (1, 4, 12)
    assert {cell["stage"] for cell in study["cells"]} <= {stage["id"] for stage in plan["stages"]}
    assert plan["counts"]["pretraining"] == 4
    assert not any(stage["in_store"] for stage in plan["stages"])


def test_several_experiments_are_one_plan(call) -> None:
    names = ("table3_pooling", "table14_temporal_coverage", "table15_finetuning", "quickstart")
    plan = json.loads(call("plan", *names, "--json", "--profile", "laptop").out)
    assert [Path(path).name for path in plan["left_out"]] == ["quickstart.yaml"]
    assert plan["counts"]["pretraining"] == 2
    shared = next(stage for stage in plan["stages"] if len(stage["serves"]) == 3)
    assert shared["serves"] == ["T3", "T14", "T15"]
    tuned = [stage for stage in plan["stages"] if stage["work"] == "fine-tuning"]
    assert {(stage["state"], stage["reason"]) for stage in tuned} == {
        ("not available", "end-to-end fine-tuning is not built yet")
    }
    assert plan["to_do"]["device_hours"][0] < plan["to_do"]["device_hours"][1]


def test_plan_of_several_experiments_in_words(call) -> None:
    out = call("plan", "table3_pooling", "table15_finetuning", "--set", "execution.price=2").out
    assert "T3 T15" in out
    assert "each once:" in out
    assert "not available:" in out
    assert "cost: " in out
    drawn = call("plan", "table15_finetuning", "--graph").out
    assert drawn.index("pretrain-custom") < drawn.index("finetune-demo_appearance")
    assert "not available: end-to-end fine-tuning is not built yet" in drawn


def test_a_study_that_nobody_fills_a_cell_of_is_refused_by_validate(call, tmp_path: Path) -> None:
    file = tmp_path / "experiments" / "table3_pooling.yaml"
    text = file.read_text()
    line = 1 + text.splitlines().index("paper: {table: 3, row: vjepa_l}")
    file.write_text(text.replace("    ssv2_att:", "    ssv2_at:"))
    refused(
        call("validate", "experiments/table3_pooling.yaml"),
        f"table3_pooling.yaml:{line}: paper: Table 3 has no column 'ssv2_at'. Did you mean 'ssv2_att'?",
        "nobody yields ssv2_att of row 'vjepa_l' of Table 3",
    )


def test_schema_command_writes_what_the_repository_holds(call, repo_root: Path, tmp_path: Path) -> None:
    assert call("schema", "--out", "out").code == 0
    for name in ("experiment.schema.json", "profile.schema.json", "cluster.schema.json"):
        assert (tmp_path / "out" / name).read_text() == (repo_root / "docs" / name).read_text(), "run: vjepa-exp schema"


def test_resume_and_report_need_a_study(call) -> None:
    refused(call("resume"), "vjepa-exp run SPEC")
    refused(call("report", "quickstart"), "vjepa-exp run SPEC")


def test_ui_needs_runs(call) -> None:
    refused(call("ui"), "no MLflow runs yet")


def test_store_that_cannot_be_written_is_one_line(call, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file where the store should be")
    refused(call("run", TABLE4, "--profile", "smoke"), "cannot be written")


def test_store_in_use_is_one_line(call, tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from vjepa_exp.graph.store import Store\n"
        "with Store(Path('runs')).lock(): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            refused(call("run", TABLE4, "--profile", "smoke"), "in use by process", str(holder.pid))
            assert not list((tmp_path / "runs").rglob("study.json"))  # that of the run which works is not replaced
        finally:
            holder.kill()


def test_full_disk_is_one_line(call, small_disk: Callable[[str], Path]) -> None:
    runs = small_disk("8k")
    with suppress(OSError), (runs / "filler").open("wb", buffering=0) as filler:
        while filler.write(bytes(512)):
            pass
    refused(call("run", TABLE4, "--profile", "smoke", "--store", str(runs)), "No space left on device")
    (runs / "filler").unlink()


def test_store_that_is_read_only_is_one_line(call, small_disk: Callable[[str], Path]) -> None:
    runs = small_disk("1m")
    subprocess.run(["mount", "-o", "remount,ro", runs], check=True)
    refused(call("run", TABLE4, "--profile", "smoke", "--store", str(runs)), "Read-only file system")
    refused(call("data", "demo", "tiny", "--store", str(runs)), "Read-only file system")
    assert call("plan", TABLE4, "--profile", "smoke", "--store", str(runs)).code == 0
    assert call("list", "--store", str(runs)).code == 0


def test_ui_takes_the_next_free_port() -> None:
    from vjepa_exp.commands.machine import _free_port

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert port < _free_port(port) < port + 20


def test_data_index_registers_and_check_notices_a_lost_file(call, tmp_path: Path) -> None:
    from PIL import Image

    for split in ("train", "val"):
        for label in ("hund", "größe mit leerzeichen"):
            folder = tmp_path / "bilder" / split / label
            folder.mkdir(parents=True)
            Image.new("RGB", (32, 32), "red").save(folder / "ein bild.png")
    (tmp_path / "bilder" / "train" / "hund" / "kein video.mp4").write_text("text")
    (tmp_path / "bilder" / "train" / "hund" / "leer.mp4").touch()
    outcome = call("data", "index", "bilder", "--out", "bilder")
    assert outcome.code == 0
    assert outcome.out.count("cannot be read") == 2
    assert "2 data sets" not in call("validate", "datasets.yaml").out
    assert call("data", "check", "bilder").code == 0
    (tmp_path / "bilder" / "val" / "hund" / "ein bild.png").unlink()
    lost = call("data", "check", "bilder")
    assert lost.code == 1
    assert "changed: val/hund/ein bild.png: cannot be read any more: No such file" in lost.out


def test_data_import_counts_what_is_missing_and_keeps_it_for_the_scores(call, tmp_path: Path) -> None:
    from PIL import Image

    for split, count in (("train", 4), ("val", 3)):
        lines = [f"a/abbey/{split}{i}.jpg 0\n" for i in range(count)]
        (tmp_path / f"{split}_places205.csv").write_text("".join(lines))
        (tmp_path / "images/a/abbey").mkdir(parents=True, exist_ok=True)
        for i in range(count - 1):
            Image.new("RGB", (32, 32), "red").save(tmp_path / f"images/a/abbey/{split}{i}.jpg")
    outcome = call("data", "import", "places205", "images", "--lists", ".")
    assert outcome.code == 0, outcome
    assert "1 training files of the lists, left out" in outcome.out
    assert "1 val files of the lists; scores count them as not covered" in outcome.out
    assert "registered as 'places205'" in outcome.out
    rows = [line.split()[:3] for line in outcome.out.splitlines() if line.startswith(("train", "val"))]
    assert rows == [["train", "3", "3"], ["val", "3", "2"]]
    assert call("data", "check", "places205").code == 0


def test_data_import_of_boxes_writes_their_table(call, shared_dir: Path, tmp_path: Path) -> None:
    from vjepa_exp.data.boxes import read_boxes

    source = shared_dir / "videos" / "decode" / "imageio_realshort.mp4"
    (tmp_path / "videos").mkdir()
    shutil.copy(source, tmp_path / "videos" / "-5KQ66BBWC4.mp4")
    for split in ("train", "val"):
        (tmp_path / f"ava_{split}_v2.2.csv").write_text("-5KQ66BBWC4,0902,0.077,0.151,0.283,0.811,80,1\n")
    (tmp_path / "ava_action_list_v2.2.pbtxt").write_text('label {\n  name: "watch (a person)"\n  label_id: 80\n}\n')
    outcome = call("data", "import", "ava", "videos", "--lists", ".")
    assert outcome.code == 0, outcome
    assert "2 boxes with an action in 1 key frames, 0 excluded" in outcome.out
    assert read_boxes(tmp_path / "manifests" / "ava.boxes.parquet").actions == {80: "watch (a person)"}


def test_data_stats_prints_tables_and_draws(call, tmp_path: Path) -> None:
    from PIL import Image

    for name in ("a/1.png", "b/2.png", "b/3.png"):
        (tmp_path / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30)).save(tmp_path / "pictures" / name)
    assert call("data", "index", "pictures", "--out", "pictures").code == 0
    outcome = call("data", "stats", "pictures")
    assert outcome.code == 0, outcome
    assert "width x height: 40 x 30 3 (100%)" in outcome.out
    assert "classes in train: 2 of 2, from 'a' (1 files) to 'b' (2)" in outcome.out
    assert (tmp_path / "manifests" / "pictures.png").stat().st_size > 5000
    refused(call("data", "stats", "picturs"), "'picturs'", "Did you mean 'pictures'?")


def test_data_prepare_registers_a_set_that_says_where_it_comes_from(call, video_folder: Path, tmp_path: Path) -> None:
    from vjepa_exp.data.manifest import read_manifest

    assert call("data", "index", str(video_folder), "--out", "mine").code == 0
    outcome = call("data", "prepare", "mine", "--as", "small", "--preset", "ultrafast", "--short-side", "32")
    assert outcome.code == 0, outcome
    assert re.search(r"size: [\d.]+ MiB before, [\d.]+ MiB after, x [\d.]+", outcome.out)
    assert re.search(r"pyav +[\d.]+ +[\d.]+ +[\d.]+\n", outcome.out)
    assert outcome.out.count("cannot be read: ") == 2
    manifest = read_manifest(tmp_path / "manifests" / "small.parquet")
    assert set(manifest.decodable().column("height")) == {32}
    provenance = manifest.provenance
    assert provenance["source"] == "mine"
    digest = hashlib.sha256((tmp_path / "manifests" / "mine.parquet").read_bytes()).hexdigest()
    assert provenance["source_digest"] == digest
    assert (provenance["settings"]["gop"], provenance["settings"]["short_side"]) == (16, 32)
    assert call("data", "check", "small").code == 0
    refused(call("data", "prepare", "mine", "--as", "small", "--gop", "8"), "'small' is registered already", "--as")
    failed = call("data", "prepare", "mine", "--as", "fine", "--preset", "ultrafast", "--min-psnr", "120")
    refused(failed, "none of the 12 files of 'mine' can be prepared")


def test_data_prepare_refuses(call, tmp_path: Path) -> None:
    from PIL import Image

    for name in ("mine", "other", "pictures"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (32, 32)).save(tmp_path / name / "a.png")
        assert call("data", "index", name, "--out", name).code == 0
    registry = tmp_path / "datasets.yaml"
    lines = registry.read_text().split("mine:")
    registry.write_text(lines[0] + "mine:" + lines[1].replace("image", "video", 1))
    for arguments, words in (
        (["mien"], ["'mien'", "Did you mean 'mine'?"]),
        (["demo_motion"], ["demo set"]),
        (["mine", "--as", "mine"], ["cannot take its own place"]),
        (["mine", "--as", "other"], ["'other' is registered already: another data set"]),
        (["mine", "--as", "../x"], ["letters, digits"]),
        (["pictures"], ["images only"]),
        (["mine", "--folder", "mine"], ["written over the original", "--folder"]),
    ):
        refused(call("data", "prepare", *arguments), *words)
        assert not (tmp_path / "prepared").exists()


def picture(path: Path, seed: int, size: int = 64, **how: object) -> None:
    """A soft texture of its own."""
    import numpy as np
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    cells = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(cells).resize((size, size), Image.Resampling.BICUBIC).save(path, **how)


def test_data_leaks_writes_a_list_that_a_mixture_applies(call, tmp_path: Path) -> None:
    from PIL import Image

    for seed in range(4):
        picture(tmp_path / f"web/train/a/{seed}.png", seed)
    picture(tmp_path / "exam/val/x/copy.jpg", 1, size=200, quality=50)
    picture(tmp_path / "exam/val/x/own.png", 9)
    Image.new("RGB", (50, 50), "grey").save(tmp_path / "exam/val/x/flat.png")
    shutil.copy(tmp_path / "web/train/a/3.png", tmp_path / "exam/val/x/same.png")
    for name in ("web", "exam"):
        assert call("data", "index", name, "--out", name).code == 0
    outcome = call("data", "leaks", "web", "exam")
    assert outcome.code == 0, outcome
    assert "not compared by pictures, of exam val: 0 that cannot be read, 1 of even grey" in outcome.out
    assert "4 videos of web train x 4 videos of exam val: 1 pairs with the same bytes, 1 with the same" in outcome.out
    written = tmp_path / "manifests/web.leaks.csv"
    lines = written.read_text().splitlines()
    assert lines[5].startswith("train/a/1.png,similar,0.0")
    assert lines[6] == "train/a/3.png,exact,0,exam:val/x/same.png"
    assert f"written: {written} (2 of 4 videos, 50.00%)" in outcome.out
    assert not list(written.parent.rglob("*.partial.jsonl")), "what was kept for a killed call is not needed any more"

    entry = "{dataset: web, exclude: manifests/web.leaks.csv}"
    mixture = f"recipe.pretrain.data.mixture=[{entry}]"
    assert entry in outcome.out
    plan = ("plan", "experiments/quickstart.yaml", "--json", "--set", mixture)
    digest = json.loads(call(*plan).out)["stages"]
    assert f"left out: 2 videos of web, listed in {written}" in call(*plan[:2], "--set", mixture).out
    assert call("data", "leaks", "web", "exam").code == 0  # of signatures that are there
    assert json.loads(call(*plan).out)["stages"] == digest

    written.write_text(f"{written.read_text()}nowhere.png\n")
    run = ("run", "experiments/quickstart.yaml", "--set", mixture, "--set", "recipe.evaluate={}")
    refused(call(*run), f"{written}:8: data set 'web' has no video nowhere.png in its train split")
    (tmp_path / "web/train/a/1.png").unlink()
    assert call("data", "index", "web", "--out", "web").code == 0
    refused(call(*plan), f"{written}:2: was made for another version of data set 'web'", "data leaks web exam")


def test_data_leaks_refuses(call, tmp_path: Path) -> None:
    refused(call("data", "leaks", "k710", "k400"), "data set 'k710'", "vjepa-exp data import k710")
    assert call("data", "leaks", "k710").code == 2
    picture(tmp_path / "web/train/a/0.png", 0)
    assert call("data", "index", "web", "--out", "web").code == 0
    refused(call("data", "leaks", "web", "web"), "data set 'web' has no readable file in its val split")


def test_data_import_refuses(call, tmp_path: Path) -> None:
    refused(call("data", "import", "k400", "nowhere"), "nowhere is no folder")
    (tmp_path / "empty").mkdir()
    refused(call("data", "import", "ssv2", "empty"), "something-something-v2-labels.json", "--lists")
    assert call("data", "import", "k401", "empty").code == 2
    assert not (tmp_path / "datasets.yaml").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no_such_folder", "--out", "x"], ["does not exist"]),
        ([".", "--out", "demo_motion"], ["demo set"]),
        ([".", "--out", "../x"], ["letters, digits"]),
        (["empty", "--out", "x"], ["lists no video or image"]),
        (["only_bad", "--out", "x"], ["none of its 1 files can be read"]),
    ],
)
def test_data_index_refuses(call, tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "only_bad").mkdir()
    (tmp_path / "only_bad" / "a.mp4").write_bytes(b"")
    refused(call("data", "index", *arguments), *words)
    assert not (tmp_path / "datasets.yaml").exists()


def test_doctor_says_which_readers_work_and_how_fast(call) -> None:
    outcome = call("doctor")
    assert outcome.code == 0
    for reader in ("pyav", "decord"):
        assert re.search(rf"ok +reader {reader} +\d+ clips/s a core", outcome.out)
    assert re.search(r"(ok|note) +reader torchcodec", outcome.out)
