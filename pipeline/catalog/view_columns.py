"""Columns of the views: names, types, units, UCDs, utypes and descriptions, for VOTables and for TAP_SCHEMA.

Those of ``obscore`` are in the order of Observation Data Model Core Components 1.1 (IVOA Recommendation of
9 May 2017, table 4), with utypes and UCDs of its appendix C and of its erratum on ``obs_publisher_did``; the
optional ones follow.
"""

from dataclasses import dataclass

from pipeline.catalog.columns import Column, ValueKind


@dataclass(frozen=True)
class ViewColumn:
    """Column of a view.

    ``type`` is text, integer (32 bits), long (64 bits) or double. The unit is one of VOUnits, the UCD has
    words of UCD1+. Only mandatory columns of ``obscore`` are ``mandatory``; ``required`` ones are never NULL.
    """

    name: str
    type: str
    unit: str
    ucd: str
    utype: str
    description: str
    mandatory: bool = False
    required: bool = False
    xtype: str = ""


# Name, type, unit, UCD, description.
_MANDATORY = """
dataproduct_type    text    -      meta.code.class             Kind of the data: image
calib_level         integer -      meta.code;obs.calib         1 raw, 2 calibrated, 3 resampled or combined
obs_collection      text    -      meta.id                     Product that the image came in
obs_id              text    -      meta.id                     Exposure; of combined images, their run
obs_publisher_did   text    -      meta.ref.ivoid              Identifier of the image by its publisher
access_url          text    -      meta.ref.url                URL of the file
access_format       text    -      meta.code.mime              Media type of the file
access_estsize      long    kbyte  phys.size;meta.file         Size of the file
target_name         text    -      meta.id;src                 Name of the target or the field
s_ra                double  deg    pos.eq.ra                   Right ascension of the centre (ICRS)
s_dec               double  deg    pos.eq.dec                  Declination of the centre (ICRS)
s_fov               double  deg    phys.angSize;instr.fov      Diameter of the circle that holds the image
s_region            text    -      pos.outline;obs.field       Outline of the image (STC-S, ICRS)
s_resolution        double  arcsec pos.angResolution           Full width at half maximum of stars
s_xel1              long    -      meta.number                 Number of columns of pixels
s_xel2              long    -      meta.number                 Number of rows of pixels
t_min               double  d      time.start;obs.exposure     Start of the exposure, MJD (UTC)
t_max               double  d      time.end;obs.exposure       End of the exposure, MJD (UTC); none of stacks
t_exptime           double  s      time.duration;obs.exposure  Exposure time
t_resolution        double  s      time.resolution             Exposure time, as there is one sample
t_xel               long    -      meta.number                 Number of samples in time: 1
em_min              double  m      em.wl;stat.min              Blue edge of the filter
em_max              double  m      em.wl;stat.max              Red edge of the filter
em_res_power        double  -      spect.resolution            Effective wavelength by width of the filter
em_xel              long    -      meta.number                 Number of samples in wavelength: 1
o_ucd               text    -      meta.ucd                    UCD of the pixel values
pol_states          text    -      meta.code;phys.polarization Polarization states: none
pol_xel             long    -      meta.number                 Number of polarization states: 0
facility_name       text    -      meta.id;instr.tel           Telescope
instrument_name     text    -      meta.id;instr               Camera
"""
_OPTIONAL = """
dataproduct_subtype text    -      meta.code.class             Stage of the pipeline
obs_title           text    -      meta.title;obs              Stage, exposure or run, component and filter
s_pixel_scale       double  arcsec phys.angSize;instr.pixel    Width of a pixel
"""
# Names with utypes, which have the prefix "obscore:".
_UTYPES = """
dataproduct_type    ObsDataset.dataProductType
calib_level         ObsDataset.calibLevel
obs_collection      DataID.collection
obs_id              DataID.observationID
obs_publisher_did   Curation.publisherDID
access_url          Access.reference
access_format       Access.format
access_estsize      Access.size
target_name         Target.name
s_ra                Char.SpatialAxis.Coverage.Location.Coord.Position2D.Value2.C1
s_dec               Char.SpatialAxis.Coverage.Location.Coord.Position2D.Value2.C2
s_fov               Char.SpatialAxis.Coverage.Bounds.Extent.diameter
s_region            Char.SpatialAxis.Coverage.Support.Area
s_resolution        Char.SpatialAxis.Resolution.Refval.value
s_xel1              Char.SpatialAxis.numBins1
s_xel2              Char.SpatialAxis.numBins2
t_min               Char.TimeAxis.Coverage.Bounds.Limits.StartTime
t_max               Char.TimeAxis.Coverage.Bounds.Limits.StopTime
t_exptime           Char.TimeAxis.Coverage.Support.Extent
t_resolution        Char.TimeAxis.Resolution.Refval.value
t_xel               Char.TimeAxis.numBins
em_min              Char.SpectralAxis.Coverage.Bounds.Limits.LoLimit
em_max              Char.SpectralAxis.Coverage.Bounds.Limits.HiLimit
em_res_power        Char.SpectralAxis.Resolution.ResolPower.refVal
em_xel              Char.SpectralAxis.numBins
o_ucd               Char.ObservableAxis.ucd
pol_states          Char.PolarizationAxis.stateList
pol_xel             Char.PolarizationAxis.numBins
facility_name       Provenance.ObsConfig.Facility.name
instrument_name     Provenance.ObsConfig.Instrument.name
dataproduct_subtype ObsDataset.dataProductSubtype
obs_title           DataID.title
s_pixel_scale       Char.SpatialAxis.Sampling.RefVal.SamplingPeriod
"""
_REQUIRED = {"calib_level", "obs_collection", "obs_id", "obs_publisher_did", "exp_name", "source"}

