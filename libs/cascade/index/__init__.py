"""Nearest candidates by inner product: exact or approximate behind one interface."""

from cascade.index.build import IndexChoice, build_index
from cascade.index.exact import ExactIndex
from cascade.index.faiss_index import FaissIndex
from cascade.index.files import load_index
from cascade.index.interface import CandidateIndex
from cascade.index.recall import measure_recall

__all__ = [
    "CandidateIndex",
    "ExactIndex",
    "FaissIndex",
    "IndexChoice",
    "build_index",
    "load_index",
    "measure_recall",
]
