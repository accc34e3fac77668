"""The dry run: what each file maps to, and what would fix it."""

import json
import os
from pathlib import Path

import pytest
from commands import run
from recording_files import Signal, noise, psg, stages, write_edf

from sleepfm.errors import RecordingError
from sleepfm.recordings import signals
from sleepfm.recordings.identifying_names import identifying_stem
from sleepfm.scan import scan


def bytes_read() -> int:
    """How much this process has read from files so far."""
    counted = Path("/proc/self/io")
    if not counted.exists():
        pytest.skip("this system does not count what a process reads")
    return int(counted.read_text().split()[1])


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    write_edf(
        tmp_path / "a.edf", psg(90),
        annotations=[*stages("W12"), (35, 12, "Obstructive apnea"), (80, None, "John Smith")],
    )  # fmt: skip
    odd = {"ECG": Signal(noise(60, 100), 100), "Brustgurt Thor X": Signal(noise(60, 25), 25, "")}
    odd["EEG Fpz-Cz"] = Signal(noise(60, 100), 100)
    write_edf(tmp_path / "b.edf", odd)
    (tmp_path / "c.edf").write_text("no recording")
    write_edf(tmp_path / "Smith_John.edf", {"Z": Signal(noise(60, 100), 100)})
    return tmp_path


def test_what_each_file_maps_to(cohort: Path) -> None:
    found = scan([cohort])
    files = {f.file: f for f in found.files}
    a = files["a.edf"]
    assert (a.problem, a.format, a.duration_s) == ("", "EDF+C", 90)
    assert {s.slot: (s.tier, s.channels, s.sample_rate, s.unit) for s in a.slots}["CHEST"] == (
        "alias", ("Chest",), 25, "V"
    )  # fmt: skip
    assert a.scored_epochs == {"W": 1, "N1": 1, "N2": 1}
    assert a.events == {"apnea": 1}
    assert "not an EDF or BDF file" in files["c.edf"].problem
    assert "no usable channel; it holds Z" in files["Smith_John.edf"].problem
    assert files["Smith_John.edf"].warnings == (
        "the name looks like a person's name: consider --ids hash",
    )
    assert found.slots_filled["ECG"] == 2
    assert found.slots_filled["CHEST"] == 1


def test_names_that_no_slot_took_come_with_what_uses_them(cohort: Path) -> None:
    fixes = {u.name: (u.files, u.fix) for u in scan([cohort]).unmatched}
    assert fixes["EEG Fpz-Cz"] == (1, "--substitute (stands in for C3-M2)")
    assert fixes["Brustgurt Thor X"] == (
        1, '--channels FILE with the line CHEST: "Brustgurt Thor X"'
    )  # fmt: skip
    assert fixes["Z"] == (1, "")


def test_an_ambiguity_names_the_lines_that_settle_it(tmp_path: Path) -> None:
    signals = {"SpO2": psg(60)["SpO2"], "SaO2": psg(60)["SpO2"], "ECG": psg(60)["ECG"]}
    found = scan([write_edf(tmp_path / "n.edf", signals)])
    assert "SaO2 could be SpO2 and SaO2" in found.files[0].problem
    assert [(u.name, u.fix) for u in found.unmatched] == [
        (name, f'--channels FILE with the line SaO2: "{name}"') for name in ("SaO2", "SpO2")
    ]


def test_the_fixes_work(cohort: Path) -> None:
    lines = cohort / "channels.yaml"
    lines.write_text('CHEST: "Brustgurt Thor X"\n')
    found = scan([cohort / "b.edf"], substitute=True, overrides=lines)
    assert {s.slot: s.tier for s in found.files[0].slots} == {
        "ECG": "alias", "CHEST": "override", "C3-M2": "substitute"
    }  # fmt: skip


