"""Client of an Outcry inference server on the same machine, over shared memory: see README.md beside this package."""
from ._library import LibraryError, library_path
from .client import (Answer, ClientError, Client, ModelInfo, Refused, TimedOut, WrongModel, open)

__all__ = ["Answer", "Client", "ClientError", "LibraryError", "ModelInfo", "Refused", "TimedOut", "WrongModel",
           "library_path", "open"]
__version__ = "0.1.0"
