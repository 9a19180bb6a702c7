"""The command line: parse, call, print. Exit codes: 0 done, 1 a stage failed, 2 bad input.

Everything heavy is imported by the command that needs it: `--help`, `validate`, `plan` and `list` answer at once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from vjepa_exp.spec.errors import UserError, of_machine
from vjepa_exp.spec.removal import SAME_PICTURES

FAILED, BAD_INPUT = 1, 2

app = typer.Typer(
    name="vjepa-exp",
    help="The V-JEPA paper as an experiment platform: one YAML file is one table.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data = typer.Typer(help="Demo videos and manifests of your own.", no_args_is_help=True)
weights = typer.Typer(help="Checkpoints in the layout of the released V-JEPA models.", no_args_is_help=True)
cluster = typer.Typer(help="Ray clusters on AWS, GCP and Kubernetes: files, and runs on them.", no_args_is_help=True)
app.add_typer(data, name="data")
app.add_typer(weights, name="weights")
app.add_typer(cluster, name="cluster")

Spec = Annotated[str, typer.Argument(help="Experiment file, or the name of one that comes with vjepa-exp.")]
Study = Annotated[str | None, typer.Argument(help="Name or spec file of a started study; the last one if left out.")]
Profile = Annotated[str, typer.Option("--profile", "-p", help="'auto' takes the largest that fits this machine.")]
Sets = Annotated[list[str], typer.Option("--set", metavar="A.B=VALUE", help="Change a field; may be repeated.")]
StoreDir = Annotated[Path, typer.Option("--store", help="Where results are kept.")]
Datasets = Annotated[Path, typer.Option("--datasets", help="Registry of data sets.")]
Tracking = Annotated[str | None, typer.Option("--tracking", help="MLflow server; SQLite in the store if left out.")]
Cluster = Annotated[str | None, typer.Option("--cluster", metavar="FILE", help="Cluster file, or a name of one.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show Ray's own messages.")]

Address = Annotated[str | None, typer.Option("--address", help="Ray cluster to work on; this machine if left out.")]

Dashboard = Annotated[
    str, typer.Option("--address", envvar="RAY_API_SERVER_ADDRESS", help="Ray's dashboard of the cluster.")
]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="As `submit` and `status` call it.")]

X264Preset = Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow"]
ClusterProvider = Literal["aws", "gcp", "kuberay"]
PublicSet = Literal["k400", "k600", "k700", "k710", "ssv2", "howto100m", "in1k", "places205", "inat21", "ava"]

STORE, REGISTRY = Path("runs"), Path("datasets.yaml")
LOOPBACK = "127.0.0.1"
DASHBOARD = f"http://{LOOPBACK}:8265"
"""Where `ray dashboard` and `kubectl port-forward` bring a cluster's dashboard."""

# Below the worst frame of any of 30 odd real videos at the default rate factor (26 dB), far above what different
# pictures have in common.
MIN_PSNR = 22.0


@app.command()
def run(
    spec: Spec,
    profile: Profile = "auto",
    sets: Sets = [],  # noqa: B006 (typer copies it)
    store: StoreDir = STORE,
    datasets: Datasets = REGISTRY,
    tracking: Tracking = None,
    cluster: Cluster = None,
    verbose: Verbose = False,
) -> None:
    """Run an experiment: do what is not in the store yet, then print its table and write its report.

    With --cluster it joins Ray on this machine (or at execution.address) and waits for nodes that an autoscaler brings.
    """
    from vjepa_exp.commands import studies, study

    request = studies.Request(spec, profile, tuple(sets), str(datasets), tracking, cluster)
    _exit(study.run(request, store, verbose))


@app.command()
def plan(
    specs: Annotated[list[str], typer.Argument(help="Experiment files, or collections of them.")],
    profile: Profile = "auto",
    sets: Sets = [],  # noqa: B006
    store: StoreDir = STORE,
    datasets: Datasets = REGISTRY,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    graph: Annotated[bool, typer.Option("--graph", help="Draw the stages as a tree of encoders.")] = False,
    cluster_file: Cluster = None,
    simulate: Annotated[
        str | None, typer.Option(metavar="GPUS", help="Simulate that cluster with so many GPUs: 16,64,128.")
    ] = None,
    picture: Annotated[Path | None, typer.Option(help="PNG of a simulation: GPUs at work over time.")] = None,
) -> None:
    """Show what `run` would do: stages, their state and cost, missing data sets. Several experiments share stages."""
    from vjepa_exp.commands import studies

    request = studies.Request("", profile, tuple(sets), str(datasets))
    if cluster_file is not None:
        from vjepa_exp.commands import plan_cluster

        there = plan_cluster.There(cluster_file, simulate, picture)
        plan_cluster.plan(specs, request, store, there, as_json=as_json, graph=graph)
        return
    if simulate or picture:
        raise UserError("--simulate and --picture need a cluster to simulate: --cluster clusters/aws-a100.yaml")
    from vjepa_exp.commands import plan_view

    plan_view.plan(specs, request, store, as_json=as_json, graph=graph)