_EXPOSURE = """
exp_name            text    -      meta.id;obs;meta.main       Name of the exposure
source              text    -      meta.code                   Origin of the row: raw_exp, header or listing
exp_id              long    -      meta.id                     Number of the exposure in the pipeline's tables
object              text    -      meta.id;src                 Name of the target or the field
ra                  double  deg    pos.eq.ra;meta.main         Right ascension of the centre (ICRS)
dec                 double  deg    pos.eq.dec;meta.main        Declination of the centre (ICRS)
mjd                 double  d      time.start;obs.exposure     Start of the exposure, MJD (UTC)
filter              text    -      meta.id;instr.filter        Name of the filter
band                text    -      instr.bandpass              Letter of the filter: g, r, i, z, y or w
exptime             double  s      time.duration;obs.exposure  Exposure time
airmass             double  -      obs.airMass                 Airmass
n_raw               long    -      meta.number                 Filesets of the stage raw
n_chip              long    -      meta.number                 Filesets of the stage chip
n_chip_bg           long    -      meta.number                 Filesets of the stage chip_bg
n_camera            long    -      meta.number                 Filesets of the stage camera
n_fake              long    -      meta.number                 Filesets of the stage fake
n_warp              long    -      meta.number                 Filesets of the stage warp
n_warp_bg           long    -      meta.number                 Filesets of the stage warp_bg
n_diff              long    -      meta.number                 Filesets of the stage diff
"""


def _columns(text: str, *, mandatory: bool = False) -> list[ViewColumn]:
    utypes = dict(line.split() for line in _UTYPES.strip().splitlines()) if text is not _EXPOSURE else {}
    columns = []
    for line in text.strip().splitlines():
        name, kind, unit, ucd, description = line.split(None, 4)
        utype = f"obscore:{utypes[name]}" if utypes else ""
        xtype = "adql:REGION" if name == "s_region" else ""
        columns.append(
            ViewColumn(
                name, kind, unit.strip("-"), ucd, utype, description, mandatory, name in _REQUIRED, xtype
            )
        )
    return columns


OBSCORE = (*_columns(_MANDATORY, mandatory=True), *_columns(_OPTIONAL))
EXPOSURE = tuple(_columns(_EXPOSURE))
_KINDS = {
    "text": ValueKind.TEXT,
    "integer": ValueKind.INTEGER,
    "long": ValueKind.INTEGER,
    "double": ValueKind.REAL,
}
_OF_OBSCORE = {
    column.name: Column(
        column.name,
        _KINDS[column.type],
        column.unit,
        column.ucd,
        column.description,
        utype=column.utype,
        xtype=column.xtype,
    )
    for column in OBSCORE
}


def described(name: str) -> Column:
    """Return the column of an answer to SQL: as that of ``obscore`` if it has the name of one.

    Names of the standard are hardly used for anything else.
    """
    return _OF_OBSCORE.get(name) or Column(name, None)
