from __future__ import annotations

import pytest

import vjepa_exp.data.reader_trial as trial_module
from vjepa_exp.data.reader_trial import try_readers
from vjepa_exp.data.readers import VIDEO_READERS, DecodeError, Frames, FramesTHWC, Reader, decode, load


def test_every_reader_is_tried_and_those_that_are_here_are_right() -> None:
    trials = list(try_readers())
    assert [trial.reader for trial in trials] == list(VIDEO_READERS)
    for trial in trials:
        assert not trial.wrong
        assert (trial.clips_per_s > 0) is not bool(trial.absent)
        assert not trial.absent or trial.reader == "torchcodec"


def test_a_reader_that_is_wrong_fails_or_is_missing_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def spoilt(path: str, frames: Frames, reader: Reader) -> FramesTHWC:
        if reader == "torchcodec":
            raise DecodeError("corrupt", path, "not today")
        return decode(path, frames + 1 if reader == "decord" else frames, "pyav")

    def missing(reader: Reader) -> object:
        if reader == "pyav":
            raise OSError("libx.so: cannot open shared object file")
        return load("pyav")

    monkeypatch.setattr(trial_module, "decode", spoilt)
    monkeypatch.setattr(trial_module, "load", missing)
    found = {trial.reader: trial for trial in try_readers()}
    assert found["pyav"].absent == "libx.so: cannot open shared object file"
    assert found["torchcodec"].wrong == "corrupt: not today"
    assert "other frames" in found["decord"].wrong
