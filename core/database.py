"""The SQLite file: its migrations, how it is opened, and its errors as sentences."""

import json
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from sqlite_utils import Database, Migrations

Access = Literal["shared", "exclusive"]
"""Whether other connections may use the file while one has it open."""
PATIENCE = 30.0
"""Seconds to wait while another process writes."""
_PAUSE = 0.05
"""Seconds between two tries to open a file that others are making."""


def audits_and_runs(db: Database) -> None:
    db.table("audits").create(
        {
            "id": str,
            "name": str,
            "plan": str,
            "platform": str,
            "model": str,
            "started_at": str,
            "finished_at": str,
            "seconds": float,
        },
        pk="id",
        not_null={"plan", "platform", "model", "started_at", "seconds"},
    )
    run = {"audit_id": str, "identity": str, "run": str, "stored_at": str}
    db.table("runs").create(
        run,
        pk=("audit_id", "identity"),
        foreign_keys=[("audit_id", "audits", "id")],
        not_null={"run"},
    )
    db.table("excluded_runs").create(
        {"id": int, **run, "reason": str},
        pk="id",
        foreign_keys=[("audit_id", "audits", "id")],
        not_null={"audit_id", "identity", "run", "reason"},
    )
    db.table("results").create(
        {"audit_id": str, "result": str, "saved_at": str},
        pk="audit_id",
        foreign_keys=[("audit_id", "audits", "id")],
        not_null={"result"},
    )
    db.table("generations").create(
        {"id": int, "run": str, "created_at": str}, pk="id", not_null={"run", "created_at"}
    )


def owned_generations(db: Database) -> None:
    """Whose a picture is, and what it is found by; what was there before is nobody's."""
    for column in (
        "owner text not null default ''",
        "job_id text",
        "outcome text",
        "searched text",
    ):
        db.execute(f"alter table generations add column {column}")
    for row in list(db.query("select id, run from generations")):
        run = json.loads(row["run"])
        db.execute(
            "update generations set job_id = ?, outcome = ?, searched = ? where id = ?",
            [run["job"]["id"], run["outcome"], search_text(run), row["id"]],
        )
    db.execute("create index generations_by_job on generations (job_id)")
    db.execute("create index generations_by_owner on generations (owner, outcome, id, searched)")


def facets_tags_and_files(db: Database) -> None:
    """What a history is narrowed by, which files a picture has, and whether it is shared."""
    for column in (
        *(f"{name} text not null default ''" for name in FACETS),
        "tags text not null default ''",
        "shared integer not null default 0",
    ):
        db.execute(f"alter table generations add column {column}")
    db.execute(
        "create table generation_files (name text not null, generation integer not null "
        "references generations (id) on delete cascade)"
    )
    for row in list(db.query("select id, run from generations")):
        run = json.loads(row["run"])
        assignments = ", ".join(f"{name} = ?" for name in FACETS)
        db.execute(f"update generations set {assignments} where id = ?", [*facets(run), row["id"]])
        for name in file_names(run):
            db.execute("insert into generation_files values (?, ?)", [name, row["id"]])
    db.execute("create index generation_files_by_name on generation_files (name)")
    db.execute("create index generation_files_by_generation on generation_files (generation)")
    db.execute("drop index generations_by_owner")
    db.execute(
        "create index generations_by_owner on generations "
        f"(owner, outcome, id, searched, tags, {', '.join(FACETS)})"
    )


def grids_presets_and_styles(db: Database) -> None:
    """What an owner keeps beside pictures."""
    db.execute(
        "create table grids (id text primary key, owner text not null, name text not null, "
        "grid text not null, created_at text not null)"
    )
    db.execute("create index grids_by_owner on grids (owner, created_at)")
    db.execute(
        "create table presets (owner text not null, name text not null, preset text not null, "
        "saved_at text not null, primary key (owner, name))"
    )
    db.execute(
        "create table styles (owner text not null, name text not null, prompt text not null, "
        "negative_prompt text not null, primary key (owner, name))"
    )


FACETS = ("sampler", "size", "settings", "platform", "model")
"""Columns of a picture that a history is narrowed by."""


def facets(run: Mapping[str, Any]) -> tuple[str, ...]:
    """Of a stored run, in the order of `FACETS`: the first picture's, as 128x192 its size, and
    the configuration's key.

    Whoever changes this adds a step that computes it anew.
    """
    request = run["job"]["requests"][0]
    settings = " ".join(
        f"{slot}={value}" for slot, value in run["job"]["configuration"]["settings"]
    )
    return (
        request["sampler"],
        f"{request['width']}x{request['height']}",
        settings,
        run["environment"]["fingerprint"],
        request["model"]["digest"],
    )


