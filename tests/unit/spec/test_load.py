"""Specs: strictness, overlays, and errors that name file, line, value and the nearest name."""

from __future__ import annotations

from pathlib import Path

import pytest

from vjepa_exp.spec.augment import AutoAugment, CropFlip, RandAugment, RandomErasing
from vjepa_exp.spec.errors import SpecError, UserError
from vjepa_exp.spec.experiment import Experiment
from vjepa_exp.spec.load import read_experiment, resolve

BASE = """\
name: small
recipe:
  model: {arch: vit_large}
  pretrain:
    data:
      mixture: [{dataset: k710}, {dataset: ssv2}]
    optim: {lr: 1e-3}
  evaluate:
    k400: {kind: attentive_probe, dataset: k400}
    ssv2: {kind: linear_probe, dataset: ssv2, clip: {num_frames: 8, frame_step: 2, resolution: 112}}
profiles:
  laptop: laptop.yaml
"""
LAPTOP = """\
description: CPU
datasets: {k400: demo_appearance, k710: demo_motion, ssv2: demo_motion}
evaluate_each:
  optim: {epochs: 3}
overlay:
  recipe:
    model: {arch: custom, embed_dim: 96, depth: 2, num_heads: 3, mlp_ratio: 4, patch_size: 8}
    pretrain:
      data: {clip: {num_frames: 8, resolution: 64}}
"""


@pytest.fixture
def write(tmp_path: Path):
    def _write(text: str, laptop: str = LAPTOP) -> Path:
        (tmp_path / "laptop.yaml").write_text(laptop, encoding="utf-8")
        path = tmp_path / "small.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return _write


def load(path: Path, profile: str = "paper", sets: tuple[str, ...] = ()) -> Experiment:
    return resolve(read_experiment(path), profile, sets).experiment


def problems(path: Path, *args: object) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load(path, *args)  # type: ignore[arg-type]
    return [str(problem) for problem in caught.value.problems]


def test_defaults_are_the_published_recipe(write) -> None:
    recipe = load(write(BASE)).recipe
    assert (recipe.pretrain.optim.batch_size, recipe.pretrain.optim.iterations) == (3072, 90_000)
    assert recipe.grid == (8, 14, 14)
    assert recipe.pretrain.optim.lr == 1e-3


def test_probe_inherits_the_pretraining_clip_unless_it_has_its_own(write) -> None:
    recipe = load(write(BASE), "laptop").recipe
    assert recipe.evaluate["k400"].clip == recipe.pretrain.data.clip
    assert recipe.evaluate["ssv2"].clip.resolution == 112


def test_profile_substitutes_data_sets_and_merges_equal_ones(write) -> None:
    resolved = resolve(read_experiment(write(BASE)), "laptop")
    recipe = resolved.experiment.recipe
    assert [entry.dataset for entry in recipe.pretrain.data.mixture] == ["demo_motion"]
    assert recipe.evaluate["k400"].dataset == "demo_appearance"
    assert all(probe.optim.epochs == 3 for probe in recipe.evaluate.values())
    assert resolved.substituted == {"k710": "demo_motion", "ssv2": "demo_motion", "k400": "demo_appearance"}


def test_a_stand_in_leaves_out_no_videos_of_the_set_that_it_stands_in_for(write) -> None:
    text = BASE.replace(
        "[{dataset: k710}, {dataset: ssv2}]", "[{dataset: k710, exclude: a.csv}, {dataset: mine, exclude: b.csv}]"
    )
    paper, laptop = (load(write(text), profile).recipe.pretrain.data.mixture for profile in ("paper", "laptop"))
    assert [(entry.dataset, entry.exclude) for entry in paper] == [("k710", "a.csv"), ("mine", "b.csv")]
    assert [(entry.dataset, entry.exclude) for entry in laptop] == [("demo_motion", None), ("mine", "b.csv")]


def test_sets_that_become_one_leave_the_rest_of_the_mixture_as_it_is(write) -> None:
    entries = (
        "[{dataset: k710, weight: 0.5}, {dataset: ssv2, weight: 0.25}, {dataset: mine, weight: 0.25, exclude: b.csv}]"
    )
    text = BASE.replace("[{dataset: k710}, {dataset: ssv2}]", entries)
    laptop = load(write(text), "laptop").recipe.pretrain.data.mixture
    assert [(entry.dataset, entry.weight, entry.exclude) for entry in laptop] == [
        ("demo_motion", 0.75, None),
        ("mine", 0.25, "b.csv"),
    ]
    path = write(text.replace("ssv2, weight: 0.25", "ssv2"))
    [problem] = problems(path, "laptop")
    assert problem == f"{path}:6: recipe.pretrain.data.mixture: give every data set a weight, or none"


