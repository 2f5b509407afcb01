import json
import os
import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest

from provisioner import files
from provisioner.errors import InputError, UnknownNameError
from provisioner.files import check_writable, write_files
from provisioner.report.files import check_outputs, write_outputs
from provisioner.results.plan import Plan


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_writes_each_format_by_its_ending(plan: Plan, tmp_path: Path) -> None:
    given = [str(tmp_path / name) for name in ("p.csv", "p.MD", "p.json")]
    write_outputs(plan, check_outputs(given, Plan))
    assert names(tmp_path) == ["p.MD", "p.csv", "p.json"]
    assert (tmp_path / "p.csv").read_text(encoding="utf-8").startswith("design,role,machine,")
    assert (tmp_path / "p.MD").read_text(encoding="utf-8").startswith("# Splitwise-HA")
    assert json.loads((tmp_path / "p.json").read_text(encoding="utf-8"))["machines"] == 17


def test_writes_pictures_pages_and_rows(plan: Plan, tmp_path: Path) -> None:
    given = [str(tmp_path / name) for name in ("p.html", "p.png", "p.svg", "p.parquet")]
    write_outputs(plan, check_outputs(given, Plan))
    assert names(tmp_path) == ["p.html", "p.parquet", "p.png", "p.svg"]
    page = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>") and page.count("<figure") == 2
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    assert "Cost of each design at its own best" in (tmp_path / "p.svg").read_text(encoding="utf-8")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "p.parquet"), plan.to_frame())


def test_markdown_shows_the_pictures_written_with_it(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "text").mkdir()
    given = [str(tmp_path / name) for name in ("text/p.md", "pictures/of it.png", "pictures/p.svg")]
    write_outputs(plan, check_outputs(given, Plan))
    text = (tmp_path / "text" / "p.md").read_text(encoding="utf-8")
    first, shown, also, rest = text.split("\n\n", 3)
    assert first == "# Splitwise-HA: 15 dgx-h100 (prompt) + 2 dgx-a100 (token)"
    assert shown == f"![{first[2:]}](../pictures/of%20it.png)"
    assert also == "Also as [p.svg](../pictures/p.svg)."
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert (tmp_path / "text" / unquote(link)).is_file()
    assert f"{first}\n\n{rest}" == str(plan)


def test_a_table_by_name_goes_to_the_files_that_hold_one(plan: Plan, tmp_path: Path) -> None:
    given = [str(tmp_path / name) for name in ("p.csv", "p.parquet", "p.json")]
    write_outputs(plan, check_outputs(given, Plan, "alternatives"), "alternatives")
    assert pd.read_csv(tmp_path / "p.csv").design.tolist() == ["Splitwise-AA", "Baseline-A100"]
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "p.parquet"), plan.alternatives_frame())
    assert json.loads((tmp_path / "p.json").read_text(encoding="utf-8"))["kind"] == "plan"
    plan.save(str(tmp_path / "l.csv"), table="latency")
    assert len(pd.read_csv(tmp_path / "l.csv")) == 9


def test_a_folder_gets_every_table_with_rows_the_report_and_the_page(plan: Plan, tmp_path: Path) -> None:
    plan.save(f"{tmp_path}/all/")
    tables = ["alternatives.csv", "latency.csv", "pools.csv"]
    assert names(tmp_path / "all") == [*tables, "report.html", "report.md"]
    assert (tmp_path / "all" / "report.md").read_text(encoding="utf-8") == str(plan)
    plan.save(f"{tmp_path}/all/")  # again over what is there
    assert names(tmp_path) == ["all"]


def test_a_table_that_goes_nowhere_or_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown table 'desings' \(known: pools, latency, alternatives"):
        check_outputs([str(tmp_path / "p.csv")], Plan, "desings")
    with pytest.raises(InputError, match=r"table latency: names the table of a \.csv or \.parquet file"):
        check_outputs([str(tmp_path / "p.json"), f"{tmp_path}/all/"], Plan, "latency")


def test_a_picture_that_cannot_be_drawn_leaves_every_file_as_it_was(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("old")
    outputs = check_outputs([str(tmp_path / "p.csv"), str(tmp_path / "p.png")], Plan)
    broken = replace(plan, pools=None)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        write_outputs(broken, outputs)
    assert names(tmp_path) == ["p.csv"]
    assert (tmp_path / "p.csv").read_text() == "old"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "plan.txt",
            r"out .*plan\.txt: must end in \.csv, \.md, \.json, \.parquet, \.html, \.png, \.svg, \.pdf, which says",
        ),
        ("plan", "must end in"),
        ("none/plan.csv", r"the folder .*none does not exist"),
        ("folder.csv", "is not a file that can be written"),
        ("none/all/", r"the folder .*none does not exist"),
        ("file/", "is a file, not a folder"),
        ("x" * 250 + ".csv", "cannot be written: File name too long"),
    ],
)
def test_refuses_before_the_work_starts(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=message):
        check_outputs([f"{tmp_path}/{name}"], Plan)
    assert names(tmp_path) == ["file", "folder.csv"]


def test_refuses_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(files.tempfile, "NamedTemporaryFile", fail)
    with pytest.raises(InputError, match=r"--write-lp .*p\.lp: cannot be written: Read-only file system"):
        check_writable(str(tmp_path / "p.lp"), "--write-lp")


def test_refuses_a_write_protected_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "p.csv"
    target.write_text("old")
    monkeypatch.setattr(files.os, "access", lambda path, mode: False)  # root may write what is protected
    with pytest.raises(InputError, match="is write-protected"):
        check_outputs([str(target)], Plan)


def test_refuses_a_file_given_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="is given twice"):
        check_outputs(["p.csv", "./p.csv"], Plan)


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failing_write_leaves_the_old_file_and_nothing_else(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    target = tmp_path / "p.csv"
    target.write_text("old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    outputs = check_outputs([str(target)], Plan)
    monkeypatch.setattr(files.os, failing, fail)
    with pytest.raises(InputError, match=r"out .*p\.csv: cannot be written: No space left on device"):
        write_outputs(plan, outputs)
    assert names(tmp_path) == ["p.csv"]
    assert target.read_text() == "old"


def test_nothing_is_written_when_the_second_file_fails(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = check_outputs([str(tmp_path / "a.json"), str(tmp_path / "b.csv")], Plan)
    calls = []

    def fail_second(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", fail_second)
    with pytest.raises(InputError, match=r"b\.csv: cannot be written"):
        write_outputs(plan, outputs)
    assert names(tmp_path) == []


def test_permissions_are_those_of_the_old_file_or_the_usual(tmp_path: Path) -> None:
    old = tmp_path / "old.csv"
    old.write_text("x")
    old.chmod(0o640)
    write_files({str(old): "new", str(tmp_path / "new.csv"): "new"}, "--out")
    assert old.stat().st_mode & 0o777 == 0o640
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "new.csv").stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to(tmp_path / "real.csv")
    write_files({str(tmp_path / "link.csv"): "new"}, "--out")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text() == "new"
