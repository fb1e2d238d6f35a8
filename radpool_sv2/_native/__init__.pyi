"""Holds the native parts of radpool-sv2: what runs per share, per connection or per secret.

Only batches cross this border; nothing here is called once per share.
"""

from . import engine as engine
from . import event as event
from . import keys as keys
from . import ledger as ledger
from . import miner as miner
from . import template as template
from . import threshold as threshold
from . import translator as translator
from . import wire as wire

__version__: str