def test_a_profile_may_train_another_kind_of_probe_on_the_same_data(write) -> None:
    probes = load(write(BASE, LAPTOP.replace("optim: {epochs: 3}", "kind: attentive_probe")), "laptop").recipe.evaluate
    assert (probes["ssv2"].kind, probes["ssv2"].dataset, probes["ssv2"].clip.resolution) == (
        "attentive_probe",
        "demo_motion",
        112,
    )


def test_an_experiment_says_what_else_differs_under_a_profile(write) -> None:
    text = BASE.replace("laptop: laptop.yaml", "laptop: {extends: laptop.yaml, differs: Half the steps.}")
    path = write(text, "differs: A small model.\n" + LAPTOP)
    profile = resolve(read_experiment(path), "laptop").profile
    assert profile is not None
    assert profile.differs == "A small model. Half the steps."
    wrong = write(text.replace("Half the steps.", "[1]"), "differs: A small model.\n" + LAPTOP)
    assert problems(wrong, "laptop") == [f"{path}:12: profiles.laptop.differs: should be a valid string, not [1]"]


@pytest.mark.parametrize("field", ["overlay", "evaluate_each", "datasets"])
@pytest.mark.parametrize("value", ["[1]", "x"])
def test_what_an_experiment_changes_in_a_profile_is_a_mapping(write, field: str, value: str) -> None:
    path = write(BASE.replace("laptop: laptop.yaml", f"laptop: {{extends: laptop.yaml, {field}: {value}}}"))
    [problem] = problems(path, "laptop")
    assert problem.startswith(f"{path}:12: profiles.laptop.{field}: should be an object, not ")


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("none.yaml", "profile file none.yaml does not exist beside small.yaml"),
        (".", "profile file . is a directory"),
        ("x" * 300, f"profile file {'x' * 300} cannot be read: File name too long"),
    ],
)
def test_a_profile_file_that_cannot_be_read_is_named(write, file: str, message: str) -> None:
    path = write(BASE.replace("laptop: laptop.yaml", f"laptop: {file}"))
    assert problems(path) == [f"{path}:12: profiles.laptop: {message}"]


def test_names_that_mean_something_else_are_no_names_of_profiles(write) -> None:
    path = write(BASE + "  paper: laptop.yaml\n  auto: {extends: laptop.yaml}\n")
    with pytest.raises(SpecError) as caught:
        read_experiment(path)
    other = "give the profile another name"
    assert [str(problem) for problem in caught.value.problems] == [
        f"{path}:13: profiles.paper: 'paper' means the file as it stands: {other}",
        f"{path}:14: profiles.auto: 'auto' means the largest profile that the machine can do: {other}",
    ]


def test_set_wins_over_profile_and_is_not_substituted(write) -> None:
    sets = (
        "recipe.pretrain.data.mixture=[{dataset: k710}]",
        "recipe.pretrain.optim.lr=2e-3",
        "recipe.seed=7",
    )
    recipe = load(write(BASE), "laptop", sets).recipe
    assert recipe.pretrain.data.mixture[0].dataset == "k710"
    assert (recipe.pretrain.optim.lr, recipe.seed) == (2e-3, 7)


def test_set_reaches_into_a_list(write) -> None:
    recipe = load(write(BASE), "paper", ("recipe.pretrain.data.mixture.1.dataset=mine",)).recipe
    assert [entry.dataset for entry in recipe.pretrain.data.mixture] == ["k710", "mine"]


def test_set_reaches_a_column_that_is_named_by_a_number(write) -> None:
    text = BASE.replace("k400: {kind", "'5': {kind")
    assert load(write(text), "paper", ("recipe.evaluate.5.clips=2",)).recipe.evaluate["5"].clips == 2  # type: ignore[union-attr]


@pytest.mark.parametrize("index", ["²", "1" * 5000, "2"])
def test_set_beyond_a_list_is_nowhere(write, index: str) -> None:
    [line] = problems(write(BASE), "paper", (f"recipe.pretrain.data.mixture.{index}=1",))
    assert line.endswith("there is no such place in the experiment")


def test_unknown_key_names_line_and_nearest(write) -> None:
    path = write(BASE.replace("optim: {lr: 1e-3}", "optim:\n      lr: 1e-3\n      itertions: 5"))
    (line,) = problems(path)
    assert line.startswith(f"{path}:9:")
    assert "recipe.pretrain.optim.itertions" in line
    assert "Did you mean 'iterations'?" in line


