<!-- Publishes the images of a mirror by GAVO DaCHS: in ivoa.obscore of its TAP service.
docs/catalog-tables.md, "Publishing obscore", has the commands. -->
<resource schema="ippmirror" resdir="ippmirror">
  <meta name="creationDate">2024-01-01T00:00:00Z</meta>
  <meta name="title">Images of a mirror of the Pan-STARRS IPP Data Store</meta>
  <meta name="description">
    Raw, calibrated, warped, stacked and difference images of the Pan-STARRS1 surveys, as their Image
    Processing Pipeline distributed them to partners, and as this site's mirror holds them.
  </meta>
  <meta name="subject">surveys</meta>
  <meta name="subject">optical-astronomy</meta>
  <meta name="creator">Pan-STARRS1 Science Consortium</meta>
  <meta name="facility">Pan-STARRS1</meta>
  <meta name="instrument">GPC1</meta>
  <meta name="source">2016arXiv161205560C</meta>
  <meta name="contentLevel">Research</meta>
  <meta name="type">Survey</meta>
  <meta name="coverage.waveband">Optical</meta>

  <table id="images" onDisk="True" adql="True">
    <meta name="description">Images of the mirror, as ObsCore 1.1 describes them.</meta>
    <publish sets="ivo_managed,local"/>
    <mixin
      obs_creator_did="NULL"
      target_class="NULL"
      em_ucd="NULL"
      preview="NULL"
      createDIDIndex="True">//obscore#publishObscoreLike</mixin>
    <index columns="obs_id"/>
    <index columns="t_min"/>
    <LOOP listItems="dataproduct_type calib_level obs_collection obs_id obs_publisher_did access_url
        access_format access_estsize target_name s_ra s_dec s_fov s_region s_resolution s_xel1 s_xel2
        t_min t_max t_exptime t_resolution t_xel em_min em_max em_res_power em_xel o_ucd pol_states
        pol_xel facility_name instrument_name dataproduct_subtype obs_title s_pixel_scale">
      <events>
        <column original="//obscore#ObsCore.\item"/>
      </events>
    </LOOP>
  </table>

  <coverage>
    <updater sourceTable="images"/>
  </coverage>

  <data id="import">
    <sources>data/obscore.csv</sources>
    <csvGrammar>
      <rowfilter name="values">
        <code>
          row = {name: value or None for name, value in row.items()}
          if row["s_region"]:
            shape, _, *numbers = row["s_region"].split()
            maker = {"POLYGON": pgsphere.SPoly, "CIRCLE": pgsphere.SCircle}[shape]
            region = maker.fromDALI([float(number) for number in numbers])
            row["s_region"] = region.asPoly()
          yield row
        </code>
      </rowfilter>
    </csvGrammar>
    <make table="images">
      <rowmaker idmaps="*"/>
    </make>
  </data>
</resource>
