"""Settings of a mirror: ``mirror.yaml`` as typed, validated values.

settings = read_settings(Path("mirror.yaml"))
settings.mirror.root
"""

from pipeline.config.rates import HourlyRates
from pipeline.config.reading import parse_settings, read_settings
from pipeline.config.sections import Catalog, Mirror, Near, Notify, Product, Select, Settings, Source, Volume
from pipeline.config.values import HIGHEST_PRIORITY, data_store_address, root_folder

__all__ = [
    "HIGHEST_PRIORITY",
    "Catalog",
    "HourlyRates",
    "Mirror",
    "Near",
    "Notify",
    "Product",
    "Select",
    "Settings",
    "Source",
    "Volume",
    "data_store_address",
    "parse_settings",
    "read_settings",
    "root_folder",
]