def test_unknown_key_inside_a_probe_names_nearest(write) -> None:
    path = write(BASE.replace("dataset: k400}", "dataset: k400, veiws: 3}"))
    (line,) = problems(path)
    assert f"{path}:9:" in line
    assert "evaluate.k400.veiws" in line
    assert "'views'" in line


def test_all_problems_at_once_in_file_order(write) -> None:
    text = BASE.replace("vit_large", "vit_lrage").replace("lr: 1e-3", "lr: fast").replace("linear_probe", "liner_probe")
    found = problems(write(text))
    assert len(found) == 3
    assert "'vit_lrage'" in found[0]
    assert "Did you mean 'vit_large'?" in found[0]
    assert '"fast"' in found[1]
    assert "Did you mean 'linear_probe'?" in found[2]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("optim: {lr: 1e-3}", 'optim: {lr: "0.1"}'), "lr"),
        (("optim: {lr: 1e-3}", "optim: {iterations: 10.5}"), "iterations"),
        (("optim: {lr: 1e-3}", "optim: {batch_size: true}"), "batch_size"),
        (("optim: {lr: 1e-3}", "optim: {lr: .nan}"), "lr"),
        (("optim: {lr: 1e-3}", "optim: {batch_size: 100}"), "mask_group_size"),
        (
            ("optim: {lr: 1e-3}", "masks: [{kind: multi_block, num_blocks: 8, spatial_scale: [0.2, 1.5]}]"),
            "spatial_scale",
        ),
        (
            ("optim: {lr: 1e-3}", "masks: [{kind: multi_block, num_blocks: 1, spatial_scale: [0.5, 1.0]}]"),
            "spatial_scale: 1.0 lets a block cover the whole clip of 8x14x14 tokens",
        ),
        (
            (
                "optim: {lr: 1e-3}",
                "masks: [{kind: multi_block, num_blocks: 1, spatial_scale: [1.0, 1.0], temporal_scale: [0.5, 0.5], "
                "max_temporal_keep: 0.5}]",
            ),
            "cover the whole clip",
        ),
        (("optim: {lr: 1e-3}", "masks: []"), "masks"),
        (("{arch: vit_large}", "{arch: vit_large, depth: 3}"), "depth"),
        (("{arch: vit_large}", "{patch_size: 15}"), "not divisible"),
        (
            ("dataset: k400}", "dataset: k400, optim: {epochs: 3, warmup_epochs: 4}}"),
            "recipe.evaluate.k400.optim.warmup_epochs: 4 is more than epochs 3",
        ),
        (
            ("dataset: k400}", "dataset: k400, sweep: {halve_every: 21, space: {lr: {kind: grid, values: [1e-3]}}}}"),
            "recipe.evaluate.k400.sweep.halve_every: 21 is more than optim.epochs 20",
        ),
        (
            ("{arch: vit_large}", "{arch: custom, embed_dim: 96, depth: 2, num_heads: 3, mlp_ratio: 1.0e300}"),
            "recipe.model.mlp_ratio: should be less than or equal to 100",
        ),
        (
            ("name: small", "name: 'a/b'"),
            "name: \"a/b\" may hold only letters, digits, '_', '.' and '-', and begins with",
        ),
    ],
)
def test_wrong_values_are_named(write, change: tuple[str, str], words: str) -> None:
    path = write(BASE.replace(*change))
    found = problems(path)
    assert len(found) == 1, found
    assert words in found[0]
    assert found[0].startswith(f"{path}:")


@pytest.mark.parametrize("ablation", ["x", "masking.SHORT", "a.b.c"])
def test_a_factor_is_written_as_file_and_function(write, ablation: str) -> None:
    path = write(BASE + f"vary: {{ablation: {ablation}}}\n")
    form = "is not of the form file.function, in lower case, as in masking.table4"
    assert problems(path) == [f'{path}:13: vary.ablation: "{ablation}" {form}']


def test_a_block_as_large_as_a_frame_is_fine_where_other_times_stay_visible(write) -> None:
    mask = "masks: [{kind: multi_block, num_blocks: 1, spatial_scale: [1.0, 1.0], temporal_scale: [0.5, 0.5]}]"
    recipe = load(write(BASE.replace("optim: {lr: 1e-3}", mask))).recipe
    assert recipe.grid == (8, 14, 14)


def test_key_given_twice(write) -> None:
    assert "twice" in problems(write(BASE + "name: other\n"))[0]


def test_not_yaml(write) -> None:
    path = write("name: [unclosed\n")
    assert problems(path)[0].startswith(f"{path}:")


def test_error_in_profile_points_into_the_profile(write) -> None:
    path = write(BASE, LAPTOP.replace("depth: 2", "depth: two"))
    (line,) = problems(path, "laptop")
    assert "laptop.yaml:7:" in line
    assert "recipe.model.depth" in line


