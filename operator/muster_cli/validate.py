"""`muster validate`: everything that is wrong with manifests at once, before a cluster or a run says it one by one.

Exit code 0 when they are fine, 1 when something is wrong in them, 2 when they can't be read at all.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from muster_cli.explain import explain
from muster_spec import Category, Manifest, Problem, SpecError, check
from muster_spec.support import fields_for_clusters

_FILE = click.Path(path_type=Path)


@click.command
@click.argument("files", nargs=-1, required=True, type=_FILE, metavar="FILE…")
@click.option("--explain", "explains", is_flag=True, help="Print the job as Muster understands it, defaults marked.")
@click.option("--against", multiple=True, type=_FILE, metavar="OLD", help="Also check what may change from OLD.")
@click.option("--job", metavar="NAME", help="Which job to explain or --set, where there are several.")
@click.option(
    "--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Change a field first, as `muster run` does."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for machines.")
@click.pass_context
def validate(
    ctx: click.Context,
    files: tuple[Path, ...],
    explains: bool,
    against: tuple[Path, ...],
    job: str | None,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Check manifests as the API server does, and more; prints every problem at once."""
    manifest = check(files, overrides=overrides, against=against, job=job)
    explained, problems = _explained(manifest, job) if explains else ("", manifest.problems)
    if as_json:
        click.echo(json.dumps(_report(manifest, problems)))
    elif problems or not explains:
        click.echo(_text(manifest, problems))
    if explained and not as_json:
        click.echo(explained, nl=False)
    ctx.exit(exit_code(problems))


def exit_code(problems: Iterable[Problem]) -> int:
    """0: nothing is wrong; 2: a file can't be read; 1: anything else."""
    categories = {problem.category for problem in problems}
    if categories & {Category.UNREADABLE, Category.SYNTAX}:
        return 2
    return 1 if categories else 0


def _explained(manifest: Manifest, job: str | None) -> tuple[str, tuple[Problem, ...]]:
    if manifest.problems:
        return "", manifest.problems
    try:
        return explain(manifest, job), ()
    except SpecError as error:
        return "", (Problem(Category.REFERENCE, str(error)),)


def _report(manifest: Manifest, problems: tuple[Problem, ...]) -> dict[str, Any]:
    return {
        "valid": not problems,
        "documents": [{"kind": one.kind, "name": one.name, "file": one.file} for one in manifest.documents],
        "problems": [{key: value for key, value in asdict(one).items() if key != "is_blocking"} for one in problems],
    }


def _text(manifest: Manifest, problems: tuple[Problem, ...]) -> str:
    if problems:
        lines = [line for problem in problems for line in _lines(problem)]
        count = len(problems)
        return "\n".join([*lines, "", f"{count} problem{'s' * (count != 1)} in {_files(problems)}."])
    counts = Counter(document.kind for document in manifest.documents)
    found = ", ".join(f"{count} {kind}{'s' * (count != 1)}" for kind, count in sorted(counts.items()))
    return "\n".join([f"Valid: {found or 'no documents of Muster'}.", *_notes(manifest)])


def _lines(problem: Problem) -> list[str]:
    """The place and what is wrong; below it, what would be right."""
    place = f"{problem.file}:{problem.line}" if problem.line else problem.file
    document = f"document {problem.document}" if problem.document else ""
    subject = f"{problem.kind}/{problem.name}" if problem.name else problem.kind
    head = ", ".join(part for part in (place, document, subject) if part)
    what = f"{problem.path}: {problem.message}" if problem.path else problem.message
    return [f"{head}: {what}" if head else what, *([f"    → {problem.remedy}"] if problem.remedy else [])]


def _files(problems: tuple[Problem, ...]) -> str:
    names = list(dict.fromkeys(problem.file for problem in problems if problem.file))
    return ", ".join(names) or "the manifest"


def _notes(manifest: Manifest) -> list[str]:
    """Fields that only a cluster's parts read, so that nobody wonders why a laptop doesn't follow them."""
    notes = []
    for document in manifest.documents:
        fields = [path for path, _ in fields_for_clusters(document.value, document.kind)]
        if fields:
            notes.append(f"{document.kind}/{document.name}: these take effect on a cluster: {', '.join(fields)}")
    return notes
