"""Several experiments in one command, and what of it may be shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.fixture
def quickstart(repo_root: Path) -> str:
    return (repo_root / "experiments" / "quickstart.yaml").read_text(encoding="utf-8")


def test_devices_and_prices_of_several_experiments_are_not_mixed(call, tmp_path: Path, quickstart: str) -> None:
    text = quickstart.partition("\nexecution:")[0]
    for seed, (name, more) in enumerate({"free": "workers: 8", "dear": "workers: 1, price: 2, currency: EUR"}.items()):
        own = text.replace("name: quickstart", f"name: {name}").replace("  seed: 0", f"  seed: {seed}", 1)
        (tmp_path / f"{name}.yaml").write_text(f"{own}\nexecution: {{device: cuda, gpu: A100, {more}}}\n")
    for order in (("free.yaml", "dear.yaml"), ("dear.yaml", "free.yaml")):
        out = " ".join(call("plan", *order)[1].split())
        assert "on 8 x A100" in out
        assert "on 1 x A100" in out
        assert out.count("EUR, at 2 a device and hour") == 1


@pytest.mark.parametrize("command", ["plan", "validate", "run"])
def test_a_collection_of_one_name_twice_or_of_collections_is_refused(
    call, tmp_path: Path, quickstart: str, command: str
) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text(quickstart)
    (tmp_path / "two.yaml").write_text("name: two\nexperiments: [a.yaml, b.yaml]\n")
    (tmp_path / "deep.yaml").write_text("name: deep\nexperiments: [two.yaml]\n")
    code, _, error = call(command, "two.yaml")
    assert (code, error.splitlines()) == (
        2,
        ["error: two.yaml:2: experiments.1: 'b.yaml' has the name of 'a.yaml', quickstart: their reports would be one"],
    )
    code, _, error = call(command, "deep.yaml")
    assert code == 2
    assert "deep.yaml:2: experiments.0: 'two.yaml' is a collection itself" in error


def test_validate_looks_at_the_members_of_a_collection(call, tmp_path: Path, quickstart: str) -> None:
    (tmp_path / "a.yaml").write_text(quickstart.replace("recipe:", "recpe:"))
    (tmp_path / "one.yaml").write_text("name: one\nexperiments: [a.yaml]\n")
    code, _, error = call("validate", "one.yaml")
    assert code == 2
    assert "a.yaml:" in error


@pytest.mark.parametrize("option", ["--tracking=", "--set=execution.tracking_uri="])
def test_a_password_in_the_address_of_a_server_is_refused_and_not_repeated(call, option: str) -> None:
    code, out, error = call("run", "quickstart", f"{option}http://bob:hunter2@host:5000")
    assert code == 2
    assert "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in error
    assert "hunter2" not in out + error


def test_probes_of_two_experiments_on_one_pass_pay_for_it_once(call, tmp_path: Path, quickstart: str) -> None:
    (tmp_path / "a.yaml").write_text(quickstart.replace("name: quickstart", "name: a"))
    (tmp_path / "b.yaml").write_text(
        quickstart.replace("name: quickstart", "name: b").replace("lr: 4.0e-3", "lr: 2.0e-3")
    )
    (tmp_path / "both.yaml").write_text("name: both\nexperiments: [a.yaml, b.yaml]\n")

    def flops(*arguments: str) -> dict[str, float]:
        stages = json.loads(call("plan", *arguments, "--json")[1])["stages"]
        return {stage["fingerprint"]: stage["cost"]["total_flops"] for stage in stages if stage["kind"] == "probe"}

    first, second = flops("a.yaml"), flops("b.yaml")
    assert not first.keys() & second.keys()
    both, apart = flops("both.yaml"), flops("both.yaml", "--set", "execution.probes_per_pass=1")
    assert apart == first | second
    assert both.keys() == apart.keys()
    assert {key: both[key] for key in first} == first
    [encoding] = {second[key] - both[key] for key in second}  # clips and encoder are alike
    assert encoding > 0
