"""Models as streams: which states a graph must carry, and whether its nodes let them be carried.

Importing this package registers the rules of all operators.
"""

from lightrnn.streaming import computing, moving, recurrence
from lightrnn.streaming.rewrite import Streamed, streamed

__all__ = ["Streamed", "computing", "moving", "recurrence", "streamed"]
