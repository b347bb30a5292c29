"""View ``obscore`` against the text of the standard, and as VOTable in the hands of other programs."""

import io

import pytest
from astropy.io.votable import parse
from astropy.io.votable.ucd import check_ucd
from astropy.units import Unit
from mocpy import MOC
from pyvo.dal.sia2 import SIA2Results
from support.catalog_rows import make_catalog
from support.stilts import stilts_accepts

from pipeline.catalog.catalog import catalog_of
from pipeline.catalog.formats import as_json, as_votable
from pipeline.catalog.obscore import FILTERS
from pipeline.catalog.view_columns import EXPOSURE, OBSCORE
from pipeline.mirror.state.layout import Layout

# ObsCore 1.1, table 4 (order, types, units, constraints) and appendix C (utypes, UCDs), with the UCD of
# obs_publisher_did of its erratum.
STANDARD = """
dataproduct_type | VARCHAR | | ObsDataset.dataProductType | meta.code.class
calib_level | INTEGER not null | | ObsDataset.calibLevel | meta.code;obs.calib
obs_collection | VARCHAR not null | | DataID.collection | meta.id
obs_id | VARCHAR not null | | DataID.observationID | meta.id
obs_publisher_did | VARCHAR not null | | Curation.publisherDID | meta.ref.ivoid
access_url | CLOB | | Access.reference | meta.ref.url
access_format | VARCHAR | | Access.format | meta.code.mime
access_estsize | BIGINT | kbyte | Access.size | phys.size;meta.file
target_name | VARCHAR | | Target.name | meta.id;src
s_ra | DOUBLE | deg | Char.SpatialAxis.Coverage.Location.Coord.Position2D.Value2.C1 | pos.eq.ra
s_dec | DOUBLE | deg | Char.SpatialAxis.Coverage.Location.Coord.Position2D.Value2.C2 | pos.eq.dec
s_fov | DOUBLE | deg | Char.SpatialAxis.Coverage.Bounds.Extent.diameter | phys.angSize;instr.fov
s_region | REGION | | Char.SpatialAxis.Coverage.Support.Area | pos.outline;obs.field
s_resolution | DOUBLE | arcsec | Char.SpatialAxis.Resolution.Refval.value | pos.angResolution
s_xel1 | BIGINT | | Char.SpatialAxis.numBins1 | meta.number
s_xel2 | BIGINT | | Char.SpatialAxis.numBins2 | meta.number
t_min | DOUBLE | d | Char.TimeAxis.Coverage.Bounds.Limits.StartTime | time.start;obs.exposure
t_max | DOUBLE | d | Char.TimeAxis.Coverage.Bounds.Limits.StopTime | time.end;obs.exposure
t_exptime | DOUBLE | s | Char.TimeAxis.Coverage.Support.Extent | time.duration;obs.exposure
t_resolution | DOUBLE | s | Char.TimeAxis.Resolution.Refval.value | time.resolution
t_xel | BIGINT | | Char.TimeAxis.numBins | meta.number
em_min | DOUBLE | m | Char.SpectralAxis.Coverage.Bounds.Limits.LoLimit | em.wl;stat.min
em_max | DOUBLE | m | Char.SpectralAxis.Coverage.Bounds.Limits.HiLimit | em.wl;stat.max
em_res_power | DOUBLE | | Char.SpectralAxis.Resolution.ResolPower.refVal | spect.resolution
em_xel | BIGINT | | Char.SpectralAxis.numBins | meta.number
o_ucd | VARCHAR | | Char.ObservableAxis.ucd | meta.ucd
pol_states | VARCHAR | | Char.PolarizationAxis.stateList | meta.code;phys.polarization
pol_xel | BIGINT | | Char.PolarizationAxis.numBins | meta.number
facility_name | VARCHAR | | Provenance.ObsConfig.Facility.name | meta.id;instr.tel
instrument_name | VARCHAR | | Provenance.ObsConfig.Instrument.name | meta.id;instr
"""
# Appendix C, optional columns that the view has.
OPTIONAL = """
dataproduct_subtype | VARCHAR | | ObsDataset.dataProductSubtype | meta.code.class
obs_title | VARCHAR | | DataID.title | meta.title;obs
s_pixel_scale | DOUBLE | arcsec | Char.SpatialAxis.Sampling.RefVal.SamplingPeriod | phys.angSize;instr.pixel
"""
TYPES = {
    **dict.fromkeys(("VARCHAR", "CLOB", "REGION"), "text"),
    "INTEGER": "integer",
    "BIGINT": "long",
    "DOUBLE": "double",
}
# Further rows for STILTS: a view without rows, another view, NULL in each column.
OTHER_ROWS = (
    "obscore WHERE s_ra > 360",
    "exposure",
    "exposure WHERE ra > 360",
    "product LEFT JOIN image ON 1 = 2",
)
MEDIA_TYPES = {"image/fits", "image/x-fits-gzip"}


