"""What is inside a distribution fileset: ``.mdc`` documents, dirinfo, dbinfo, archives. No HTTP here."""