@app.command()
def resume(name: Study = None, store: StoreDir = STORE, cluster: Cluster = None, verbose: Verbose = False) -> None:
    """Continue a study that was interrupted, from any machine that sees the store."""
    from vjepa_exp.commands import study

    _exit(study.resume(name, store, verbose, cluster))


@app.command()
def report(name: Study = None, store: StoreDir = STORE) -> None:
    """Write the report of a study again and print its table, also while it runs: what is done, runs and waits."""
    from vjepa_exp.commands import study

    study.report(name, store)


@app.command()
def validate(
    specs: Annotated[
        list[str] | None, typer.Argument(help="Experiments, profiles, registries, clusters; default: all.")
    ] = None,
) -> None:
    """Check YAML files under every profile; print all problems with file and line."""
    from vjepa_exp.commands import specs as command

    command.validate(specs or [])


@app.command("list")
def list_all(store: StoreDir = STORE) -> None:
    """List experiments, and what the store holds."""
    from vjepa_exp.commands import overview

    overview.list_all(store)


@app.command()
def schema(out: Annotated[Path, typer.Option("--out", help="Folder to write to.")] = Path("docs")) -> None:
    """Write the JSON Schemas of experiments, profiles and clusters, for editors."""
    from vjepa_exp.commands import specs

    specs.schema(out)


@app.command()
def ui(
    store: StoreDir = STORE,
    port: Annotated[int | None, typer.Option(help="Port on this machine; 5000, to which reports link.")] = None,
    serve: Annotated[bool, typer.Option("--serve", help="For a team: a server that asks for passwords.")] = False,
    host: Annotated[str, typer.Option(help="Interface; beyond this machine only with --serve.")] = LOOPBACK,
    database: Annotated[
        str | None, typer.Option(help="With --serve: postgresql+psycopg2://USER@HOST/NAME; SQLite if left out.")
    ] = None,
    artifacts: Annotated[
        str | None, typer.Option(help="With --serve: s3://BUCKET/PREFIX, or a folder; beside the password if left out.")
    ] = None,
    allow: Annotated[
        list[str], typer.Option("--allow", metavar="NAME", help="With --serve: a host name that it is called by.")
    ] = [],  # noqa: B006
) -> None:
    """Open the MLflow server on the store's runs, for this machine only; or serve one for a team.

    The team's keeps what it knows, the administrator's first password too, in STORE/team.
    """
    from vjepa_exp.commands import machine

    asked = machine.team_server(store, port, host, database, artifacts, allow)
    if serve:
        machine.serve(asked)
    machine.require_nothing_of_a_team(asked)
    machine.ui(store, port)


@app.command()
def doctor(store: StoreDir = STORE) -> None:
    """Check this machine: Python, PyTorch, Ray, decoders, GPU, disk, shared memory."""
    from vjepa_exp.commands import machine

    _exit(machine.doctor(store))


@data.command("demo")
def data_demo(
    family: Annotated[Literal["demo", "tiny"], typer.Argument(help="'tiny' is for rehearsals.")] = "demo",
    store: StoreDir = STORE,
) -> None:
    """Make the demo videos; `run` does it by itself when it needs them."""
    from vjepa_exp.commands import demo

    demo.demo(family, store)


@data.command("index")
def data_index(
    source: Annotated[str, typer.Argument(help="Folder (or URI) of class folders, CSV 'path label' or with a header.")],
    out: Annotated[str, typer.Option("--out", help="Name of the data set.")],
    val: Annotated[str | None, typer.Option(help="A second source: its files are the val split.")] = None,
    root: Annotated[str | None, typer.Option(help="Folder (or URI) that the paths of a CSV count from.")] = None,
    datasets: Datasets = REGISTRY,
    address: Address = None,
    verbose: Verbose = False,
) -> None:
    """Make a manifest of your own videos or images and register it. A killed call continues where it was."""
    from vjepa_exp.commands import datasets as command
    from vjepa_exp.runtime.files import EachFile

    command.index(source, out, datasets, val, root, EachFile(address, verbose=verbose))