def lines(table: str) -> list[tuple]:
    """Return name, type, unit, utype, UCD and "not null" of each line."""
    found = []
    for line in table.strip().splitlines():
        name, kind, unit, utype, ucd = (cell.strip() for cell in line.split("|"))
        found.append((name, TYPES[kind.split()[0]], unit, f"obscore:{utype}", ucd, kind.endswith("not null")))
    return found


@pytest.mark.parametrize(("table", "mandatory"), [(STANDARD, True), (OPTIONAL, False)])
def test_columns_are_those_of_the_standard(table, mandatory):
    columns = [column for column in OBSCORE if column.mandatory == mandatory]
    described = [(each.name, each.type, each.unit, each.utype, each.ucd, each.required) for each in columns]
    assert described == lines(table)


@pytest.mark.parametrize("column", [*OBSCORE, *EXPOSURE], ids=lambda column: column.name)
def test_ucds_and_units_are_words_of_their_vocabularies(column):
    assert check_ucd(column.ucd, check_controlled_vocabulary=True, has_colon=False)
    assert not column.unit or Unit(column.unit, format="vounit").to_string("vounit") == column.unit
    assert column.description


def test_filters_are_those_of_the_paper():
    # Tonry et al. 2012, table 4: the resolution is the effective wavelength by the width.
    resolution = {band: round(middle / (red - blue), 1) for band, (middle, blue, red) in FILTERS.items()}
    assert {band: resolution[band] for band in "grizy"} == {"g": 3.5, "r": 4.4, "i": 5.8, "z": 8.3, "y": 11.6}


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    layout = Layout(tmp_path_factory.mktemp("obscore"))
    make_catalog(layout)
    return layout


@pytest.fixture(scope="module")
def votable(layout: Layout) -> bytes:
    with catalog_of(layout, None) as catalog:
        return "".join(as_votable(*catalog.answer("SELECT * FROM obscore ORDER BY access_url"))).encode()


def test_the_votable_describes_its_columns_as_the_standard_does(votable):
    document = parse(io.BytesIO(votable), verify="exception")
    fields = document.get_first_table().fields
    datatypes = {"text": "unicodeChar", "integer": "long", "long": "long", "double": "double"}
    assert [
        (field.name, field.datatype, str(field.unit or ""), field.utype, field.ucd) for field in fields
    ] == [(column.name, datatypes[column.type], column.unit, column.utype, column.ucd) for column in OBSCORE]
    assert {field.name: field.xtype for field in fields if field.xtype} == {"s_region": "adql:REGION"}


def test_values_are_those_of_the_standards_vocabularies(layout):
    with catalog_of(layout, None) as catalog:
        table = catalog.sql("SELECT * FROM obscore")
    assert set(table["dataproduct_type"]) == {"image"}
    assert set(table["calib_level"]) <= {0, 1, 2, 3, 4}
    assert set(table["access_format"]) <= MEDIA_TYPES
    assert len(set(table["obs_publisher_did"])) == len(table)
    assert all(
        check_ucd(ucd, check_controlled_vocabulary=True, has_colon=False) for ucd in set(table["o_ucd"])
    )
    for row in table:
        region = MOC.from_stcs(row["s_region"], max_depth=12) if row["s_region"] else None
        if region is not None:
            assert region.contains_lonlat(row["s_ra"] * Unit("deg"), row["s_dec"] * Unit("deg"))
            assert region.sky_fraction < 0.001


def test_pyvo_reads_records(votable, layout):
    document = parse(io.BytesIO(votable))
    record = next(each for each in SIA2Results(document) if each.obs_id == "o5000g0001o")
    assert (record.dataproduct_type, record.calib_level, record.obs_collection) == (
        "image",
        3,
        "md-all-rel-200907",
    )
    assert record.access_url == f"file://{layout.root}/data/a%20b/100%25.fits"
    assert (record["s_ra"], record["em_min"]) == (150.0, 550e-9)


@pytest.mark.parametrize(
    "query", ["obscore", *(pytest.param(rows, marks=pytest.mark.long) for rows in OTHER_ROWS)]
)
def test_stilts_accepts_the_votable(query, layout, tmp_path):
    path = tmp_path / "answer.vot"
    with catalog_of(layout, None) as catalog:
        path.write_text("".join(as_votable(*catalog.answer(f"SELECT * FROM {query}"))))
    stilts_accepts(path)


def test_a_name_of_the_standard_for_something_else_is_no_error(layout):
    with catalog_of(layout, None) as catalog:
        columns, rows = catalog.answer("SELECT 'x' AS t_min, NULL AS s_ra, 5 AS obs_id")
        rows = list(rows)
        assert "".join(as_json(columns, rows)) == '[\n{"t_min": "x", "s_ra": null, "obs_id": 5}\n]\n'
        assert "x" in "".join(as_votable(columns, rows))
