"""Text from files that is made to do harm where it is shown."""

import csv
import dataclasses
import io
import logging
import re
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console

from msrcnn.ablation.display import Display
from msrcnn.engine import run_log
from msrcnn.error_report import report_errors
from msrcnn.errors import UserError
from msrcnn.escaping import for_csv, for_markdown, one_line, printable, printable_log
from msrcnn.evaluation.result_files import write_per_class

HOSTILE = "\x1b[2J\x07\r\n\t\x00\u202e\u2028\x9b\ud800"
NAMES = ["人 人", "日本語", "한국어", "مرحبا", "क्‍ष", "👩‍🚀", "été", "a\u3000b"]


@example("\u202a\u202e\u2066\u2069\x7f\x9f\udfff")
@given(st.text())
def test_nothing_but_text_is_left(text):
    assert not re.search(
        r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", one_line(text)
    )
    printable(text).encode()


def test_names_of_all_scripts_stay_as_they_are():
    assert [printable(name) for name in NAMES] == NAMES


def test_control_characters_are_shown():
    assert printable(HOSTILE) == r"\x1b[2J\x07\r\n\t\x00\u202e\u2028\x9b\ud800"
    assert one_line(" a\n  b\r\nc\x1b ") == r"a b c\x1b"


def test_lines_and_colors_of_a_log_stay():
    assert printable_log("\x1b[1;32ma\x1b[0m\n\x1b[2Jb\r") == "\x1b[1;32ma\x1b[0m\n\\x1b[2Jb\\r"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a|b\nc", r"a\|b\nc".replace(r"\n", r"\\n")),
        ("<script>", r"\<script>"),
        ("[a](b) `c` *d* &lt;", r"\[a\](b) \`c\` \*d\* \&lt;"),
        ("(d) target mask + high-resolution RoI", "(d) target mask + high-resolution RoI"),
    ],
)
def test_markdown(text, expected):
    assert for_markdown(text) == expected


def test_csv():
    names = ["=1+1", "+1", "-1", "@sum", "\t=1", "a,b", 'a"b', "a\nb", "person"]
    file = io.StringIO()
    csv.writer(file).writerow(map(for_csv, names))
    (row,) = csv.reader(io.StringIO(file.getvalue()))
    assert row == ["'=1+1", "'+1", "'-1", "'@sum", r"\t=1", "a,b", 'a"b', r"a\nb", "person"]


def test_an_error_is_one_printable_line(capsys):
    def fail():
        raise UserError(f"bad name {HOSTILE}")

    with pytest.raises(SystemExit):
        report_errors(fail)
    error = capsys.readouterr().err
    assert error.endswith("\n")
    assert error[:-1].isprintable()


@pytest.mark.parametrize("start", [run_log.start_console_log, lambda: run_log.start_log("out")])
def test_log_is_printable(start, monkeypatch, tmp_path):
    stream = io.StringIO()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdout", stream)
    logger = logging.getLogger("msrcnn")
    monkeypatch.setattr(logger, "handlers", [])
    run_log.setup_logger.cache_clear()
    start()
    logger.warning("class %s", HOSTILE)
    run_log.setup_logger.cache_clear()
    assert r"\x1b[2J\x07" in stream.getvalue()
    assert "\x07" not in stream.getvalue()


def test_markup_is_not_taken_as_a_style():
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    display = Display("[red]AP[/red]", "segm_mask_score/AP", console)
    console.print(display._table([], ""))
    assert "[red]AP[/red]" in console.file.getvalue()


def test_names_of_classes_in_a_csv_file(evaluation, tmp_path):
    first = evaluation.precision["bbox"].categories[0]
    renamed = [{**first, "name": "=cmd|'\x1b\ud800"}]
    precision = dataclasses.replace(evaluation.precision["bbox"], categories=renamed)
    write_per_class(
        dataclasses.replace(evaluation, precision={"bbox": precision}), tmp_path / "classes.csv"
    )
    (row,) = csv.DictReader((tmp_path / "classes.csv").read_text().splitlines())
    assert row["category"] == r"'=cmd|'\x1b\ud800"
