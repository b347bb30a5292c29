"""Page ``status/index.html``: all that ``ipp-mirror status`` says, charts, and what is missing.

The page is one file, and is made by a process of its own: Matplotlib takes a second to import.
"""
