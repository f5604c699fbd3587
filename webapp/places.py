"""Where things lie by default. Only entry points read this; everything below is told."""

from dataclasses import dataclass
from pathlib import Path

import platformdirs

from core.database import Access

REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, kw_only=True)
class Places:
    """The files and folders one start of the product works with."""

    database: Path
    """Runs, scores and recommendations; pictures and reports lie in folders beside it."""
    access: Access
    """Whether other programs may open the database while the app runs."""
    leases: Path
    """Locks of the devices; the same for every database, because there is one machine."""
    shipped_model: Path
    plans: Path

    @property
    def reports(self) -> Path:
        return self.database.parent / "reports"

    def plan(self, name: str) -> Path:
        """The file of a plan: one of ours by name, or a TOML file by path.

        Raises ValueError that lists what there is.
        """
        file = Path(name)
        if file.suffix == ".toml":
            if is_file(file):
                return file
            raise ValueError(f"There is no plan file {name[:200]!r}.")
        ours = {plan.stem: plan for plan in self.plans.glob("*.toml")}
        if name in ours:
            return ours[name]
        known = ", ".join(sorted(ours))
        raise ValueError(
            f"Unknown plan {name[:200]!r}: choose one of {known}, or give a .toml file."
        )


def is_file(path: Path) -> bool:
    """Also answers where a text is too long to be a name."""
    try:
        return path.is_file()
    except OSError:
        return False


def places(database: Path | None = None, access: Access = "shared") -> Places:
    """The defaults: data in the user's data folder, locks in the user's cache folder."""
    return Places(
        database=database or platformdirs.user_data_path("seedproof") / "seedproof.db",
        access=access,
        leases=platformdirs.user_cache_path("seedproof") / "leases",
        shipped_model=REPOSITORY / "data" / "pocket",
        plans=REPOSITORY / "data" / "plans",
    )
