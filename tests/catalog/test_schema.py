"""Creation of the tables, also after one that was killed."""

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from pipeline.catalog.database import Database, sqlite_url
from pipeline.catalog.opening import create_file, current_database
from pipeline.catalog.reconcile import reconcile
from pipeline.catalog.schema import HEAD, create_schema, revision_of, upgrade
from pipeline.catalog.tables import fileset, metadata, product
from pipeline.catalog.writer import writer_of
from pipeline.config import Catalog, Settings
from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.markers import Fileset


@pytest.mark.parametrize("killed_after", ["the file", "some tables", "our own tables", "all"])
def test_a_creation_that_was_killed_is_completed(killed_after, tmp_path: Path):
    layout = Layout(tmp_path / "mirror")
    (layout.root / "state").mkdir(parents=True)
    file = tmp_path / "000001.sqlite"
    settings = Settings(
        source={"url": "http://127.0.0.1:1/ds"},
        mirror={"root": str(layout.root)},
        catalog=Catalog(enabled=True, url=f"sqlite:///{file}"),
    )
    file.touch()
    if killed_after == "all":
        file.unlink()
        create_file(layout, file).close()
    elif killed_after == "some tables":
        # MariaDB ends a transaction with each of them.
        database = current_database(settings, layout)
        database.transact(lambda connection: metadata.create_all(connection, tables=[product, fileset]))
        database.close()
    elif killed_after == "our own tables":
        database = current_database(settings, layout)
        upgrade(database)
        database.close()
    reconcile(settings, layout)
    writer = writer_of(settings, layout)
    writer.delete(Fileset("P", "F", ""))
    assert (len(writer.id), writer.generation) == (36, 1)
    assert writer.database.setting("root") == str(layout.root)
    writer.database.close()


@pytest.mark.parametrize("make", [upgrade, lambda database: create_schema(database, {"id": "1"})])
def test_the_revisions_make_the_tables_that_the_program_uses(make, tmp_path: Path):
    file = tmp_path / "catalog.sqlite"
    file.touch()
    database = Database(sqlite_url(file))
    make(database)

    def differences(connection) -> list:
        context = MigrationContext.configure(connection, opts={"include_object": is_ours})
        assert context.get_current_revision() == revision_of(connection) == HEAD
        return compare_metadata(context, metadata)

    def is_ours(_object, name, kind, _reflected, _compared) -> bool:
        return kind != "table" or name in metadata.tables

    assert database.transact(differences) == []
    # Nothing is left for Alembic to do.
    upgrade(database)
    database.close()
