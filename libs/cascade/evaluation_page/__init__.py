"""The page of `cascade evaluate --html`: one file that needs no other, with tables, plots and a map of the catalog."""

from cascade.evaluation_page.catalog_map import CatalogMap, catalog_map
from cascade.evaluation_page.page import render

__all__ = ["CatalogMap", "catalog_map", "render"]
