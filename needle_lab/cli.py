"""`needle-lab`: the rooms of the package from a terminal.

    needle-lab lab                      open JupyterLab on the first lecture
    needle-lab doctor                   what is on this machine, and what to do about what is not
    needle-lab summary FILE             the layers of a saved model or an ONNX file
    needle-lab diff A B                 how two saved models differ, and whether one loads into the other
    needle-lab inspect FILE.onnx        operators, inputs, outputs and sizes of an ONNX file
    needle-lab grade release a1 DIR     the student copy of an assignment
    needle-lab grade run a1 DIR         grade what came back
    needle-lab bench                    time needle_lab beside PyTorch and others, on this machine

Each subcommand is one function; what it needs is imported inside it, so that `doctor` works where nothing else does.
Exit status: 0 done (for `diff`: equal), 1 a difference, 2 an error, told in one message.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ._version import __version__
from .errors import FileFormatError, MissingExtraError, MissingFileError, NeedleError

FIRST_LECTURE = "01_tensors_and_autograd.ipynb"


def main(argv: list[str] | None = None) -> int:
    """Run one subcommand; returns the exit status. argv: the words after `needle-lab` (default: those of the shell)."""
    parser = _parser()
    arguments, options = parser.parse_known_args(argv)
    if arguments.run in (_lab, _bench):
        arguments.options = options             # for JupyterLab or the benchmarks, as they are
    elif options:
        parser.error(f"unrecognized arguments: {' '.join(options)}")
    try:
        return arguments.run(arguments)
    except NeedleError as error:
        print(f"needle-lab: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:                     # `needle-lab summary x | head` closed our output
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="needle-lab", description="The rooms of needle_lab from a terminal.")
    parser.add_argument("--version", action="version", version=f"needle-lab {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")

    command = commands.add_parser("lab", help="open JupyterLab on the first lecture; other options go to JupyterLab")
    command.add_argument("--notebooks", type=Path, metavar="DIR", help="folder with the lectures (default: found)")
    command.set_defaults(run=_lab)

    command = commands.add_parser("doctor", help="what is on this machine, and what to do about what is not")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(run=_doctor)

    command = commands.add_parser("summary", help="the layers of a saved model or an ONNX file")
    command.add_argument("file", type=Path)
    command.set_defaults(run=_summary)

    command = commands.add_parser("diff", help="how two saved models or ONNX files differ")
    command.add_argument("a", type=Path)
    command.add_argument("b", type=Path)
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(run=_diff)

    command = commands.add_parser("inspect", help="operators, inputs, outputs and sizes of an ONNX file")
    command.add_argument("file", type=Path)
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(run=_inspect)

    command = commands.add_parser("bench", add_help=False, help="time needle_lab beside PyTorch and others (bench --help)")
    command.set_defaults(run=_bench)

    _add_grade(commands.add_parser("grade", help="release an assignment, grade what came back"))
    return parser


def _add_grade(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(required=True, metavar="STEP", title="steps")

    command = commands.add_parser("release", help="write the student copy of an assignment; overwrites nothing")
    command.add_argument("assignment", help="its name (a1) or the path of its notebook")
    command.add_argument("folder", type=Path)
    command.set_defaults(run=_grade_release)

    command = commands.add_parser("run", help="grade the notebooks of a folder, each in isolation")
    command.add_argument("assignment", help="its name (a1)")
    command.add_argument("submissions", type=Path, help="a notebook, or a folder with one for each student")
    command.add_argument("--out", type=Path, metavar="DIR", help="write grades.csv, grades.json and feedback/ there")
    command.add_argument("--seed", type=int, help="of the inputs (default: drawn anew)")
    command.add_argument("--jobs", type=int, help="notebooks at the same time (default: one per core)")
    command.add_argument("--seconds", type=float, default=120,
                         help="processor time that a notebook may use (default: %(default)s)")
    command.add_argument("--isolation", choices=["auto", "bubblewrap", "process"], default="auto")
    command.set_defaults(run=_grade_run)


# ---------------------------------------------------------------------------------------------- lab, doctor

def _lab(arguments: argparse.Namespace) -> int:
    try:
        from jupyterlab.labapp import main as jupyterlab
    except ImportError:
        raise MissingExtraError("JupyterLab is not installed. Install it: pip install 'needle-lab[lab]'") from None
    folder = arguments.notebooks or find_notebooks(Path.cwd())
    _hand_out(folder)
    return jupyterlab(lab_arguments(folder, arguments.options)) or 0


def find_notebooks(start: Path) -> Path:
    """The folder `notebooks` with the lectures: under `start`, under one of its parents, or beside the package."""
    here = Path(__file__).resolve().parent.parent
    for folder in (start, *start.parents, here):
        if (folder / "notebooks" / FIRST_LECTURE).is_file():
            return folder / "notebooks"
    raise MissingFileError(f"no folder notebooks/ with {FIRST_LECTURE} in {start} or above it. "
                           "Run this inside a clone of the project, or name the folder with --notebooks DIR")


def _hand_out(notebooks: Path) -> None:
    """Put the student copy of each assignment of this clone beside the lectures, where there is none yet."""
    from .grading import release

    for source in sorted(notebooks.parent.glob("assignments/*/*.ipynb")):
        if not (notebooks / "assignments" / source.name).exists():
            print(f"new assignment: {release(source, notebooks / 'assignments')}")


def lab_arguments(folder: Path, options: list[str]) -> list[str]:
    """The command line for JupyterLab: the first lecture in view, no news or update pop-ups, root only for root."""
    if not folder.is_dir():
        raise MissingFileError(f"{folder} is not a folder")
    first = f"/tree/{FIRST_LECTURE}" if (folder / FIRST_LECTURE).is_file() else ""
    words = [f"--ServerApp.root_dir={folder.resolve()}",
             f"--LabApp.default_url=/lab{first}",          # in the printed address too, for a browser elsewhere
             "--LabApp.news_url=None",
             "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        words.append("--allow-root")
    return words + options


def _doctor(arguments: argparse.Namespace) -> int:
    from . import doctor

    findings = doctor.examine()
    _print_json(doctor.as_json(findings)) if arguments.json else print(doctor.table(findings))
    return 0


def _bench(arguments: argparse.Namespace) -> int:
    root = Path(__file__).resolve().parent.parent
    if not (root / "benchmarks" / "__main__.py").is_file():
        raise MissingFileError("the benchmarks are part of a clone of the project, not of the installed package. "
                               "Run `make bench` in a clone")
    return subprocess.run([sys.executable, "-m", "benchmarks", *arguments.options], cwd=root, check=False).returncode


# ------------------------------------------------------------------------------------ grading

def _grade_release(arguments: argparse.Namespace) -> int:
    from .grading import release

    print(f"wrote {release(arguments.assignment, arguments.folder)}")
    return 0


def _grade_run(arguments: argparse.Namespace) -> int:
    from .grading import grade
    from .grading.sandbox import Limits

    report = grade(arguments.submissions, arguments.assignment, seed=arguments.seed, jobs=arguments.jobs,
                   limits=Limits(seconds=arguments.seconds), isolation=arguments.isolation, progress=True)
    print(report)
    if arguments.out:
        print(f"wrote {report.write(arguments.out)}/")
    return 0


# ------------------------------------------------------------------------------------ models in files

def _summary(arguments: argparse.Namespace) -> int:
    if _is_onnx(arguments.file):
        from . import onnx

        onnx.load(arguments.file).summary()
        return 0
    from .serialize.diff import signature_diff

    rows = signature_diff(arguments.file, arguments.file).rows          # against itself: its own tree
    tree = [(row.depth, row.a) for row in rows if row.a]
    labels = ["  " * depth + f"{entry['name']} {entry['type']}".strip() for depth, entry in tree]
    for label, (_, entry) in zip(labels, tree, strict=True):
        print(f"{label:<{max(map(len, labels))}}  {_tensor_columns(entry)}".rstrip())
    print(f"{sum(entry['numel'] for _, entry in tree if entry['type'] == 'Parameter'):,} parameters")
    return 0


def _tensor_columns(entry: dict[str, Any]) -> str:
    if entry["shape"] is None:                  # a module
        return ""
    return f"{str(tuple(entry['shape'])):<20} {entry['dtype']:<9} {entry['numel']:>12,}"


def _diff(arguments: argparse.Namespace) -> int:
    a, b = _comparable(arguments.a), _comparable(arguments.b)
    from .serialize.diff import signature_diff

    difference = signature_diff(a, b)
    _print_json(difference.to_json()) if arguments.json else print(difference)
    return 1 if difference.changes else 0


def _inspect(arguments: argparse.Namespace) -> int:
    if not _is_onnx(arguments.file):
        raise FileFormatError(f"{arguments.file} is not named .onnx. For a saved model: needle-lab summary FILE")
    from . import onnx

    found = onnx.inspect(arguments.file)
    _print_json(found.to_json()) if arguments.json else print(found)
    return 0


def _comparable(path: Path) -> Any:
    """What signature_diff takes: the path of a weight file as it is, an ONNX file as a Module."""
    if not _is_onnx(path):
        return _file(path)
    from . import onnx

    return onnx.load(path)


def _is_onnx(path: Path) -> bool:
    return _file(path).suffix == ".onnx"


def _file(path: Path) -> Path:
    if not path.is_file():
        raise MissingFileError(f"no file {path}")
    return path


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))


if __name__ == "__main__":
    sys.exit(main())
