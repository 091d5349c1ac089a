"""The command line itself: what it says of an error."""

from pathlib import Path

import pytest

from jobs import cli
from schemas.errors import Fatal, UserError
from tests.jobs.conftest import Command
from tests.shards.runs import whole_run


@pytest.mark.parametrize(("error", "status"), [(UserError, 2), (Fatal, 1)])
def test_an_error_cannot_steer_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: type[Exception], status: int
) -> None:
    def fail() -> None:
        raise error("a model wrote \x1b]0;owned\x07\x9b31m\nthis")

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == status
    assert capsys.readouterr().err == "zoomtrail: a model wrote  ]0;owned  31m this\n"


def test_a_value_that_breaks_a_condition_is_shown_without_its_control_characters(
    tmp_path: Path, zoomtrail: Command
) -> None:
    whole_run(str(tmp_path))
    refused = zoomtrail("stats", tmp_path, "--where", "CAST(trajectory_id || chr(27) || '[31m' AS INTEGER) > 0")
    assert refused.returncode == 2 and "[31m" in refused.stderr
    assert "\x1b" not in refused.stderr and refused.stderr.count("\n") == 1