def file_names(run: Mapping[str, Any]) -> tuple[str, ...]:
    """Of a stored run's picture files, without their folder."""
    paths = (picture["path"] for picture in run["pictures"])
    return tuple(Path(path).name for path in paths if path)


def search_text(run: Mapping[str, Any]) -> str:
    """What a stored run is found by, in small letters: prompts, seeds, sampler, settings.

    Whoever changes this adds a step that computes it anew.
    """
    parts = [f"{slot}={value}" for slot, value in run["job"]["configuration"]["settings"]]
    for request in run["job"]["requests"]:
        seed, sampler = f"seed {request['seed']}", request["sampler"]
        parts += [request["prompt"], request["negative_prompt"], seed, sampler]
    return "\n".join(parts).casefold()


def shadow_twins(db: Database) -> None:
    """What the baseline makes of a picture's request, by the picture's job: its run where there is
    one, and what came of it."""
    db.table("twins").create(
        {"job_id": str, "run": str, "twin": str, "saved_at": str},
        pk="job_id",
        not_null={"twin", "saved_at"},
    )


STEPS = (
    audits_and_runs,
    owned_generations,
    facets_tags_and_files,
    grids_presets_and_styles,
    shadow_twins,
)
"""In the order in which they are applied. A released step never changes; a change is a new step."""
MIGRATIONS = Migrations("seedproof")
for step in STEPS:
    MIGRATIONS()(step)


class StoreError(Exception):
    """The file cannot serve; the message is one sentence that says what to do."""


def open_database(path: Path, access: Access = "shared") -> Database:
    """Open or make the file, and bring it to this version's shape.

    `shared`: write-ahead logging lets others read while one writes, and a process that is killed
    leaves every committed transaction behind. `exclusive`: a rollback journal and one lock from
    now until the file is closed, for file systems without shared memory and with slow or
    unreliable locks (network mounts); every other connection is refused. Raises StoreError,
    without having changed the file, where it is not Seedproof's.
    """
    end = time.monotonic() + PATIENCE
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                return _opened(path, access)
            except sqlite3.OperationalError as error:
                # Of two who change a new file at once SQLite refuses one without letting it wait.
                if "locked" not in str(error) or time.monotonic() > end:
                    raise
                time.sleep(_PAUSE)


def _opened(path: Path, access: Access) -> Database:
    connection = sqlite3.connect(path, timeout=PATIENCE, check_same_thread=False)
    try:
        db = Database(connection, execute_plugins=False)
        if access == "exclusive":
            # The lock comes first: two who both read already would wait for each other.
            db.execute("pragma locking_mode = exclusive")
            db.execute("begin exclusive")
            db.commit()
        _refuse_others(db, path)
        if access == "exclusive":
            db.execute("pragma journal_mode = delete")
        else:
            db.enable_wal()
        if MIGRATIONS.pending(db):
            db.execute("begin immediate")
            MIGRATIONS.apply(db)
            db.commit()
        db.execute("pragma foreign_keys = on")
    except BaseException:
        connection.close()
        raise
    return db


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what SQLite and the file system say into a StoreError; leave mistakes of ours alone."""
    try:
        yield
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
        raise
    except sqlite3.DatabaseError as error:
        raise StoreError(f"{path} {_advice(str(error))}") from error
    except OSError as error:
        raise StoreError(
            f"{path} cannot be used ({error.strerror}): name a file in a folder that you may "
            "write to."
        ) from error


def _refuse_others(db: Database, path: Path) -> None:
    """Only an empty file, or one with our migrations and no newer ones, is ours."""
    # Tables first: another process may be making them, and commits them with their migration.
    others = set(db.table_names()) - {MIGRATIONS.migrations_table}
    applied = {migration.name for migration in MIGRATIONS.applied(db)}
    if newer := applied - {step.__name__ for step in STEPS}:
        raise StoreError(
            f"{path} was written by a newer version of Seedproof ({', '.join(sorted(newer))}): "
            "update Seedproof, or name another file."
        )
    if others and not applied:
        raise StoreError(f"{path} is another program's database: name another file.")


def _advice(error: str) -> str:
    if "not a database" in error:
        return "is not a SQLite database: name another file, or move this one away."
    if "malformed" in error or "corrupt" in error:
        return f"is damaged ({error}): restore a copy of it, or start with a new file."
    if "locked" in error or "busy" in error:
        return f"has been kept locked by another process for {PATIENCE:.0f} s: try again later."
    return (
        f"cannot be used ({error}): name a file in a folder that exists, has room, and that you "
        "may write to."
    )
