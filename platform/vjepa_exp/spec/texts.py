"""Names and addresses as Kubernetes, the clouds and a shell take them; a wrong one is told what it should be."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator


def _text(pattern: str, wanted: str) -> AfterValidator:
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if compiled.fullmatch(value) is None:
            raise ValueError(f"{value!r} should be {wanted}")
        return value

    return AfterValidator(check)


def hidden(text: str) -> str:
    """A text in which the passwords of addresses are '***'."""
    return re.sub(r"(://[^/@\s]*:)[^/\s]*@", r"\1***@", text)


def without_password(uri: str) -> str:
    """The address of a server; it ends in reports and records.

    Raises:
        ValueError: it holds a password, which is not repeated.
    """
    if hidden(uri) != uri:
        raise ValueError(
            "the address of an MLflow server must hold no password, reports show it: "
            "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )
    return uri


TrackingUri = Annotated[str, AfterValidator(without_password)]
ClusterName = Annotated[
    str, _text(r"[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?", "at most 40 of a-z, 0-9 and '-', beginning with a letter")
]
"""A name that Kubernetes and both clouds take, with room for what they hang on to it."""
KubeName = Annotated[
    str, _text(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", "a Kubernetes name: at most 63 of a-z, 0-9 and '-'")
]
LabelKey = Annotated[
    str,
    _text(
        r"(?:[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?",
        "the key of a Kubernetes label: [prefix/]name",
    ),
]
LabelValue = Annotated[
    str,
    _text(
        r"(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?",
        "the value of a Kubernetes label: at most 63 letters, digits, '-', '_' and '.'",
    ),
]
Labels = dict[LabelKey, LabelValue]
Image = Annotated[
    str,
    _text(
        r"[a-z0-9][a-z0-9._/-]*(?::[0-9]+/[a-z0-9._/-]+)?(?::(?!latest$)[A-Za-z0-9_][A-Za-z0-9_.-]*|@sha256:[0-9a-f]{64})",
        "a container image with a tag other than 'latest', or a digest: without one, nodes may run different code",
    ),
]
StorageUri = Annotated[
    str,
    _text(
        r"nfs://[A-Za-z0-9.:-]+(?:/[A-Za-z0-9._/-]*)|pvc://[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?",
        "nfs://SERVER/PATH or, on Kubernetes, pvc://CLAIM: results are kept on a shared disk, not yet in a bucket",
    ),
]
AbsolutePath = Annotated[str, _text(r"(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*)+", "an absolute path without spaces")]
HttpUri = Annotated[str, _text(r"https?://[^\s/@]+(?:/\S*)?", "http(s)://SERVER, without a password")]
VariableName = Annotated[str, _text(r"[A-Za-z_][A-Za-z0-9_]*", "the name of an environment variable")]
UserName = Annotated[str, _text(r"[a-z_][a-z0-9_-]*", "the name of a user")]
OneLine = Annotated[str, _text(r"[^\n\r\0]*", "one line")]
ZoneName = Annotated[str, _text(r"[a-z]+-[a-z0-9-]+", "the name of a region or zone, such as us-east-1a")]