@data.command("import")
def data_import(
    format_name: Annotated[PublicSet, typer.Argument(metavar="FORMAT", help="One of the data sets below.")],
    files: Annotated[Path, typer.Argument(help="Folder of its videos or images.")],
    lists: Annotated[Path | None, typer.Option(help="Folder of its official lists; FILES if left out.")] = None,
    out: Annotated[str | None, typer.Option("--out", help="Name of the data set; FORMAT if left out.")] = None,
    datasets: Datasets = REGISTRY,
    address: Address = None,
    verbose: Verbose = False,
) -> None:
    """Make a manifest of a public data set by its official lists and register it. A killed call continues.

    \b
    FORMAT             official lists
    k400, k600, k700   train.csv, val.csv (Kinetics)
    k710               folders kinetics400, kinetics600, kinetics700 of such
    ssv2               something-something-v2-{labels,train,validation}.json
    howto100m          HowTo100M_v1.csv
    in1k               none for train/SYNSET and val/SYNSET (ImageNet), else
                       LOC_val_solution.csv or val.txt for the files of val
    places205          train_places205.csv, val_places205.csv
    inat21             train.json, val.json (iNaturalist 2021)
    ava                ava_{train,val}_v2.2.csv, excluded timestamps, actions
    """
    from vjepa_exp.commands import datasets as command
    from vjepa_exp.runtime.files import EachFile

    each = EachFile(address, verbose=verbose)
    command.import_lists(format_name, files, lists or files, out or format_name, datasets, each)


@data.command("check")
def data_check(
    name: Annotated[str, typer.Argument(help="A registered data set, or a manifest file.")],
    datasets: Datasets = REGISTRY,
    address: Address = None,
    verbose: Verbose = False,
) -> None:
    """Probe every file of a manifest again and say what changed; exit 1 if anything did."""
    from vjepa_exp.commands import datasets as command
    from vjepa_exp.runtime.files import EachFile

    _exit(command.check(name, datasets, EachFile(address, verbose=verbose)))


@data.command("prepare")
def data_prepare(
    name: Annotated[str, typer.Argument(help="A registered data set of videos.")],
    new: Annotated[str | None, typer.Option("--as", help="Name of the new set; NAME_256 if left out.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Where its files go; prepared/NEW beside the registry.")] = None,
    short_side: Annotated[int, typer.Option(min=16, help="Pixels; smaller videos keep their size.")] = 256,
    gop: Annotated[int, typer.Option(min=1, help="Frames of a group of pictures.")] = 16,
    crf: Annotated[int, typer.Option(min=0, max=51, help="Rate factor of x264: lower is better and larger.")] = 23,
    preset: Annotated[X264Preset, typer.Option(help="Of x264: slower is smaller.")] = "medium",
    min_psnr: Annotated[float, typer.Option(help="Decibels that each frame must reach against the source.")] = MIN_PSNR,
    datasets: Datasets = REGISTRY,
    address: Address = None,
    verbose: Verbose = False,
) -> None:
    """Encode a data set again so that it decodes fast, check every file, register it. A killed call continues.

    Small H.264 in closed groups of 16 frames; frames and their times are kept, rotation is applied, sound goes.
    """
    from vjepa_exp.commands import prepare as command
    from vjepa_exp.data.reencode import Settings
    from vjepa_exp.runtime.files import EachFile

    each = EachFile(address, deadline_s=command.DEADLINE_S, chunk=1, verbose=verbose)
    settings = Settings(short_side, gop, crf, preset)
    _exit(command.prepare_set(name, new, folder, settings, min_psnr, datasets, each))


@data.command("stats")
def data_stats(
    name: Annotated[str, typer.Argument(help="A registered data set, or a manifest file.")],
    picture: Annotated[Path | None, typer.Option(help="PNG to write; beside the manifest if left out.")] = None,
    datasets: Datasets = REGISTRY,
) -> None:
    """Print and draw what a data set is made of: durations, frame rates, sizes, classes."""
    from vjepa_exp.commands import stats

    stats.stats(name, datasets, picture)


@data.command("leaks")
def data_leaks(
    train: Annotated[str, typer.Argument(metavar="TRAIN", help="Its train split is searched: a set or a manifest.")],
    others: Annotated[list[str], typer.Argument(metavar="OTHERS...", help="Sets whose val splits must not be in it.")],
    out: Annotated[Path | None, typer.Option(help="List to write; beside the manifest if left out.")] = None,
    threshold: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Distance below which pictures are the same.")
    ] = SAME_PICTURES,
    datasets: Datasets = REGISTRY,
    address: Address = None,
    verbose: Verbose = False,
) -> None:
    """Find videos that a training set shares with other sets: same bytes, or same pictures behind another encoding.

    Writes a removal list for `exclude` of a mixture entry. A killed call continues where it was.
    """
    from vjepa_exp.commands import leaks as command
    from vjepa_exp.runtime.files import EachFile

    command.leaks(train, others, out, threshold, datasets, EachFile(address, verbose=verbose))


