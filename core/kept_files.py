"""Whose picture files are, and which of them nothing shows any more."""

import re
from pathlib import Path

from core.records import Records

_FILE = re.compile(r'"path":"\$pictures/([^"/]+)"')
"""How a stored run names a picture file."""
_AUDITED = ("runs", "excluded_runs")


class KeptFiles(Records):
    """A file is a generation's, where its run or its twin's run made it, or an audit's. Equal
    pictures are one file of many."""

    def shows(self, owner: str, name: str) -> bool:
        """Whether a picture file of this name is one of the owner's, a shared one, or one of an
        audit's; nobody is shown none."""
        if not owner:
            return False
        open_to = (
            "select 1 from generation_files join generations on generations.id = generation "
            "where name = ? and (owner = ? or shared) limit 1"
        )
        return bool(self._rows(open_to, [name, owner])) or any(
            self._rows(f"select 1 from {table} where instr(run, ?) limit 1", [name])
            for table in _AUDITED
        )

    def stored_bytes(self, owner: str) -> int:
        """What an owner's picture files take on the disk; equal ones are one file."""
        names = self._rows(
            "select distinct name from generation_files "
            "join generations on generations.id = generation where owner = ?",
            [owner],
        )
        return sum(_size(self.pictures / row["name"]) for row in names)

    def _add_files(self, names: tuple[str, ...], generation: int | None) -> None:
        """Inside a transaction: the files are from now on those of the generation of this row."""
        for name in names:
            self._change("insert into generation_files values (?, ?)", [name, generation])

    def _shown(self, names: set[str]) -> set[str]:
        """Those of these files that a stored run still names."""
        kept = {
            name
            for name in names
            if self._rows("select 1 from generation_files where name = ? limit 1", [name])
        }
        if names <= kept:
            return kept
        # One pass over the audits' runs, however many files are in question.
        for table in _AUDITED:
            for row in self._db.query(f"select run from {table}"):
                kept |= names.intersection(_FILE.findall(row["run"]))
        return kept


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0