def test_error_in_set_names_the_option(write) -> None:
    (line,) = problems(write(BASE), "paper", ("recipe.pretrain.optim.lr=slow",))
    assert line.startswith("--set recipe.pretrain.optim.lr=slow")


def test_set_to_nowhere(write) -> None:
    (line,) = problems(write(BASE), "paper", ("name.x.y=1",))
    assert "no such place" in line


def test_unknown_profile_lists_the_known(write) -> None:
    with pytest.raises(UserError, match=r"Did you mean 'laptop'\? Profiles: paper, laptop"):
        load(write(BASE), "latop")


def test_experiment_without_profiles_says_so(write) -> None:
    text = BASE[: BASE.index("profiles:")]
    with pytest.raises(UserError, match="has no profiles and runs as it stands"):
        load(write(text), "laptop")


def test_yaml_1_2_scalars(write) -> None:
    experiment = load(write(BASE.replace("name: small", "name: small\ntitle: no")))
    assert experiment.title == "no"


def test_changing_a_kind_drops_the_old_fields(write) -> None:
    text = BASE.replace("optim: {lr: 1e-3}", "objective: {kind: features, exponent: 2.0}")
    laptop = LAPTOP + "      objective: {kind: pixels}\n"
    assert load(write(text, laptop), "laptop").recipe.pretrain.objective.kind == "pixels"


def test_fps_alone_describes_the_distance_of_frames(write) -> None:
    recipe = load(write(BASE.replace("frame_step: 2", "fps: 7.5"))).recipe
    clip = recipe.evaluate["ssv2"].clip
    assert (clip.fps, clip.frame_step, clip.indexing) == (7.5, None, "exact")
    assert (recipe.pretrain.data.clip.frame_step, recipe.pretrain.data.clip.fps) == (4, None)
    again = type(recipe).model_validate_json(recipe.model_dump_json())
    assert again == recipe


@pytest.mark.parametrize(
    ("clip", "words"),
    [
        ("frame_step: 2, fps: 4", "ssv2.clip: give either frame_step or fps"),
        ("frame_step: null", "ssv2.clip: give either frame_step or fps"),
        ("fps: 4, indexing: parity", "ssv2.clip.indexing: parity counts frames"),
        ("fps: 0", "fps"),
    ],
)
def test_a_clip_has_one_distance(write, clip: str, words: str) -> None:
    (line,) = problems(write(BASE.replace("frame_step: 2", clip)))
    assert words in line


def test_a_policy_of_another_kind_replaces_the_old_one(write) -> None:
    augment = "augment: {kind: crop_flip, flip: 0.0, policy: {kind: rand_augment, magnitude: 9}, erasing: {}}"
    text = BASE.replace("dataset: k400}", f"dataset: k400, {augment}}}")
    assert load(write(text)).recipe.evaluate["k400"].augment == CropFlip(
        flip=0.0, policy=RandAugment(magnitude=9.0), erasing=RandomErasing()
    )
    laptop = LAPTOP.replace("optim: {epochs: 3}", "augment: {policy: {kind: auto_augment}, erasing: null}")
    text = text.replace("kind: linear_probe, dataset: ssv2", f"kind: linear_probe, dataset: ssv2, {augment}")
    for probe in load(write(text, laptop), "laptop").recipe.evaluate.values():
        assert probe.augment == CropFlip(flip=0.0, policy=AutoAugment())


@pytest.mark.parametrize(
    ("augment", "words"),
    [
        ("policy: {kind: randaugment}", "Did you mean 'rand_augment'?"),
        ("policy: {kind: rand_augment, magnitud: 3}", "Did you mean 'magnitude'?"),
        ("policy: {kind: rand_augment, magnitude: 11}", "magnitude"),
        ("policy: {kind: auto_augment, fill: [0, 0, 256]}", "fill"),
        ("erasing: {area: [0.4, 0.1]}", "erasing.area: the lower bound 0.4 is above the upper bound 0.1"),
        ("jitter: {hue: 0.6}", "hue"),
        ("interpolation: nearest", "'nearest' is not one of"),
    ],
)
def test_a_wrong_augmentation_is_named(write, augment: str, words: str) -> None:
    text = BASE.replace("dataset: k400}", f"dataset: k400, augment: {{kind: crop_flip, {augment}}}}}")
    (line,) = problems(write(text))
    assert "evaluate.k400.augment" in line
    assert words in line


def test_specs_are_frozen(write) -> None:
    experiment = load(write(BASE))
    with pytest.raises(ValueError, match="frozen"):
        experiment.recipe.seed = 3  # type: ignore[misc]