@weights.command("import")
def weights_import(
    file: Annotated[Path, typer.Argument(help="Checkpoint in the released layout.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder to write; in the store if left out.")] = None,
    store: StoreDir = STORE,
    num_heads: Annotated[int | None, typer.Option(help="Attention heads, where the sizes do not tell.")] = None,
) -> None:
    """Read a released checkpoint or probe strictly and write it as safetensors."""
    from vjepa_exp.commands import weights as command

    command.import_file(file, out or store / "weights" / file.name.partition(".")[0], num_heads)


@weights.command("export")
def weights_export(
    source: Annotated[str, typer.Argument(help="Folder made by import, or a pretrain stage of the store.")],
    out: Annotated[Path, typer.Option("--out", help="File to write.")],
    store: StoreDir = STORE,
) -> None:
    """Write weights in the released layout."""
    from vjepa_exp.commands import weights as command

    command.export(source, out, store)


@weights.command("verify")
def weights_verify(
    file: Annotated[Path, typer.Argument(help="Checkpoint in the released layout.")],
    golden: Annotated[Path, typer.Option("--golden", help="Folder with config.json and golden.npz.")],
    device: Annotated[Literal["cpu", "cuda"], typer.Option("--device", help="What computes.")] = "cpu",
) -> None:
    """Compare a checkpoint with golden outputs; exit 1 where they differ by more than the tolerance."""
    from vjepa_exp.commands import weights as command

    _exit(command.verify(file, golden, device))


@cluster.command("render")
def cluster_render(
    file: Annotated[str, typer.Argument(metavar="CLUSTER", help="Cluster file, or the name of one that comes along.")],
    provider: Annotated[ClusterProvider | None, typer.Option(help="All that the file names if left out.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder to write to.")] = Path("rendered"),
    experiment: Annotated[str, typer.Option(help="What a RayJob runs.")] = "table4_masking",
) -> None:
    """Write what `ray up` takes (AWS, GCP), or RayCluster, RayJob and MLflow (Kubernetes), if Ray has no objection."""
    from vjepa_exp.commands import cluster as command

    command.write(file, provider, experiment, out)


@cluster.command("validate")
def cluster_validate(
    files: Annotated[list[str], typer.Argument(metavar="CLUSTERS...", help="Cluster files, or names of such.")],
) -> None:
    """Render clusters without writing and let Ray's own code check them; needs no cloud."""
    from vjepa_exp.commands import cluster as command

    command.validate(files)


@cluster.command("submit")
def cluster_submit(
    spec: Spec,
    address: Dashboard = DASHBOARD,
    profile: Annotated[str, typer.Option("--profile", "-p", help="'paper' is the file as it stands.")] = "paper",
    sets: Sets = [],  # noqa: B006
    store: Annotated[str, typer.Option("--store", help="Where results are kept on the cluster.")] = "/mnt/vjepa/runs",
    datasets: Annotated[
        str | None, typer.Option("--datasets", help="Registry on the cluster; beside its store if left out.")
    ] = None,
    tracking: Annotated[str | None, typer.Option("--tracking", help="MLflow server, as the cluster sees it.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Of the job; SPEC-PROFILE if left out.")] = None,
) -> None:
    """Run an experiment on a cluster that is up, with the code that is here; it goes on when the terminal is closed."""
    from vjepa_exp.commands import jobs as command

    asked = command.Submission.of(spec, profile, sets, store, datasets, tracking, name)
    command.submit(asked, address)


@cluster.command("status")
def cluster_status(
    job: Annotated[str | None, typer.Argument(metavar="JOB", help="One of them; all if left out.")] = None,
    address: Dashboard = DASHBOARD,
) -> None:
    """List the jobs of a cluster: how they stand and how far they are."""
    from vjepa_exp.commands import jobs as command

    command.status(job, address)


@cluster.command("logs")
def cluster_logs(
    job: JobId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until the job ends; Ctrl-C leaves it alone.")] = False,
    address: Dashboard = DASHBOARD,
) -> None:
    """Print what a job has written; with --follow exit 1 where it does not end well."""
    from vjepa_exp.commands import jobs as command

    _exit(command.logs(job, address, follow=follow))


@cluster.command("stop")
def cluster_stop(job: JobId, address: Dashboard = DASHBOARD) -> None:
    """End a job. What it has done is kept, and the same submit goes on from there."""
    from vjepa_exp.commands import jobs as command

    _exit(command.stop(job, address))


def main(arguments: list[str] | None = None) -> None:
    """Run one command; a user's mistake is one line (per problem) on the standard error, never a traceback."""
    try:
        app(arguments)
    except UserError as error:
        _fail(str(error))
    except Exception as error:
        if (reason := of_machine(error)) is None:
            raise
        _fail(str(reason))


def _exit(done: bool) -> None:
    if not done:
        raise typer.Exit(FAILED)


def _fail(message: str) -> None:
    for line in message.splitlines():
        typer.echo(f"error: {line}", err=True)
    sys.exit(BAD_INPUT)
