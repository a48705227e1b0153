import io

from msrcnn.scores import progress_bar as module


def test_lines_where_there_is_no_terminal(monkeypatch):
    """A log file keeps every update, one below the other."""
    stderr = io.StringIO()
    monkeypatch.setattr(module.sys, "stderr", stderr)
    monkeypatch.setattr(module, "LINE_SECONDS", 0.0)
    list(module.progress_bar(range(3), desc="Fit", unit="iteration"))
    text = stderr.getvalue()
    assert "\r" not in text
    lines = text.splitlines()
    assert [line for line in lines if line.startswith("Fit: ") and "3/3" in line]
    assert all(line.count("Fit") <= 1 for line in lines)
