"""Sample survey release with the names, formats and relations of a real one, and a faulty Data Store.

``release.write_release`` writes a release, and ``python -m pipeline.sample`` does so from a shell. Both need
astropy and numpy, so importing the package alone imports neither.
"""