def test_the_command_prints_a_table_and_json(cohort: Path) -> None:
    table = run("scan", cohort)
    assert table.returncode == 0
    shown, said = table.stdout.decode(), table.stderr.decode()
    assert "a.edf" in shown
    assert "Brustgurt Thor X" in shown
    assert "not an EDF or BDF file" in said
    assert "2 of 4 recordings can be built" in said
    assert "John" not in shown.replace("Smith_John", "")
    lines = [line.split() for line in shown.splitlines()]
    assert max(map(len, shown.splitlines())) <= 80
    assert ["a.edf", "0:01", "h", "9", "W", "0.5", "N1", "0.5", "N2", "0.5", "1"] in lines
    assert ["CHEST", "1", "of", "2", "Chest", "(alias,", "25", "Hz,", "V)"] in lines
    assert ["1", "1", "unknown", "word"] in lines  # the name of a person, which is not stored
    wide = run("scan", cohort, "--wide").stdout.decode()
    assert "CHEST = Chest (alias, 25 Hz, V)" in wide and "apnea 1" in wide
    machine = run("scan", cohort, "--format", "json")
    plain = json.loads(machine.stdout)
    assert {f["file"] for f in plain["files"]} == {"a.edf", "b.edf", "c.edf", "Smith_John.edf"}
    assert plain["slots_filled"]["ECG"] == 2


def test_nothing_to_scan(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="there is no recording"):
        scan([tmp_path])
    (tmp_path / "c.edf").write_text("no recording")
    assert run("scan", tmp_path).returncode == 1
    assert run("scan", tmp_path, "--format", "csv").returncode == 2


def test_no_signal_is_read(cohort: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file whose data is a hole of 4 GB is scanned at once."""
    path = write_edf(cohort / "big.edf", {"ECG": Signal(noise(30, 200), 200)})
    raw = bytearray(path.read_bytes())
    raw[236:244] = b"10000000"[:8]
    raw[244:252] = b"0.01    "
    path.write_bytes(raw)
    os.truncate(path, 512 + 400 * 10_000_000)
    monkeypatch.setattr(signals, "_SPARSE_FROM", 1 << 40)  # a hole is refused otherwise
    before = bytes_read()
    found = scan([path])
    assert found.files[0].duration_s == 100_000
    assert bytes_read() - before < 10_000_000


@pytest.mark.parametrize(
    ("stem", "looks"),
    [
        ("Smith_John", "a person's name"), ("Müller, Anna 2", "a person's name"),
        ("psg 1961-05-03", "a date"), ("20110704_2", "a date"), ("03.05.61", "a date"),
        ("12345678", "a hospital number"), ("MRN-004512", "a hospital number"),
        ("shhs1-200001", None), ("mesa-sleep-0001", None), ("SC4001E0-PSG", None),
        ("tr03-0005", None), ("nox-a1-2min", None), ("ucddb018-eeg-night", None),
        ("Sleep_Study_7", None), ("sim-0003", None), ("SN001", None),
    ],
)  # fmt: skip
def test_names_that_may_tell_who_slept(stem: str, looks: str | None) -> None:
    assert identifying_stem(stem) == looks


def test_the_number_of_processes_changes_nothing(cohort: Path) -> None:
    calls: list[tuple[int, int]] = []
    alone = scan([cohort], workers=1)
    together = scan([cohort], workers=2, progress=lambda *done: calls.append(done))
    assert together == alone
    assert [file.words for file in together.files] == [file.words for file in alone.files]
    assert calls == [(n, 4) for n in range(1, 5)]


def test_many_files_are_scanned_in_as_many_processes_as_there_are_cores(
    cohort: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def results(function, context, jobs, count):
        asked.append(count)
        return (function(context, job) for job in jobs)

    monkeypatch.setattr("sleepfm.scan.process_pool.results", results)
    monkeypatch.setattr("sleepfm.scan.cores", lambda: 3)
    for files_per_process, count in ((4, None), (2, 2), (1, 3)):
        monkeypatch.setattr("sleepfm.scan._FILES_PER_PROCESS", files_per_process)
        asked.clear()
        assert len(scan([cohort]).files) == 4
        assert asked == ([] if count is None else [count])
