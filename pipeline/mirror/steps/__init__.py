"""Steps of the workflow, and what goes with them.

``download`` and ``extract`` end with their rows of the workflow, ``DOWNLOAD`` and ``EXTRACT``; all rows
together are in ``tasks/steps.py``. ``discover`` brings the listings up to date, ``removal`` deletes what was
withdrawn, ``verify`` compares what is on disk with the markers, ``housekeeping`` is done before and after.
"""
