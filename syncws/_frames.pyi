# The compiled twin of `pure`: the same names, the same types, the same behaviour.
from .pure import Gatherer as Gatherer
from .pure import decode as decode
from .pure import encode as encode
from .pure import mask as mask
