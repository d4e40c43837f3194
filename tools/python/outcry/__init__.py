"""Client of an Outcry inference server on the same machine, over shared memory: see README.md beside this package."""
from ._library import LibraryError, library_path
from .client import (Answer, ClientError, Client, ModelInfo, Refused, TimedOut, WrongModel, open)
from .events import BAR, EVENT, EXTERNAL, PRICE, QUOTE, Flag, Instrument, Kind, Side, bars
from .ticks import History, Stream, TickAnswer

__all__ = ["Answer", "BAR", "Client", "ClientError", "EVENT", "EXTERNAL", "Flag", "History", "Instrument", "Kind",
           "LibraryError", "ModelInfo", "PRICE", "QUOTE", "Refused", "Side", "Stream", "TickAnswer", "TimedOut",
           "WrongModel", "bars", "library_path", "open"]
__version__ = "0.1.0"
